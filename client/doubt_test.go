package client

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyholed/keyhole/protocol/api"
)

// fragile is a way to a device that can fall silent: connections stay open, and
// nothing passes them any more.
type fragile struct {
	net.Listener
	silent atomic.Bool
	over   chan struct{}
	work   sync.WaitGroup
}

func newFragile(t *testing.T, to string) *fragile {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fragile{Listener: l, over: make(chan struct{})}
	t.Cleanup(func() {
		close(f.over)
		l.Close()
		f.work.Wait()
	})
	f.work.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			f.work.Go(func() { f.pass(near, far) })
			f.work.Go(func() { f.pass(far, near) })
		}
	})
	return f
}

func (f *fragile) pass(from, to net.Conn) {
	defer to.Close()
	f.work.Go(func() {
		<-f.over
		from.Close()
	})
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if f.silent.Load() {
			<-f.over
			return
		}
		if err == nil {
			_, err = to.Write(b[:n])
		}
		if err != nil {
			return
		}
	}
}

// A session that has fallen silent is replaced when something new is wanted, long
// before TCP would notice.
func TestLineReplacesASilentSession(t *testing.T) {
	d := newTestDevice(t, service(t, "store", "tcp", serveTCP(t, digest)))
	h := d.paired()
	way := newFragile(t, d.address)
	conn, err := h.Dial(t.Context(), way.Addr().String(), near)
	if err != nil {
		t.Fatal(err)
	}
	changes := make(chan error, 4)
	line := KeepUp(conn, near, func(err error) { changes <- err })
	line.device.Addresses = []string{d.address} // the next session goes another way
	over := make(chan error, 1)
	go func() { over <- line.Run(t.Context()) }()
	f := forward(t, line, api.Service{Name: "store", Type: "tcp"}, ForwardOptions{})
	through(t, "tcp", f.Address())

	way.silent.Store(true)
	through(t, "tcp", f.Address())
	if err := <-changes; !errors.Is(err, errSilent) {
		t.Errorf("replaced because of %v", err)
	}
	if err := <-changes; err != nil {
		t.Errorf("back, but: %v", err)
	}
	<-conn.Done() // cut, since it never answered
	line.Close()
}

// Doubt does no harm to a session that answers.
func TestDoubtSparesASessionThatAnswers(t *testing.T) {
	d := newTestDevice(t, service(t, "store", "tcp", serveTCP(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })))
	conn, err := d.paired().Dial(t.Context(), "front", near)
	if err != nil {
		t.Fatal(err)
	}
	line := KeepUp(conn, near, func(err error) { t.Errorf("changed: %v", err) })
	if next := line.doubt(t.Context(), conn); next != nil {
		t.Error("replaced")
		next.Close()
	}
	if err := conn.Err(); err != nil {
		t.Errorf("the session has ended: %v", err)
	}
	line.Close()
}
