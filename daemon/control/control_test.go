package control

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/protocol/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server with handler on a socket of its own.
func serve(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyholed.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- (&Server{Handler: handler}).Serve(ctx, l) }()
	client := NewClient(path)
	t.Cleanup(func() {
		client.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is still there after Serve: %v", err)
		}
	})
	return client
}

func TestExchangeAndPeer(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		p, ok := PeerFrom(r.Context())
		if !ok || int(p.UID) != os.Getuid() || int(p.GID) != os.Getgid() || int(p.PID) != os.Getpid() {
			t.Errorf("peer = %+v, %v", p, ok)
		}
		var in Press
		if err := api.DecodeRequest(w, r, &in); err != nil {
			t.Error(err)
		}
		if err := json.NewEncoder(w).Encode(Pressed{Did: in.Button}); err != nil {
			t.Error(err)
		}
	})
	var out Pressed
	if err := c.Post(t.Context(), PressRoute, Press{Button: "pair"}, &out); err != nil || out.Did != "pair" {
		t.Errorf("got %+v, %v", out, err)
	}
}

func TestProblemsComeBackWithTheirExitCode(t *testing.T) {
	for code, exit := range map[api.Code]int{
		api.CodeMalformed: ExitUsage, api.CodeForbidden: ExitRefused, api.CodeNotFound: ExitNotFound,
		api.CodeConflict: ExitFailed, api.CodeInternal: ExitFailed,
	} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			api.WriteProblem(w, api.Problemf(code, "because"))
		})
		err := c.Get(t.Context(), StatusRoute, nil)
		if !api.IsCode(err, code) || err.Error() != "because" || ExitCode(err) != exit {
			t.Errorf("%s: got %v, exit %d, want exit %d", code, err, ExitCode(err), exit)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyholed.sock")
	for _, prepare := range []func(){
		func() {},
		func() { leaveStale(t, path) },
	} {
		prepare()
		_, err := NewClient(path).Status(t.Context())
		var gone *NotRunningError
		if !errors.As(err, &gone) || ExitCode(err) != ExitNotReachable || !strings.Contains(err.Error(), "--socket") {
			t.Errorf("got %v", err)
		}
	}
}

// leaveStale makes a socket that nobody listens on, as after kill -9.
func leaveStale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	leaveStale(t, path)
	l, err := Listen(path)
	if err != nil {
		t.Fatalf("with a stale socket: %v", err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v, want 0660", info.Mode(), err)
	}
	if _, err := Listen(path); !errors.Is(err, ErrInUse) {
		t.Errorf("second Listen: %v, want ErrInUse", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if l, err = Listen(path); err != nil {
		t.Fatalf("after Close: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	held := filepath.Join(dir, "held") // served by somebody who took no lock, as systemd does
	l, err := net.Listen("unix", held)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for path, want := range map[string]string{
		file:                                  "something else than a socket",
		held:                                  ErrInUse.Error(),
		filepath.Join(dir, "no", "s"):         "does not exist",
		"/" + strings.Repeat("x", 107) + "/s": "at most 107",
	} {
		if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Listen(%s) = %v, want %q in it", path, err, want)
		}
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "precious" {
		t.Errorf("the file is now %q, %v", data, err)
	}
}

func TestMay(t *testing.T) {
	const own, group = 990, 991
	for _, c := range []struct {
		peer     Peer
		hasGroup bool
		want     bool
	}{
		{Peer{UID: 0}, false, true},
		{Peer{UID: own, GID: 1}, false, true},
		{Peer{UID: 1000, GID: 1000}, true, false},
		{Peer{UID: 1000, GID: group}, true, true},
		{Peer{UID: 1000, GID: 1000, Groups: []uint32{4, group}}, true, true},
		{Peer{UID: 1000, GID: group}, false, false},
	} {
		if got := c.peer.may(own, group, c.hasGroup); got != c.want {
			t.Errorf("%+v, group known %v: got %v, want %v", c.peer, c.hasGroup, got, c.want)
		}
	}
}
