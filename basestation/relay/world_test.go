package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/protocol/attach"
)

// A world is a Relay with a listener in front of it, as the basestation has.
type world struct {
	*Relay
	t       *testing.T
	address string

	told chan Use
}

// newWorld runs a Relay until the test ends, and then looks for leaks.
func newWorld(t *testing.T, c Config, patient ...func(*times)) *world {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	w := &world{t: t, told: make(chan Use, 1024)}
	c.Report = func(u Use) { w.told <- u }
	w.Relay = New(c)
	for _, change := range patient {
		change(&w.times)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = l.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { w.Serve(conn.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.Close()
		serving.Wait()
		if c := w.Counters(); c.Tunnels+c.Pairs+c.Unjoined != 0 || len(w.tickets)+len(w.perOwner)+len(w.sources)+w.silent.Len() != 0 {
			t.Errorf("left after Close: %+v", c)
		}
		goleak.VerifyNone(t, leaks)
	})
	return w
}

var camera = Who{Device: "camera", Vendor: "acme"}

func (w *world) pair(who Who) (client, device attach.Ticket) {
	w.t.Helper()
	c, d, err := w.Pair(who, time.Minute, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return c, d
}

// preface is what is sent after the first byte.
func preface(t attach.Ticket) []byte { return attach.AppendRelayPreface(nil, t)[1:] }

// dial opens a leg and sends what a ticket's bearer sends after the first byte.
func (w *world) dial(t attach.Ticket) *net.TCPConn {
	w.t.Helper()
	return w.send(preface(t))
}

func (w *world) send(preface []byte) *net.TCPConn {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second)) // ends a hanging test, no measure
	if _, err := conn.Write(preface); err != nil {
		w.t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// joined returns the two ends of a tunnel that has carried a byte each way.
func (w *world) joined(who Who) (client, device *net.TCPConn) {
	w.t.Helper()
	ct, dt := w.pair(who)
	client, device = w.dial(ct), w.dial(dt)
	w.carries(client, device)
	return client, device
}

func (w *world) carries(a, b *net.TCPConn) {
	w.t.Helper()
	for _, ends := range [][2]*net.TCPConn{{a, b}, {b, a}} {
		if err := passes(ends[0], ends[1], "hello"); err != nil {
			w.t.Fatal(err)
		}
	}
}

func passes(from io.Writer, to io.Reader, text string) error {
	if _, err := io.WriteString(from, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(to, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("got %q, want %q", got, text)
	}
	return nil
}

// isClosed fails the test unless the other end has been closed without a byte.
func (w *world) isClosed(what string, conn net.Conn) {
	w.t.Helper()
	n, err := conn.Read(make([]byte, 1))
	var late net.Error
	if n != 0 || err == nil || errors.As(err, &late) && late.Timeout() {
		w.t.Errorf("%s: read %d, %v; want it closed", what, n, err)
	}
}

func (w *world) use() Use {
	w.t.Helper()
	select {
	case u := <-w.told:
		return u
	case <-time.After(20 * time.Second):
		w.t.Fatal("no report")
		return Use{}
	}
}

// eventually waits for a condition of the Relay.
func (w *world) eventually(what string, is func(Counters) bool) {
	w.t.Helper()
	ctx, stop := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is(w.Counters()) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("%s: %+v", what, w.Counters())
		}
	}
}

// waits waits until so many first legs wait for their second.
func (w *world) waits(n int) {
	w.t.Helper()
	w.eventually("first legs wait", func(Counters) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		got := 0
		for _, p := range w.pairs {
			if p.waiting != nil {
				got++
			}
		}
		return got == n
	})
}
