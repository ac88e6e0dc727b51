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
	"github.com/keyholed/keyhole/protocol/identity"
)

// A socket is a UDP socket whose packets go to a link.
type socket struct {
	udp *net.UDPConn
}

func (s socket) WriteTo(p []byte, to netip.AddrPort) error {
	_, err := s.udp.WriteToUDPAddrPort(p, to)
	return err
}

// A heldLink is a link that runs, on a socket of loopback.
type heldLink struct {
	*Link
	t    testing.TB
	stop func() // and wait
}

func newKey(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func startLink(t testing.TB, c LinkConfig) *heldLink {
	t.Helper()
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	c.Packets = socket{udp}
	if c.Key == nil {
		c.Key = newKey(t)
	}
	l, err := NewLink(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running, reading sync.WaitGroup
	running.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	reading.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := udp.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			l.Deliver(from, buf[:n])
		}
	})
	var once sync.Once
	h := &heldLink{l, t, func() {
		once.Do(func() {
			cancel()
			running.Wait()
			udp.Close()
			reading.Wait()
		})
	}}
	t.Cleanup(h.stop)
	return h
}

func (h *heldLink) over(way string) func() bool {
	return func() bool { return h.Status().Over == way }
}

func TestLinkOverUDP(t *testing.T) {
	defer goleak.VerifyNone(t)
	keys := newNodeKeys(t)
	b := startNode(t, keys, "127.0.0.1:0", nil)
	var observed sync.Map
	h := startLink(t, LinkConfig{
		Roots: keys.roots(), Addresses: []string{b.at.String()},
		Event: func(e attach.LinkEvent) { observed.Store(e.Observed, e.Unix) },
	})
	testnet.Until(t, "attached over UDP", h.over("udp"))
	s := h.Status()
	if s.Node != b.at || s.Address != b.at.String() || s.Observed.Addr() != b.at.Addr() || s.Err != nil {
		t.Errorf("status %+v", s)
	}
	if unix, ok := observed.Load(s.Observed); !ok || unix != uint64(1_800_000_000) {
		t.Errorf("no event of the attach: %v", unix)
	}
	if err := h.Send(attach.KindPresence, attach.Presence{Epoch: 3}); err != nil {
		t.Fatal(err)
	}
	testnet.Until(t, "PRESENCE at the node", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.messages) == 1 && b.messages[0] == attach.KindPresence
	})
	if b.streamsTaken() != 0 {
		t.Error("a stream though UDP works")
	}
	h.stop()
	testnet.Until(t, "goodbye at the node", func() bool { _, there := b.device(h.c.Key); return !there })
	if err := h.Send(attach.KindPresence, attach.Presence{}); !errors.Is(err, attach.ErrSilent) {
		t.Errorf("send after the end: %v", err)
	}
	b.stopNow()
}

// Where UDP is blocked the link is in TCP after 1.5 s; the next time at once; and
// over UDP again when that works.
func TestUDPBlocked(t *testing.T) {
	t.Parallel()
	keys := newNodeKeys(t)
	b := startNode(t, keys, "127.0.0.1:0", nil)
	b.deafen(true)
	network := "office"
	h := startLink(t, LinkConfig{
		Roots: keys.roots(), Addresses: []string{b.at.String()}, Network: func() string { return network },
	})
	began := time.Now()
	testnet.Until(t, "attached over TCP", h.over("tcp"))
	if took := time.Since(began); took < udpPatience-100*time.Millisecond {
		t.Errorf("TCP after %v, want %v of patience", took, udpPatience)
	}
	if p, ok := b.device(h.c.Key); !ok || !attach.IsStream(p.Address) {
		t.Errorf("the node has %+v, %v", p, ok)
	}
	if s := h.Status(); s.Observed.IsValid() {
		t.Errorf("observed %v over TCP", s.Observed)
	}
	h.NetworkChanged()
	testnet.Until(t, "over TCP again", h.over("tcp"))

	b.deafen(false)
	h.NetworkChanged()
	testnet.Until(t, "over UDP", h.over("udp"))
	testnet.Until(t, "over UDP, for the node", func() bool {
		p, ok := b.device(h.c.Key)
		return ok && !attach.IsStream(p.Address)
	})
	testnet.Until(t, "no stream", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.conns) == 0 })
	h.stop()
	b.stopNow()
}
