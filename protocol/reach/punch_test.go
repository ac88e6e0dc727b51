package reach

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
)

// A wire joins Punchers in virtual time. Each has an address; rules decide what
// passes, and from which address it then comes.
type wire struct {
	mu    sync.Mutex
	delay time.Duration
	ends  map[netip.AddrPort]*Puncher
	route func(from, to netip.AddrPort) (seen, arrives netip.AddrPort, ok bool)
	odd   func() (late time.Duration, twice bool) // nil: neither
	sent  []sending
}

type sending struct {
	at       time.Time
	from, to netip.AddrPort
	packet   attach.Punch
}

// An end is the socket of one peer.
type end struct {
	w  *wire
	at netip.AddrPort
}

func (e end) WriteTo(b []byte, to netip.AddrPort) error {
	p, err := attach.ParsePunch(b)
	if err != nil {
		panic(err)
	}
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.w.sent = append(e.w.sent, sending{time.Now(), e.at, to, p})
	from, ok := e.at, true
	if e.w.route != nil {
		from, to, ok = e.w.route(e.at, to)
	}
	if target := e.w.ends[to]; ok && target != nil {
		packet, delay := slices.Clone(b), e.w.delay
		if e.w.odd != nil {
			late, twice := e.w.odd()
			delay += late
			if twice {
				time.AfterFunc(delay+late, func() { target.Deliver(from, packet) })
			}
		}
		time.AfterFunc(delay, func() { target.Deliver(from, packet) })
	}
	return nil
}

func (w *wire) join(at netip.AddrPort) *Puncher {
	p := NewPuncher(end{w, at}, nil)
	w.ends[at] = p
	return p
}

func (w *wire) sentBy(at netip.AddrPort) (some []sending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sent {
		if s.from == at {
			some = append(some, s)
		}
	}
	return some
}

func newWire(delay time.Duration) *wire {
	return &wire{delay: delay, ends: map[netip.AddrPort]*Puncher{}}
}

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func aps(s ...string) (list []netip.AddrPort) {
	for _, a := range s {
		list = append(list, ap(a))
	}
	return list
}

var (
	deviceAt = ap("198.51.100.21:7443")
	clientAt = ap("198.51.100.22:50000")
	hash     = [32]byte{1}
)

// all collects what comes out until the channel is closed.
func all(c <-chan netip.AddrPort) (list []netip.AddrPort) {
	for a := range c {
		list = append(list, a)
	}
	return list
}

// Both sides have their proof one round trip after the first question.
func TestPunchProvesBothSides(t *testing.T) {
	for _, skew := range []time.Duration{0, 20 * time.Millisecond, 200 * time.Millisecond, -200 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			w := newWire(50 * time.Millisecond)
			device, client := w.join(deviceAt), w.join(clientAt)
			began := time.Now()
			var took [2]time.Duration
			var both sync.WaitGroup
			side := func(i int, p *Puncher, peer netip.AddrPort, wait time.Duration) {
				time.Sleep(wait)
				ctx, cancel := context.WithCancel(t.Context())
				found := p.Punch(ctx, hash, []netip.AddrPort{peer})
				if got := <-found; got != peer {
					t.Errorf("proven: %v, want %v", got, peer)
				}
				took[i] = time.Since(began)
				time.Sleep(time.Second)
				cancel()
				if rest := all(found); rest != nil {
					t.Errorf("proven again: %v", rest)
				}
			}
			both.Go(func() { side(0, device, clientAt, max(0, skew)) })
			both.Go(func() { side(1, client, deviceAt, max(0, -skew)) })
			both.Wait()
			late := max(skew, -skew)
			if limit := late + 150*time.Millisecond; took[0] > limit || took[1] > limit {
				t.Errorf("skew %v: device after %v, client after %v, want at most %v", skew, took[0], took[1], limit)
			}
			t.Logf("skew %v: device after %v, client after %v", skew, took[0], took[1])
		})
	}
}

// A peer that is silent costs 3 packets for each of 8 candidates, 10 a second, the
// first candidate first.
func TestPunchIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(0)
		client := w.join(clientAt)
		var candidates []netip.AddrPort
		for port := range uint16(12) {
			candidates = append(candidates, netip.AddrPortFrom(deviceAt.Addr(), 1000+port))
		}
		candidates = append(aps("224.0.0.251:5353", "255.255.255.255:9", "0.0.0.0:7443", "198.51.100.21:0", "[ff02::1]:7443"), candidates...)
		if got := all(client.Punch(t.Context(), hash, candidates)); got != nil {
			t.Errorf("proven: %v", got)
		}
		sent := w.sentBy(clientAt)
		count := map[netip.AddrPort]int{}
		for i, s := range sent {
			count[s.to]++
			if s.packet.Echo != 0 {
				t.Errorf("answered nobody: %+v", s)
			}
			if i >= perSecond && s.at.Sub(sent[i-perSecond].at) < time.Second {
				t.Errorf("more than %d packets in %v", perSecond, s.at.Sub(sent[i-perSecond].at))
			}
		}
		if len(count) != MaxCandidates || len(sent) != MaxCandidates*maxAsked || sent[0].to.Port() != 1000 {
			t.Errorf("sent %d to %d addresses, first %v", len(sent), len(count), sent[0].to)
		}
		for to, n := range count {
			if n != maxAsked {
				t.Errorf("%d packets to %v", n, to)
			}
		}
	})
}

// The pace is one for all introductions of a socket.
func TestPaceIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(0)
		device := w.join(deviceAt)
		var runs []<-chan netip.AddrPort
		for i := range byte(maxPunchings + 5) {
			runs = append(runs, device.Punch(t.Context(), [32]byte{2, i}, []netip.AddrPort{netip.AddrPortFrom(clientAt.Addr(), 1000+uint16(i))}))
		}
		for _, r := range runs[maxPunchings:] {
			if _, open := <-r; open || time.Since(time.Time{}) == 0 {
				t.Error("one too many was punched for")
			}
		}
		for _, r := range runs {
			all(r)
		}
		sent := w.sentBy(deviceAt)
		for i := perSecond; i < len(sent); i++ {
			if gap := sent[i].at.Sub(sent[i-perSecond].at); gap < time.Second {
				t.Fatalf("%d packets in %v", perSecond+1, gap)
			}
		}
		asked := map[netip.AddrPort]bool{}
		for _, p := range sent {
			asked[p.to] = true
		}
		if len(asked) != maxPunchings || len(sent) < 2*maxPunchings {
			t.Errorf("%d packets to %d of %d: not each had its turn", len(sent), len(asked), maxPunchings)
		}
	})
}

// The device's router has another port for the client than for the basestation:
// the client finds the one that shows itself.
func TestPunchFindsSymmetricPeer(t *testing.T) {
	for _, late := range []time.Duration{0, 600 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			w := newWire(30 * time.Millisecond)
			outside := ap("198.51.100.21:61234")
			opened := map[netip.AddrPort]bool{} // addresses that the client's router lets in
			w.route = func(from, to netip.AddrPort) (netip.AddrPort, netip.AddrPort, bool) {
				switch {
				case from == deviceAt:
					return outside, to, opened[netip.AddrPortFrom(outside.Addr(), 0)]
				case to == outside:
					return from, deviceAt, true
				default: // the address that the basestation saw: nobody is there for the client
					opened[netip.AddrPortFrom(to.Addr(), 0)] = true
					return from, to, false
				}
			}
			device, client := w.join(deviceAt), w.join(clientAt)
			ofDevice := device.Punch(t.Context(), hash, []netip.AddrPort{clientAt})
			time.Sleep(late) // the client hears of it later
			ofClient := client.Punch(t.Context(), hash, []netip.AddrPort{deviceAt})
			if got := all(ofClient); len(got) != 1 || got[0] != outside {
				t.Errorf("client: proven %v, want %v", got, outside)
			}
			if got := all(ofDevice); len(got) != 1 || got[0] != clientAt {
				t.Errorf("device: proven %v, want %v", got, clientAt)
			}
		})
	}
}

// Strangers, replays and mirrors prove nothing, and nothing grows: no more bytes
// go to an address than came from there, and questions on top.
func TestPunchUnderAttack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(0)
		victim := w.join(deviceAt)
		ctx, cancel := context.WithCancel(t.Context())
		found := victim.Punch(ctx, hash, []netip.AddrPort{clientAt})
		synctest.Wait()
		token := attach.PunchTokenOf(hash)
		send := func(from netip.AddrPort, p attach.Punch) { victim.Deliver(from, p.Append(nil)) }

		before := len(w.sentBy(deviceAt))
		send(clientAt, attach.Punch{Token: attach.PunchTokenOf([32]byte{9}), Nonce: 1}) // another introduction
		if !victim.Deliver(clientAt, []byte{0x09, 1, 2}) || victim.Deliver(clientAt, []byte{0x26}) || victim.Deliver(clientAt, nil) {
			t.Error("Deliver tells punches from other packets wrongly")
		}
		if n := len(w.sentBy(deviceAt)); n != before {
			t.Errorf("%d answers to a stranger", n-before)
		}

		first := w.sentBy(deviceAt)[0].packet
		send(ap("203.0.113.1:1"), attach.Punch{Token: token, Nonce: 7, Echo: first.Nonce}) // the nonce of another address
		send(clientAt, first)                                                              // its own packet, sent back
		for i := range uint16(50) {
			for range 50 {
				send(netip.AddrPortFrom(netip.MustParseAddr("203.0.113.9"), 1+i), attach.Punch{Token: token, Nonce: 7})
			}
		}
		count := map[netip.AddrPort]int{}
		for _, s := range w.sentBy(deviceAt) {
			count[s.to]++
		}
		if len(count) > 1+maxReflexive {
			t.Errorf("answered %d addresses, want at most %d", len(count), 1+maxReflexive)
		}
		for to, n := range count {
			if n > maxAsked+maxAnswered {
				t.Errorf("%d packets to %v", n, to)
			}
		}
		cancel()
		if got := all(found); got != nil {
			t.Errorf("proven: %v", got)
		}
		if send(clientAt, attach.Punch{Token: token, Nonce: 7}); len(victim.now) != 0 {
			t.Error("a punching that is over is still known")
		}
	})
}

// A second punching for the same introduction ends the first.
func TestPunchAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(time.Millisecond)
		device, client := w.join(deviceAt), w.join(clientAt)
		first := device.Punch(t.Context(), hash, nil)
		second := device.Punch(t.Context(), hash, []netip.AddrPort{clientAt})
		if got := all(first); got != nil || time.Since(time.Now()) > time.Second {
			t.Errorf("the first found %v", got)
		}
		all(client.Punch(t.Context(), hash, []netip.AddrPort{deviceAt}))
		if got := all(second); len(got) != 1 {
			t.Errorf("the second found %v", got)
		}
	})
}

// With 10 % loss, packets that overtake each other and packets that come twice, both
// sides prove an address 999 times in 1,000.
func TestPunchOnABadNetwork(t *testing.T) {
	const trials = 2000
	failed := 0
	for trial := range trials {
		synctest.Test(t, func(t *testing.T) {
			w := newWire(30 * time.Millisecond)
			n := uint64(trial)*2654435761 + 12345
			next := func() uint64 {
				n = n*6364136223846793005 + 1442695040888963407
				return n >> 33
			}
			w.route = func(from, to netip.AddrPort) (netip.AddrPort, netip.AddrPort, bool) {
				return from, to, next()%10 != 0
			}
			w.odd = func() (time.Duration, bool) { return time.Duration(next()%60) * time.Millisecond, next()%5 == 0 }
			device, client := w.join(deviceAt), w.join(clientAt)
			a := device.Punch(t.Context(), hash, []netip.AddrPort{clientAt})
			b := client.Punch(t.Context(), hash, []netip.AddrPort{deviceAt})
			if all(a) == nil || all(b) == nil {
				failed++
			}
		})
	}
	if failed*1000 > trials {
		t.Errorf("%d of %d failed", failed, trials)
	}
}
