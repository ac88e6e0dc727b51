package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/keyholed/keyhole/protocol/api"
)

// serveTCP runs a service for one test.
func serveTCP(t *testing.T, serve func(*net.TCPConn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// digest reads to the end and only then answers with the hash, which needs
// half-close all the way.
func digest(c *net.TCPConn) {
	h := sha256.New()
	_, _ = io.Copy(h, c)
	_, _ = c.Write(h.Sum(nil))
}

// forward runs a Forward for one test.
func forward(t *testing.T, via Opener, s api.Service, o ForwardOptions) *Forward {
	t.Helper()
	f, err := NewForward(via, s, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
	return f
}

var noise = func() []byte {
	b := make([]byte, 8<<20)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}()

// through sends noise over a connection, half-closes and wants its hash.
func through(t *testing.T, network, address string) {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(noise); err != nil {
		t.Fatal(err)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if want := sha256.Sum256(noise); err != nil || !bytes.Equal(got, want[:]) {
		t.Fatalf("%d bytes came back, %v", len(got), err)
	}
}

func TestForwardTCP(t *testing.T) {
	d := newTestDevice(t, service(t, "store", "tcp", serveTCP(t, digest)))
	conn := d.dial(d.paired())
	s := api.Service{Name: "store", Type: "tcp"}
	f := forward(t, conn, s, ForwardOptions{})
	through(t, "tcp", f.Address())
	if f.URL() != "tcp://"+f.Address() {
		t.Error(f.URL())
	}
	if _, err := NewForward(conn, s, ForwardOptions{Port: f.Port()}); err == nil {
		t.Error("a port that is taken was opened")
	}
	host, _, err := net.SplitHostPort(f.Address())
	if err != nil || host != "127.0.0.1" {
		t.Errorf("bound to %s, %v", f.Address(), err)
	}
}

func TestForwardPrefersItsUsualPort(t *testing.T) {
	usual := 22234 // other programs may have its local port: then the next
	first, err := listenLoopback(0, usual)
	for ; err == nil && first.Addr().(*net.TCPAddr).Port != usual+10000 && usual < 22250; usual++ {
		_ = first.Close()
		first, err = listenLoopback(0, usual+1)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if got := first.Addr().(*net.TCPAddr).Port; got != usual+10000 {
		t.Fatalf("port %d was given for %d", got, usual)
	}
	second, err := listenLoopback(0, usual)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if second.Addr().String() == first.Addr().String() {
		t.Error("two listeners on one port")
	}
}

// A browser answers ERR_UNSAFE_PORT for 10080, whatever listens there.
func TestForwardPortOpensInABrowser(t *testing.T) {
	for usual, want := range map[int]int{80: 10081, 443: 10443, 554: 10554, 22: 10022, 0: 0, -1: 0, 55535: 65535, 55536: 0} {
		if got := fittingPort(usual); got != want {
			t.Errorf("fittingPort(%d) = %d, want %d", usual, got, want)
		}
	}
}

func TestForwardUnix(t *testing.T) {
	d := newTestDevice(t, service(t, "store", "tcp", serveTCP(t, digest)))
	conn := d.dial(d.paired())
	s := api.Service{Name: "store", Type: "tcp"}
	path := filepath.Join(t.TempDir(), "store.sock")

	// One that was left behind by a program that was killed.
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	_ = old.Close()

	f, err := NewForward(conn, s, ForwardOptions{Unix: path})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- f.Run(ctx) }()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	through(t, "unix", path)
	if _, err := NewForward(conn, s, ForwardOptions{Unix: path}); err == nil {
		t.Error("a socket in use was replaced")
	}
	cancel()
	if err := <-over; err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewForward(conn, s, ForwardOptions{Unix: file}); err == nil {
		t.Error("a file was taken for an old socket")
	}
}

func TestForwardToADeadService(t *testing.T) {
	d := newTestDevice(t, service(t, "dead", "tcp", closedPort(t)))
	conn := d.dial(d.paired())
	why := make(chan error, 1)
	f := forward(t, conn, api.Service{Name: "dead", Type: "tcp"}, ForwardOptions{Failed: func(err error) { why <- err }})
	c, err := net.Dial("tcp", f.Address())
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	// The reset may come before Dial has looked at its new connection.
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the local program sees %v; want a reset", err)
	}
	if err := <-why; !api.IsCode(err, api.CodeServiceDown) {
		t.Error(err)
	}
}

func TestLineComesBack(t *testing.T) {
	d := newTestDevice(t, service(t, "store", "tcp", serveTCP(t, digest)))
	h := d.paired()
	conn, err := h.Dial(t.Context(), "front", near)
	if err != nil {
		t.Fatal(err)
	}
	changes := make(chan error, 4)
	line := KeepUp(conn, near, func(err error) { changes <- err })
	over := make(chan error, 1)
	go func() { over <- line.Run(t.Context()) }()
	f := forward(t, line, api.Service{Name: "store", Type: "tcp"}, ForwardOptions{})
	through(t, "tcp", f.Address())
	d.restart()
	if err := <-changes; err == nil {
		t.Error("lost, and no reason")
	}
	through(t, "tcp", f.Address()) // waits for the line
	if err := <-changes; err != nil {
		t.Errorf("back, but: %v", err)
	}
	// Revoked while the line was down: that is final.
	d.let(h.Key().Fingerprint(), "")
	d.restart()
	if err := <-over; !api.IsCode(err, api.CodeForbidden) {
		t.Errorf("revoked: %v", err)
	}
	if _, err := line.Connect(t.Context(), "store", "tcp"); !api.IsCode(err, api.CodeForbidden) {
		t.Errorf("connect after that: %v", err)
	}
}

func TestLineEndsWithItsContext(t *testing.T) {
	d := newTestDevice(t)
	conn, err := d.paired().Dial(t.Context(), "front", near)
	if err != nil {
		t.Fatal(err)
	}
	line := KeepUp(conn, near, nil)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- line.Run(ctx) }()
	cancel()
	if err := <-over; err != nil {
		t.Error(err)
	}
	<-conn.Done()
	if _, err := line.Connect(t.Context(), "x", ""); err == nil {
		t.Error("a tunnel over a line that has ended")
	}
}
