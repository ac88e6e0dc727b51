package admin

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
	"time"

	"github.com/keyholed/keyhole/protocol/api"
)

// SocketFile is the Unix socket in the data directory, for the owner of that
// directory alone.
const SocketFile = "admin.sock"

const (
	// maxSocketPath is sun_path without its final zero byte (unix(7)).
	maxSocketPath = 107
	// probeTimeout bounds the question whether a basestation lives at a socket
	// that is already there.
	probeTimeout   = 2 * time.Second
	localTimeout   = 90 * time.Second
	maxLocalAnswer = 128 << 20 // a page of 100,000 devices is 50 MB
)

// ErrInUse means that another basestation serves this data directory.
var ErrInUse = errors.New("another keyhole-basestation serves this data directory")

// ListenLocal makes the socket in the data directory, which must be its owner's
// alone: between bind and chmod the directory keeps others out. A socket that a
// dead process left behind is replaced.
func ListenLocal(dir string) (net.Listener, error) {
	path := filepath.Join(dir, SocketFile)
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("%s: the path has %d bytes, and a Unix socket takes at most %d: choose a shorter data directory", path, len(path), maxSocketPath)
	}
	if conn, err := net.DialTimeout("unix", path, probeTimeout); err == nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, ErrInUse), conn.Close())
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket == 0 {
		return nil, fmt.Errorf("%s is no socket: it is in the way", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// A Client asks a running basestation over its socket.
type Client struct {
	path string
	http *http.Client
}

// NewClient returns a client of the basestation that serves a data directory. It
// opens no connection yet.
func NewClient(dir string) *Client {
	path := filepath.Join(dir, SocketFile)
	return &Client{path: path, http: &http.Client{Timeout: localTimeout, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true,
	}}}
}

// A NotRunningError says that nobody answers for a data directory.
type NotRunningError struct {
	Socket string
	Err    error
}

func (e *NotRunningError) Error() string {
	if errors.Is(e.Err, fs.ErrPermission) {
		return fmt.Sprintf("%s is closed to this user\nTry the same command with sudo, or as the user that runs the basestation", e.Socket)
	}
	return fmt.Sprintf("no keyhole-basestation is running at %s\nTry: keyhole-basestation serve, or --data DIR for another one", e.Socket)
}

func (e *NotRunningError) Unwrap() error { return e.Err }

// Do asks for one operation. in and out may be nil. Errors are *NotRunningError,
// *api.Problem, or of the connection.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://basestation"+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := c.http.Do(r)
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return &NotRunningError{c.path, dial.Err}
	}
	if err != nil {
		return fmt.Errorf("ask the basestation: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return api.ReadProblem(answer.StatusCode, answer.Header.Get("Content-Type"), answer.Body)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxLocalAnswer)).Decode(out); err != nil {
		return fmt.Errorf("understand the answer of the basestation: %w", err)
	}
	return nil
}
