package reach

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
)

// A device is carried from home to home: one with a usual router, one whose router lets no
// UDP through, one with a symmetric router, and the first again.
//
//	node 198.51.100.10:7443 ── switch ──┬─ port-restricted ─ the device's way:
//	                                    ├─ UDP blocked       1. UDP  2. TCP
//	                                    └─ symmetric         3. UDP  4. UDP, TCP known
func TestLinkMovesBetweenHomes(t *testing.T) {
	if !testnet.Isolate(t) {
		return
	}
	world := testnet.NewInternet(t)
	usual, blocked, symmetric := world.Home(t, testnet.PortRestricted), world.Home(t, testnet.UDPBlocked), world.Home(t, testnet.Symmetric)
	keys := newNodeKeys(t)
	b := startNodeWithin(t, world.Base.Within, keys, testnet.BaseAddress+":7443", nil)

	host := usual.Host
	udp := host.ListenUDP(t, 0)
	var mu sync.Mutex
	network := "usual"
	l, err := NewLink(LinkConfig{
		Key: newKey(t), Roots: keys.roots(), Addresses: []string{b.at.String()}, Packets: socket{udp},
		Network: func() string { mu.Lock(); defer mu.Unlock(); return network },
	})
	if err != nil {
		t.Fatal(err)
	}
	l.dial = func(ctx context.Context, to netip.AddrPort) (conn net.Conn, err error) {
		err = host.Within(func() error {
			conn, err = dialStream(ctx, to)
			return err
		})
		return conn, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer udp.Close()
	defer cancel()
	running.Go(func() { _ = l.Run(ctx) })
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

	var first [32]byte
	for i, c := range []struct {
		name   string
		home   *testnet.Home
		over   string
		within time.Duration
	}{
		{"usual", usual, "udp", time.Second},
		{"blocked", blocked, "tcp", udpPatience + 2*time.Second},
		{"symmetric", symmetric, "udp", 2 * time.Second},
		{"blocked", blocked, "tcp", 2 * time.Second}, // which it knows by now
		{"usual", usual, "udp", 2 * time.Second},
	} {
		if i > 0 {
			c.home.Move(t, host, 30+i)
			mu.Lock()
			network = c.name
			mu.Unlock()
			l.NetworkChanged()
		}
		began := time.Now()
		testnet.Until(t, "attached in "+c.name, func() bool {
			s := l.Status()
			p, ok := b.device(l.c.Key)
			there := ok && (attach.IsStream(p.Address) || p.Address.Addr() == c.home.Outside)
			return s.Over == c.over && there && attach.IsStream(p.Address) == (c.over == "tcp") && (c.over == "tcp" || s.Observed == p.Address)
		})
		took := time.Since(began)
		t.Logf("%-9s over %s after %v", c.name, c.over, took.Round(time.Millisecond))
		if took > c.within {
			t.Errorf("%s: took %v, want %v", c.name, took, c.within)
		}
		hash, _ := l.Hash()
		if i == 0 {
			first = hash
		} else if hash != first {
			t.Errorf("%s: a new handshake", c.name)
		}
	}
}
