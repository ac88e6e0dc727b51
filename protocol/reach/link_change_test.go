package reach

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
)

// A node that is killed and started again has its device back: over UDP with the
// notice that a basestation sends to whom it knew, in TCP by itself.
func TestNodeRestarts(t *testing.T) {
	for _, over := range []string{"udp", "tcp"} {
		t.Run(over, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			keys := newNodeKeys(t)
			b := startNode(t, keys, "127.0.0.1:0", nil)
			b.deafen(over == "tcp")
			h := startLink(t, LinkConfig{Roots: keys.roots(), Addresses: []string{b.at.String()}})
			testnet.Until(t, "attached", h.over(over))
			before, _ := b.device(h.c.Key)
			b.stopNow()

			began := time.Now()
			again := startNode(t, keys, b.at.String(), nil)
			again.deafen(over == "tcp")
			if over == "udp" {
				again.mu.Lock()
				again.send(before.Address, again.node.RestartNotice(before.Index, 0))
				again.mu.Unlock()
			}
			testnet.Until(t, "back", func() bool { _, there := again.device(h.c.Key); return there })
			testnet.Until(t, "attached again", h.over(over))
			t.Logf("back %v after the node", time.Since(began).Round(time.Millisecond))
			h.stop()
			again.stopNow()
		})
	}
}

// twoSockets is a machine that moves from one network to another: packets leave from
// the second socket as soon as it has moved, and nothing comes to the first.
type twoSockets struct {
	mu    sync.Mutex
	udp   [2]*net.UDPConn
	which int
}

func (s *twoSockets) WriteTo(p []byte, to netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.udp[s.which].WriteToUDPAddrPort(p, to)
	return err
}

func (s *twoSockets) move() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.udp[s.which].Close()
	s.which = 1
}

// After a change of address the node follows within a round trip, with the same keys,
// and the device is told where it is seen now.
func TestAddressChanges(t *testing.T) {
	defer goleak.VerifyNone(t)
	keys := newNodeKeys(t)
	b := startNode(t, keys, "127.0.0.1:0", nil)
	moving := &twoSockets{}
	for i, ip := range []string{"127.0.0.1:0", "127.0.0.2:0"} {
		var err error
		if moving.udp[i], err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(ip))); err != nil {
			testnet.Lacking(t, "no second address on loopback: "+err.Error())
		}
	}
	k := newKey(t)
	l, err := NewLink(LinkConfig{Key: k, Roots: keys.roots(), Addresses: []string{b.at.String()}, Packets: moving})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = l.Run(ctx) })
	for _, udp := range moving.udp {
		running.Go(func() {
			buf := make([]byte, 2048)
			for {
				n, from, err := udp.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				l.Deliver(from, buf[:n])
			}
		})
	}
	testnet.Until(t, "attached", func() bool { return l.Status().State == attach.StateAttached })
	before, _ := l.Hash()
	began := time.Now()
	moving.move()
	l.NetworkChanged()
	want := netip.MustParseAddr("127.0.0.2")
	testnet.Until(t, "seen at the new address", func() bool { return l.Status().Observed.Addr() == want })
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("%v until the new address was known", took)
	}
	if p, ok := b.device(k); !ok || p.Address.Addr() != want {
		t.Errorf("the node has %v", p.Address)
	}
	if after, _ := l.Hash(); after != before {
		t.Error("a new handshake for a new address")
	}
	cancel()
	moving.udp[1].Close()
	running.Wait()
	b.stopNow()
}

// UDP stops to work on a live link: it goes on in TCP, with the same keys.
func TestUDPStops(t *testing.T) {
	for name, block := range map[string]func(*baseNode){
		"both directions": func(b *baseNode) { b.deafen(true) },
		"only from the node": func(b *baseNode) {
			b.mu.Lock()
			b.mute = true
			b.mu.Unlock()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys := newNodeKeys(t)
			b := startNode(t, keys, "127.0.0.1:0", nil)
			h := startLink(t, LinkConfig{Roots: keys.roots(), Addresses: []string{b.at.String()}})
			testnet.Until(t, "attached over UDP", h.over("udp"))
			before, _ := h.Hash()
			block(b)
			h.NetworkChanged()
			testnet.Until(t, "over TCP", h.over("tcp"))
			testnet.Until(t, "a message through TCP", func() bool {
				_ = h.Send(attach.KindPresence, attach.Presence{Epoch: 1})
				b.mu.Lock()
				defer b.mu.Unlock()
				return len(b.messages) > 0
			})
			if after, _ := h.Hash(); after != before {
				t.Error("a new handshake to change the way")
			}
		})
	}
}

// A node whose datagrams arrive but are never answered, from the start.
func TestHalfOpenUDP(t *testing.T) {
	t.Parallel()
	keys := newNodeKeys(t)
	b := startNode(t, keys, "127.0.0.1:0", nil)
	b.mu.Lock()
	b.mute = true
	b.mu.Unlock()
	h := startLink(t, LinkConfig{Roots: keys.roots(), Addresses: []string{b.at.String()}})
	testnet.Until(t, "attached over TCP", h.over("tcp"))
}

// Where the controller names another node, packets in TCP go to that one.
//
//	link -- LOCATE --> controller
//	     -- the rest -> node
func TestOtherNodeInTCP(t *testing.T) {
	t.Parallel()
	keys := newNodeKeys(t)
	node := startNode(t, keys, "127.0.0.1:0", nil)
	certificate := keys.certificate(t, node.at)
	controller := startNode(t, keys, "127.0.0.1:0", func(c *attach.NodeConfig) {
		c.Locate = func(uint16) []byte { return certificate }
	})
	node.deafen(true)
	controller.deafen(true)
	h := startLink(t, LinkConfig{Roots: keys.roots(), Addresses: []string{controller.at.String()}})
	testnet.Until(t, "attached over TCP", h.over("tcp"))
	if s := h.Status(); s.Node != node.at || s.Address != controller.at.String() {
		t.Errorf("status %+v, want node %v by %v", s, node.at, controller.at)
	}
	if _, there := node.device(h.c.Key); !there {
		t.Error("not attached at the node")
	}
	testnet.Until(t, "no stream to the controller", func() bool {
		controller.mu.Lock()
		defer controller.mu.Unlock()
		return len(controller.conns) == 0
	})
	h.stop()
	node.stopNow()
	controller.stopNow()
}

// A basestation that is gone costs a quarter of a second, and the one that answered is
// the first from then on. A name that nobody knows costs nothing.
func TestSeveralBasestations(t *testing.T) {
	keys := newNodeKeys(t)
	b := startNode(t, keys, "127.0.0.1:0", nil)
	gone, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close() // it reads nothing
	name := netip.MustParseAddrPort(b.at.String())
	lookup := func(_ context.Context, host string) ([]netip.Addr, error) {
		if host == "base.example.net" {
			return []netip.Addr{name.Addr()}, nil
		}
		return nil, errors.New("no such host")
	}
	good := net.JoinHostPort("base.example.net", portOf(name))
	began := time.Now()
	h := startLink(t, LinkConfig{
		Roots: keys.roots(), Addresses: []string{"nowhere.example.net:7443", gone.LocalAddr().String(), good}, Lookup: lookup,
	})
	testnet.Until(t, "attached", h.over("udp"))
	if took := time.Since(began); took > udpPatience {
		t.Errorf("attached after %v", took)
	}
	if s := h.Status(); s.Address != good {
		t.Errorf("the good one is %q, want %q", s.Address, good)
	}
}

func portOf(a netip.AddrPort) string { _, port, _ := net.SplitHostPort(a.String()); return port }

// The names are asked for again until they are known.
func TestNameComesLater(t *testing.T) {
	defer goleak.VerifyNone(t)
	keys := newNodeKeys(t)
	b := startNode(t, keys, "127.0.0.1:0", nil)
	var mu sync.Mutex
	known := false
	h := startLink(t, LinkConfig{
		Roots: keys.roots(), Addresses: []string{net.JoinHostPort("base.example.net", portOf(b.at))},
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			mu.Lock()
			defer mu.Unlock()
			if !known {
				return nil, errors.New("no network yet")
			}
			return []netip.Addr{b.at.Addr()}, nil
		},
	})
	testnet.Until(t, "said why not", func() bool { return h.Status().Err != nil })
	mu.Lock()
	known = true
	mu.Unlock()
	h.NetworkChanged()
	testnet.Until(t, "attached", h.over("udp"))
	if s := h.Status(); s.Err != nil {
		t.Errorf("attached, and %v", s.Err)
	}
	h.stop()
	b.stopNow()
}

func TestLinkConfigs(t *testing.T) {
	keys := newNodeKeys(t)
	good := LinkConfig{Key: newKey(t), Roots: keys.roots(), Addresses: []string{"base.example.net:7443"}, Packets: socket{}}
	if _, err := NewLink(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*LinkConfig){
		"no key": func(c *LinkConfig) { c.Key = nil }, "no roots": func(c *LinkConfig) { c.Roots = nil },
		"no address": func(c *LinkConfig) { c.Addresses = nil }, "no port": func(c *LinkConfig) { c.Addresses = []string{"base.example.net"} },
		"port of a name": func(c *LinkConfig) { c.Addresses = []string{"base.example.net:https"} }, "no host": func(c *LinkConfig) { c.Addresses = []string{":7443"} },
		"port 0": func(c *LinkConfig) { c.Addresses = []string{"base.example.net:0"} }, "no socket": func(c *LinkConfig) { c.Packets = nil },
		"question about nobody": func(c *LinkConfig) { c.Introduce = &attach.Introduce{} },
	} {
		c := good
		change(&c)
		if _, err := NewLink(c); !errors.Is(err, attach.ErrLinkConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
