package reach

import (
	"net/netip"
	"slices"
	"testing"
)

func TestUsable(t *testing.T) {
	const (
		here  = "198.51.100.21:7443"
		there = "198.51.100.22:50000"
		same  = "198.51.100.21:50000"
		none  = ""
		lo    = "127.0.0.1:7443"
		v6    = "[2001:db8:1:1::5]:7443"
		v6b   = "[2001:db8:1:1::9]:7443"
		v6far = "[2001:db8:1:2::9]:7443"
	)
	own := []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("192.168.1.0/24")}
	for _, c := range []struct {
		candidate, own, their string
		want                  bool
	}{
		{there, here, there, true},
		{there, none, none, true},
		{v6far, here, there, true},
		{"192.168.1.10:7443", here, there, false}, // in our network it is another machine
		{"192.168.1.10:7443", here, same, true},
		{"[::ffff:192.168.1.10]:7443", here, there, false},
		{"192.168.1.10:7443", here, none, false},
		{"192.168.1.10:7443", none, none, false},
		{"10.0.0.1:7443", here, there, false},
		{"172.16.0.1:7443", here, there, false},
		{"10.9.9.9:7443", here, same, true},
		{"100.64.0.1:7443", here, there, false},
		{"100.64.0.1:7443", here, same, true},
		{"[fd00::1]:7443", here, there, false},
		{"[fd00::1]:7443", v6, v6b, true}, // one /64
		{"[fd00::1]:7443", v6, v6far, false},
		{"169.254.1.1:7443", here, there, false},
		{"169.254.1.1:7443", here, same, true},
		{"[fe80::1]:7443", here, same, false}, // not in own
		{lo, here, there, false},
		{lo, here, same, false},
		{lo, lo, lo, true},
		{lo, lo, none, false},
		{"[::1]:7443", "[::1]:1", "[::1]:2", true},
		{"[::1]:7443", v6, v6b, false},
		{"224.0.0.251:5353", here, same, false},
		{"[ff02::fb]:5353", v6, v6b, false},
		{"255.255.255.255:9", here, same, false},
		{"0.0.0.0:7443", here, same, false},
		{"[::]:7443", here, same, false},
		{"0.1.2.3:7443", here, same, false},
		{"198.51.100.22:0", here, there, false},
		{"[100::1]:1", v6, v6b, false},
		{none, here, same, false},
	} {
		parse := func(s string) (a netip.AddrPort) {
			if s != none {
				a = netip.MustParseAddrPort(s)
			}
			return a
		}
		if got := Usable(parse(c.candidate), parse(c.own), parse(c.their), own); got != c.want {
			t.Errorf("Usable(%s, %s, %s) = %v, want %v", c.candidate, c.own, c.their, got, c.want)
		}
	}
}

// Whatever this machine has: nothing that a peer could not use, and nothing twice.
func TestCandidates(t *testing.T) {
	list := Candidates()
	if len(list) > MaxCandidates {
		t.Errorf("%d candidates", len(list))
	}
	for i, a := range list {
		if !possible(netip.AddrPortFrom(a, 1)) || a.IsLoopback() || a.IsLinkLocalUnicast() || a.Is4In6() || slices.Contains(list[:i], a) {
			t.Errorf("%v in %v", a, list)
		}
	}
	t.Logf("%v in %v", list, Prefixes())
}
