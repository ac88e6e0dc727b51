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
	"github.com/keyholed/keyhole/protocol/identity"
)

// A world is a network in virtual time: every packet takes half a round trip, and
// routers let in only from where something was sent to.
type world struct {
	mu    sync.Mutex
	round time.Duration
	ends  map[netip.AddrPort]func(from netip.AddrPort, packet []byte)
	open  map[[2]netip.AddrPort]bool // inside, outside
}

var worldNode = ap("198.51.100.10:7443")

func (w *world) send(from, to netip.AddrPort, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[[2]netip.AddrPort{from, to}] = true
	packet := slices.Clone(p)
	time.AfterFunc(w.round/2, func() {
		w.mu.Lock()
		deliver := w.ends[to]
		if to != worldNode && !w.open[[2]netip.AddrPort{to, from}] {
			deliver = nil
		}
		w.mu.Unlock()
		if deliver != nil {
			deliver(from, packet)
		}
	})
}

// A worldEnd is the UDP socket of device or client.
type worldEnd struct {
	w  *world
	at netip.AddrPort
}

func (e worldEnd) WriteTo(p []byte, to netip.AddrPort) error {
	e.w.send(e.at, to, p)
	return nil
}

// serve is a node that introduces everybody to its one device.
func (w *world) serve(t *testing.T, k nodeKeys) {
	var mu sync.Mutex
	var node *attach.Node
	began := time.Now()
	now := func() time.Duration { return time.Since(began) }
	asked := map[uint64]attach.Peer{} // client by request; guarded by mu
	encode := func(v any) []byte {
		b, err := attach.Encode(v)
		if err != nil {
			t.Error(err)
		}
		return b
	}
	node, err := attach.NewNode(attach.NodeConfig{
		PrivateKey: k.private, Certificate: k.certificate(t, worldNode), ResetKey: attach.Secret{9},
		Send: func(to netip.AddrPort, p []byte) { w.send(worldNode, to, p) },
		Ask: func(now time.Duration, r *attach.Request) {
			if err := node.Answer(now, r.Index, attach.CodeAccepted); err != nil {
				t.Error(err)
			}
		},
		Introduce: func(now time.Duration, from attach.Peer, i *attach.Introduce) {
			device, ok := node.DeviceByID(i.Device)
			if !ok {
				t.Error("no device")
			}
			asked[from.Index] = from
			in := attach.NewIntroduction(from.Index, from.Hash, i, from.Address)
			if err := node.Send(now, device.Index, attach.KindIntroduction, encode(in)); err != nil {
				t.Error(err)
			}
		},
		Message: func(now time.Duration, from attach.Peer, k attach.Kind, body []byte) {
			var a attach.Answer
			if k != attach.KindAnswer || attach.Decode(body, &a) != nil {
				return
			}
			yes := attach.Introduced{Offer: a.Offer, Observed: attach.Address{AddrPort: from.Address}, Ticket: attach.NewTicket()}
			if err := node.Send(now, asked[a.Request].Index, attach.KindIntroduced, encode(yes)); err != nil {
				t.Error(err)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.ends[worldNode] = func(from netip.AddrPort, p []byte) {
		mu.Lock()
		defer mu.Unlock()
		node.Receive(now(), from, p)
	}
}

// A worldPeer is a device or client: a link and punches on one socket.
type worldPeer struct {
	key     *identity.Key
	link    *Link
	puncher *Puncher
}

func (w *world) join(t *testing.T, at netip.AddrPort, c LinkConfig) *worldPeer {
	p := &worldPeer{key: c.Key, puncher: NewPuncher(worldEnd{w, at}, nil)}
	c.Packets = worldEnd{w, at}
	var err error
	if p.link, err = NewLink(c); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.ends[at] = func(from netip.AddrPort, packet []byte) {
		if !p.puncher.Deliver(from, packet) {
			p.link.Deliver(from, packet)
		}
	}
	w.mu.Unlock()
	return p
}

// The first contact over UDP takes three round trips to the basestation, the last
// of which waits for one to the device, and then one between the two until both
// have proof: QUIC's handshake is the second. With node and cookie remembered it
// is one less.
func TestFirstContactRoundTrips(t *testing.T) {
	const round = 100 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		w := &world{round: round, ends: map[netip.AddrPort]func(netip.AddrPort, []byte){}, open: map[[2]netip.AddrPort]bool{}}
		keys := newNodeKeys(t)
		w.serve(t, keys)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		var device *worldPeer
		config := LinkConfig{Key: newKey(t), Roots: keys.roots(), Addresses: []string{worldNode.String()}}
		config.Message = func(k attach.Kind, body []byte) {
			var in attach.Introduction
			if k != attach.KindIntroduction || attach.Decode(body, &in) != nil {
				return
			}
			client, err := in.Check(device.key.ID())
			if err != nil {
				t.Error(err)
			}
			offer, err := attach.SignOffer(device.key, in.Hash, device.key.ID(), client, attach.UDP, []netip.AddrPort{deviceAt})
			if err != nil {
				t.Error(err)
			}
			if err := device.link.Send(attach.KindAnswer, attach.Answer{Request: in.Request, Verdict: attach.VerdictYes, Offer: offer}); err != nil {
				t.Error(err)
			}
			observed := in.Observed.AddrPort
			found := device.puncher.Punch(ctx, in.Hash, []netip.AddrPort{observed})
			running.Go(func() { all(found) })
		}
		device = w.join(t, deviceAt, config)
		running.Go(func() { _ = device.link.Run(ctx) })
		time.Sleep(10 * round)
		if s := device.link.Status(); s.State != attach.StateAttached {
			t.Fatalf("device: %+v", s)
		}

		var known attach.Known
		for n, want := range []time.Duration{5 * round, 4 * round} {
			at := netip.AddrPortFrom(clientAt.Addr(), clientAt.Port()+uint16(n))
			began, proven := time.Now(), make(chan time.Duration, 1)
			var client *worldPeer
			life, end := context.WithCancel(ctx)
			client = w.join(t, at, LinkConfig{
				Key: newKey(t), Roots: keys.roots(), Addresses: []string{worldNode.String()}, Known: known,
				Introduce: &attach.Introduce{Device: device.key.ID()},
				Message: func(k attach.Kind, body []byte) {
					var yes attach.Introduced
					if k != attach.KindIntroduced || attach.Decode(body, &yes) != nil {
						return
					}
					hash, _ := client.link.Hash()
					observed := yes.Observed.AddrPort
					found := client.puncher.Punch(life, hash, []netip.AddrPort{observed})
					running.Go(func() {
						if _, ok := <-found; ok {
							proven <- time.Since(began)
						}
					})
				},
			})
			running.Go(func() { _ = client.link.Run(life) })
			if took := <-proven; took != want {
				t.Errorf("contact %d: proof after %v, want %v", n+1, took, want)
			} else {
				t.Logf("contact %d: the way is open after %v of round trips of %v", n+1, took, round)
			}
			known = client.link.Known()
			end()
			synctest.Wait()
		}
		cancel()
		running.Wait()
	})
}
