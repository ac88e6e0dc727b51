package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/keyholed/keyhole/protocol/api"
)

// maxAnswerBytes bounds what a client reads of one answer: a page of the audit
// log is the largest.
const maxAnswerBytes = 16 << 20

// dialTimeout is short because a Unix socket either answers at once or its
// daemon is frozen.
const dialTimeout = 5 * time.Second

// A Client asks a running daemon. It may be used by several goroutines.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client of the daemon behind the Unix socket at path. It
// opens no connection yet; whether a daemon is there shows at the first request.
func NewClient(path string) *Client {
	dialer := net.Dialer{Timeout: dialTimeout}
	return &Client{socket: path, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
		Proxy:              nil, // a proxy from the environment is for the network
		DisableCompression: true,
		MaxIdleConns:       2,
	}}}
}

// Close gives up idle connections. The client may be used again.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Get asks for route and decodes the answer into out, which may be nil. Errors
// are *NotRunningError, *PermissionError, *api.Problem, or of the connection.
func (c *Client) Get(ctx context.Context, route string, out any) error {
	return c.exchange(ctx, http.MethodGet, route, nil, out)
}

// Post sends in as JSON and decodes the answer into out; both may be nil. Its
// errors are those of Get.
func (c *Client) Post(ctx context.Context, route string, in, out any) error {
	return c.exchange(ctx, http.MethodPost, route, in, out)
}

// GetBytes asks for route and returns the answer as it is, such as a picture.
// Its errors are those of Get.
func (c *Client) GetBytes(ctx context.Context, route string) ([]byte, error) {
	return c.fetch(ctx, http.MethodGet, route, nil)
}

// Status asks how the daemon is.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	var s Status
	if err := c.Get(ctx, StatusRoute, &s); err != nil {
		return nil, err
	}
	return &s, nil
}

func (c *Client) exchange(ctx context.Context, method, route string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	answer, err := c.fetch(ctx, method, route, body)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("understand the answer of keyholed to %s %s: %w", method, route, err)
	}
	return nil
}

func (c *Client) fetch(ctx context.Context, method, route string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://keyholed"+route, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.explain(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		return nil, api.ReadProblem(response.StatusCode, response.Header.Get("Content-Type"), response.Body)
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer of keyholed to %s %s: %w", method, route, err)
	}
	if len(answer) > maxAnswerBytes {
		return nil, fmt.Errorf("the answer of keyholed to %s %s is larger than %d MiB", method, route, maxAnswerBytes>>20)
	}
	return answer, nil
}

// A NotRunningError says that nobody answers at the socket.
type NotRunningError struct {
	Socket string
	Err    error
}

func (e *NotRunningError) Error() string {
	return fmt.Sprintf("keyholed is not running at %s (start it with: systemctl start keyholed, or name another socket with --socket FILE)", e.Socket)
}

func (e *NotRunningError) Unwrap() error { return e.Err }

// A PermissionError says that the socket is there, and closed to this user.
type PermissionError struct {
	Socket  string
	Command string // the same command with sudo
	Err     error
}

func (e *PermissionError) Error() string {
	return fmt.Sprintf("no permission for %s: only root and members of the group keyhole command keyholed (try: %s)", e.Socket, e.Command)
}

func (e *PermissionError) Unwrap() error { return e.Err }

func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTSOCK):
		return &NotRunningError{Socket: c.socket, Err: err}
	case errors.Is(err, fs.ErrPermission):
		return &PermissionError{Socket: c.socket, Command: withSudo(os.Args), Err: err}
	}
	return fmt.Errorf("ask keyholed at %s: %w", c.socket, err)
}

// withSudo is what to type next. Arguments with spaces are quoted, so that it
// works when pasted.
func withSudo(args []string) string {
	words := []string{"sudo", filepath.Base(args[0])}
	for _, a := range args[1:] {
		if strings.ContainsAny(a, " \t\"'$\\*?;&|<>()") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// Exit codes that commands end with.
const (
	ExitDone         = 0
	ExitFailed       = 1
	ExitUsage        = 2
	ExitRefused      = 3
	ExitNotReachable = 4
	ExitNotFound     = 5
)

// ExitCode returns the exit code that an error of Client means.
func ExitCode(err error) int {
	var gone *NotRunningError
	var denied *PermissionError
	var problem *api.Problem
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &gone):
		return ExitNotReachable
	case errors.As(err, &denied):
		return ExitRefused
	case errors.As(err, &problem):
		switch problem.Status {
		case http.StatusBadRequest:
			return ExitUsage
		case http.StatusForbidden, http.StatusUnauthorized:
			return ExitRefused
		case http.StatusNotFound:
			return ExitNotFound
		}
	case errors.Is(err, context.DeadlineExceeded):
		return ExitNotReachable
	}
	return ExitFailed
}
