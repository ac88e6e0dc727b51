package client

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/session"
)

// farLine keeps up a session with a device that is beyond the LAN.
func (f *farSide) farLine(o DialOptions) *Line {
	f.t.Helper()
	o.Find, o.Tunnels = -1, true
	conn, err := f.away().Dial(f.t.Context(), "front", o)
	if err != nil {
		f.t.Fatal(err)
	}
	line := KeepUp(conn, o, func(err error) {
		if err != nil {
			f.t.Errorf("lost: %v", err)
		}
	})
	line.improveFirst = 50 * time.Millisecond
	return line
}

// run runs a Line for one test.
func (l *Line) run(t *testing.T) {
	over := make(chan error, 1)
	go func() { over <- l.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
}

// until waits for the path of new streams.
func (l *Line) until(t *testing.T, want func(*Conn) bool) {
	t.Helper()
	testnet.Until(t, "another path for new streams", func() bool {
		conn, _, _ := l.current()
		return conn != nil && want(conn)
	})
}

func echoes(c *net.TCPConn) { _, _ = io.Copy(c, c) }

func say(t *testing.T, s session.Stream, text string) {
	t.Helper()
	if _, err := s.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(s, got); err != nil || string(got) != text {
		t.Fatalf("%q, %v", got, err)
	}
}

// A relayed line moves to a direct path when there is one: new streams go there, open
// ones stay, and the relay is let go when the last of them has ended.
func TestLineMovesToABetterPath(t *testing.T) {
	t.Parallel()
	base := newTestBase(t)
	d := newTestDevice(t, service(t, "echo", "tcp", serveTCP(t, echoes)))
	d.slow = session.ViaRelay
	f := d.attachTo(base, closedWays{udp: true, tcp: true})
	line := f.farLine(DialOptions{})
	relayed, _, _ := line.current()
	if relayed.Via() != session.ViaRelay {
		t.Fatalf("by %s", relayed.Via())
	}
	line.run(t)
	old, err := line.Connect(t.Context(), "echo", "http")
	if err != nil {
		t.Fatal(err)
	}
	say(t, old, "by relay")
	f.change(closedWays{tcp: true})
	line.until(t, func(c *Conn) bool { return c.Via() == session.ViaPunched && c.Path() == session.PathQUIC })
	fresh, err := line.Connect(t.Context(), "echo", "http")
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	say(t, fresh, "directly")
	say(t, old, "still by relay")
	if err := relayed.Err(); err != nil {
		t.Errorf("the relayed session has ended under a tunnel: %v", err)
	}
	_ = old.Close()
}

// Of two direct paths of one introduction TCP is kept, though QUIC stands first.
func TestLinePrefersTCPOfTwoDirectPaths(t *testing.T) {
	t.Parallel()
	f := newTestDevice(t).attachTo(newTestBase(t), closedWays{})
	line := f.farLine(DialOptions{})
	line.run(t)
	line.until(t, func(c *Conn) bool { return c.Via() == session.ViaPunched && c.Path() == session.PathTCP })
}

// What counts is what a path delivers, not its name.
func TestLineStaysWhereMoreIsDelivered(t *testing.T) {
	for name, c := range map[string]struct {
		slow session.Via
		want bool
	}{"a bad direct path": {session.ViaPunched, false}, "a bad relay": {session.ViaRelay, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newTestDevice(t)
			d.slow = c.slow
			f := d.attachTo(newTestBase(t), closedWays{})
			h := f.away()
			relayed := f.dialFar(h, DialOptions{RelayOnly: true})
			direct := f.dialFar(h, DialOptions{directOnly: true, Paths: []session.Path{session.PathQUIC}})
			if got := better(t.Context(), relayed, direct); got != c.want {
				t.Errorf("from relay to direct: %v, want %v", got, c.want)
			}
			if got := better(t.Context(), direct, relayed); got == c.want {
				t.Errorf("from direct to relay: %v, want %v", got, !c.want)
			}
		})
	}
}

func TestWeighing(t *testing.T) {
	const ms, mb = time.Millisecond, 1e6
	for _, c := range []struct {
		what          string
		direct, relay delivery
		want          bool
	}{
		{"alike", delivery{20 * ms, 20 * mb}, delivery{30 * ms, 20 * mb}, true},
		{"a clean path that is short", delivery{5 * ms, 10 * mb}, delivery{80 * ms, 10 * mb}, true},
		{"fast enough", delivery{20 * ms, 5 * mb}, delivery{20 * ms, 25 * mb}, true},
		{"1 % loss at 50 ms, relay with BBR", delivery{50 * ms, 0.42 * mb}, delivery{60 * ms, 21.6 * mb}, false},
		{"nothing comes directly", delivery{50 * ms, 0}, delivery{300 * ms, 0.1 * mb}, false},
		{"nothing comes by relay", delivery{50 * ms, 0.1 * mb}, delivery{300 * ms, 0}, true},
	} {
		if got := prefersDirect(c.direct, c.relay); got != c.want {
			t.Errorf("%s: %v or %v: %v, want %v", c.what, c.direct, c.relay, got, c.want)
		}
	}
}

// A direct path that loses packets is left for a relay that carries more.
func TestLineLeavesALossyPath(t *testing.T) {
	t.Parallel()
	d := newTestDevice(t)
	d.slow = session.ViaPunched
	f := d.attachTo(newTestBase(t), closedWays{tcp: true, relay: true})
	line := f.farLine(DialOptions{})
	if conn, _, _ := line.current(); conn.Via() != session.ViaPunched {
		t.Fatalf("by %s", conn.Via())
	}
	f.change(closedWays{tcp: true})
	line.run(t)
	line.until(t, func(c *Conn) bool { return c.Via() == session.ViaRelay })
}

// A path on which nothing comes back any more is one to be compared with the relay.
func TestWhatCannotBeMeasuredIsLossy(t *testing.T) {
	f := newTestDevice(t).attachTo(newTestBase(t), closedWays{tcp: true, relay: true})
	conn := f.dialFar(f.away(), DialOptions{})
	if conn.lossy(t.Context()) {
		t.Error("a good path is lossy")
	}
	conn.Close()
	if !conn.lossy(t.Context()) {
		t.Error("a dead path is not lossy")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if conn.lossy(over) {
		t.Error("nobody wants to know any more")
	}
}
