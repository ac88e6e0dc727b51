package reach

import (
	"net"
	"net/netip"
	"slices"

	"github.com/keyholed/keyhole/internal/netstate"
)

// Candidates returns the addresses of this machine that a peer in the same
// network could use, best first and at most [MaxCandidates]: those that packets to
// the world leave from, then those of hardware, then the rest. Loopback and
// link-local ones are not among them. Where the kernel cannot be asked there are
// fewer.
func Candidates() []netip.Addr {
	var found []netip.Addr
	add := func(a netip.Addr) {
		a = a.Unmap()
		if a.IsValid() && a.Zone() == "" && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsUnspecified() &&
			!a.IsMulticast() && !slices.Contains(found, a) && len(found) < MaxCandidates {
			found = append(found, a)
		}
	}
	for _, world := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} { // documentation addresses
		add(source(world))
	}
	interfaces, err := netstate.AllInterfaces()
	if err != nil {
		return found
	}
	for _, hardware := range []bool{true, false} {
		for _, i := range interfaces {
			if (i.Kind == "") != hardware {
				continue
			}
			for _, a := range i.Addresses() {
				add(a)
			}
		}
	}
	return found
}

// Prefixes returns the networks that this machine is connected to, for [Usable].
func Prefixes() []netip.Prefix {
	interfaces, err := netstate.AllInterfaces()
	if err != nil {
		return nil
	}
	var found []netip.Prefix
	for _, i := range interfaces {
		for _, p := range i.Prefixes {
			found = append(found, p.Masked())
		}
	}
	return found
}

// source is the address that packets to an address leave from. Connecting a UDP
// socket sends nothing.
func source(to string) netip.Addr {
	conn, err := net.Dial("udp", to)
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	a, _ := netip.ParseAddrPort(conn.LocalAddr().String())
	return a.Addr()
}
