package reach

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
)

// A virtualNode is a node in virtual time: packets take delay each way, datagrams may be
// blocked or lost, and TCP is a pipe that takes a round trip to open.
//
//	link -- WriteTo --> delay --> attach.Node -- delay --> Deliver
//	     -- dial -----> net.Pipe ------'
type virtualNode struct {
	t      testing.TB
	at     netip.AddrPort
	delay  time.Duration
	loss   float64
	random *rand.Rand
	keys   nodeKeys

	mu      sync.Mutex
	node    *attach.Node
	began   time.Time
	blocked bool // datagrams
	asked   int  // LOCATEs by datagram
	dials   int
	link    *Link
	streams map[netip.AddrPort]chan []byte
	running sync.WaitGroup
}

func newVirtualNode(t testing.TB) *virtualNode {
	v := &virtualNode{
		t: t, at: netip.MustParseAddrPort("192.0.2.1:7443"), delay: 10 * time.Millisecond, keys: newNodeKeys(t),
		random: rand.New(rand.NewPCG(1, 2)), began: time.Now(), streams: map[netip.AddrPort]chan []byte{},
	}
	var err error
	v.node, err = attach.NewNode(attach.NodeConfig{
		PrivateKey: v.keys.private, Certificate: v.keys.certificate(t, v.at), ResetKey: attach.Secret{9},
		Send: v.send,
		Ask: func(now time.Duration, r *attach.Request) {
			if err := v.node.Answer(now, r.Index, attach.CodeAccepted); err != nil {
				t.Error(err)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *virtualNode) now() time.Duration { return time.Since(v.began) }

// lostLocked decides about one datagram.
func (v *virtualNode) lostLocked() bool { return v.blocked || v.random.Float64() < v.loss }

// WriteTo takes a datagram of the link, which is a Packets for it.
func (v *virtualNode) WriteTo(p []byte, to netip.AddrPort) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if attach.Opens(p) && len(p) == 256 {
		v.asked++
	}
	if to != v.at || v.lostLocked() {
		return nil
	}
	p = append([]byte(nil), p...)
	time.AfterFunc(v.delay, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.node.Receive(v.now(), netip.MustParseAddrPort("198.51.100.1:40000"), p)
	})
	return nil
}

// send is called with mu held.
func (v *virtualNode) send(to netip.AddrPort, p []byte) {
	p = append([]byte(nil), p...)
	if attach.IsStream(to) {
		if out := v.streams[to]; out != nil {
			out <- p
		}
		return
	}
	if !v.lostLocked() {
		time.AfterFunc(v.delay, func() { v.link.Deliver(v.at, p) })
	}
}

// dial is the link's.
func (v *virtualNode) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	select {
	case <-time.After(2 * v.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	near, far := net.Pipe()
	out := make(chan []byte, 64)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dials++
	at := attach.StreamAddr(uint64(v.dials))
	v.streams[at] = out
	v.node.Opened(at, netip.MustParseAddr("198.51.100.1"))
	v.running.Go(func() {
		for p := range out {
			time.Sleep(v.delay)
			if _, err := far.Write(attach.AppendPacket(nil, p)); err != nil {
				continue // until the reader has noticed
			}
		}
	})
	v.running.Go(func() { v.read(at, far, out) })
	return near, nil
}

func (v *virtualNode) read(at netip.AddrPort, far net.Conn, out chan []byte) {
	k, err := attach.ReadStreamKind(far)
	if err == nil {
		_, err = attach.ReadPreface(far, k)
	}
	buf := make([]byte, attach.MaxPacket)
	for err == nil {
		var p []byte
		if p, err = attach.ReadPacket(far, buf); err == nil {
			time.Sleep(v.delay)
			v.mu.Lock()
			v.node.Receive(v.now(), at, p)
			v.mu.Unlock()
		}
	}
	far.Close()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.node.Lost(v.now(), at)
	delete(v.streams, at)
	close(out)
}

// run starts a link on the node and the node's clock, and returns how to stop both.
func (v *virtualNode) run(c LinkConfig) (stop func()) {
	v.t.Helper()
	c.Roots, c.Packets, c.Addresses = v.keys.roots(), v, []string{v.at.String()}
	if c.Key == nil {
		c.Key = newKey(v.t)
	}
	l, err := NewLink(c)
	if err != nil {
		v.t.Fatal(err)
	}
	l.dial = v.dial
	v.link = l
	ctx, cancel := context.WithCancel(context.Background())
	v.running.Go(func() {
		if err := l.Run(ctx); err != nil {
			v.t.Error(err)
		}
	})
	v.running.Go(func() {
		tick := time.NewTicker(attach.TickEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				v.mu.Lock()
				v.node.Tick(v.now())
				v.mu.Unlock()
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		v.running.Wait()
		time.Sleep(time.Second) // datagrams that fly
	}
}

func (v *virtualNode) block(blocked bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.blocked = blocked
}

func (v *virtualNode) counts() (asked, dials int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.asked, v.dials
}

// until waits in virtual time, in steps of a millisecond, and returns how long.
func (v *virtualNode) until(what string, most time.Duration, done func(Status) bool) time.Duration {
	v.t.Helper()
	began := time.Now()
	for !done(v.link.Status()) {
		if time.Since(began) > most {
			v.t.Fatalf("not within %v: %s; %+v", most, what, v.link.Status())
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(began)
}

func over(way string) func(Status) bool { return func(s Status) bool { return s.Over == way } }

// A link needs three round trips over UDP; where that is blocked one more, for TCP,
// after 1.5 s of patience; in a network that is known to block it, at once.
func TestLinkTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVirtualNode(t)
		network := "home"
		stop := v.run(LinkConfig{Network: func() string { return network }})
		if took := v.until("attached over UDP", time.Second, over("udp")); took > 61*time.Millisecond {
			t.Errorf("attached over UDP after %v, want three round trips of 20 ms", took)
		}
		if _, dials := v.counts(); dials != 0 {
			t.Error("a connection though UDP works")
		}
		stop()

		v = newVirtualNode(t)
		v.block(true)
		stop = v.run(LinkConfig{Network: func() string { return network }})
		took := v.until("attached over TCP", 3*time.Second, over("tcp"))
		if want := udpPatience + 4*20*time.Millisecond; took > want+15*time.Millisecond {
			t.Errorf("attached over TCP after %v, want %v", took, want)
		}
		// In another network UDP works, and back in the first it is known that it does not.
		network = "cafe"
		v.block(false)
		v.link.NetworkChanged()
		v.until("over UDP", 2*time.Second, over("udp"))
		network = "home"
		v.block(true)
		v.link.NetworkChanged()
		if took := v.until("over TCP at once", 2*time.Second, over("tcp")); took > 100*time.Millisecond {
			t.Errorf("TCP after %v in a network that is known to block UDP", took)
		}
		stop()
	})
}

// A link over TCP looks for UDP after half a minute and then every ten minutes, with three
// packets each time, and goes there when it is answered.
func TestLinkLooksForUDP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVirtualNode(t)
		v.block(true)
		stop := v.run(LinkConfig{})
		v.until("attached over TCP", 3*time.Second, over("tcp"))
		before, _ := v.counts()
		time.Sleep(time.Hour)
		asked, dials := v.counts()
		if asked -= before; asked != 3*6 { // after 30 s, and 10, 20, … 50 min later
			t.Errorf("%d questions over UDP in an hour, want 18", asked)
		}
		if dials != 1 {
			t.Errorf("%d connections in an hour, want one", dials)
		}
		hash, _ := v.link.Hash()
		v.block(false)
		v.until("over UDP", lookEvery+time.Second, over("udp"))
		time.Sleep(time.Minute)
		s := v.link.Status()
		if after, _ := v.link.Hash(); after != hash || s.Over != "udp" || s.Observed.Addr() != netip.MustParseAddr("198.51.100.1") {
			t.Errorf("a minute later: %+v; the same attach: %v", s, after == hash)
		}
		v.mu.Lock()
		streams := v.node.Streams()
		v.mu.Unlock()
		if streams != 0 {
			t.Error("the connection is kept beside UDP")
		}
		stop()
	})
}

// UDP that loses a third of all packets is used as long as it answers, and the link is there
// all the time, for a day.
func TestLinkOnBadUDP(t *testing.T) {
	hours := 3
	if os.Getenv("KEYHOLE_FULL") != "" {
		hours = 48
	}
	synctest.Test(t, func(t *testing.T) {
		v := newVirtualNode(t)
		v.loss = 0.33
		lost := 0
		stop := v.run(LinkConfig{Event: func(e attach.LinkEvent) {
			if e.Err != nil {
				lost++
			}
		}})
		v.until("attached", time.Minute, func(s Status) bool { return s.State == attach.StateAttached })
		time.Sleep(time.Duration(hours) * time.Hour)
		s := v.link.Status()
		asked, dials := v.counts()
		t.Logf("%d hours: %s, lost %d times, %d connections, %d questions", hours, s.Over, lost, dials, asked)
		if s.State != attach.StateAttached || lost > hours {
			t.Errorf("%+v, lost %d times in %d hours", s, lost, hours)
		}
		stop()
	})
}
