package basestation

import (
	"net/netip"
	"testing"
)

// UDP is served on the first address of each family, TCP on all.
func TestListen(t *testing.T) {
	for _, c := range []struct {
		addresses []string
		udp, tcp  int
	}{
		{[]string{"127.0.0.1:0"}, 1, 1},
		{[]string{"127.0.0.1:0", "127.0.0.1:0"}, 1, 2},
		{[]string{"127.0.0.1:0", "[::1]:0", "[::1]:0"}, 2, 3},
		{[]string{":0", "127.0.0.1:0"}, 1, 2},
	} {
		n, err := listen(c.addresses)
		if err != nil {
			t.Fatalf("%v: %v", c.addresses, err)
		}
		if len(n.udp) != c.udp || len(n.tcp) != c.tcp {
			t.Errorf("%v: %d of UDP and %d of TCP, want %d and %d", c.addresses, len(n.udp), len(n.tcp), c.udp, c.tcp)
		}
		at, err := n.reachable()
		if err != nil || len(at) == 0 || at[0].Port() != n.udp[0].LocalAddr().Port() || at[0].Addr().IsUnspecified() {
			t.Errorf("%v: reached at %v, %v", c.addresses, at, err)
		}
		n.close()
	}
	for _, wrong := range []string{"", "127.0.0.1", "127.0.0.1:x", "192.0.2.1:0"} {
		if n, err := listen([]string{"127.0.0.1:0", wrong}); err == nil {
			n.close()
			t.Errorf("listens on %q", wrong)
		}
	}
}

// One socket of both families serves both.
func TestBothFamilies(t *testing.T) {
	s := begin(t, func(c *Config) { c.Listen = []string{":0"} })
	port := s.Address().Port()
	x := newStranger(t, s.Server)
	x.to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	x.settle(s.Server)
	if x.received == 0 {
		t.Error("no answer over IPv4")
	}
}
