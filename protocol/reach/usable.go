package reach

import (
	"net/netip"
	"slices"
)

// Usable tells whether a candidate of a peer may be tried. Public addresses may.
// Private ones (RFC 1918, RFC 4193, link-local, shared by a provider, loopback)
// mean another machine in every network, and a peer could aim at any of ours with
// them: they are tried only when the basestation sees both sides at one address,
// so that both are behind one router. Link-local ones must moreover be in one of
// own, the prefixes of this machine's interfaces, and loopback is for when the
// basestation itself is on this machine. Multicast and addresses without a host
// are never tried.
//
// ownObserved and theirObserved are what the basestation saw, over UDP if it has
// that; an invalid one is the same as nobody's.
func Usable(candidate, ownObserved, theirObserved netip.AddrPort, own []netip.Prefix) bool {
	if !possible(candidate) {
		return false
	}
	ip := candidate.Addr().Unmap()
	if !private(ip) {
		return true
	}
	if !sameNetwork(ownObserved.Addr().Unmap(), theirObserved.Addr().Unmap()) {
		return false
	}
	switch {
	case ip.IsLoopback():
		return ownObserved.Addr().Unmap().IsLoopback()
	case ip.IsLinkLocalUnicast():
		return slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	return true
}

// sameNetwork tells whether two observed addresses are one router's: the same
// one, or, in IPv6, where routers do not translate, the same /64.
func sameNetwork(a, b netip.Addr) bool {
	if !a.IsValid() || !b.IsValid() {
		return false
	}
	if a.Is6() && b.Is6() && !a.IsLoopback() {
		return netip.PrefixFrom(a, 64).Contains(b)
	}
	return a == b
}

var (
	// sharedByProviders is RFC 6598: private behind a provider's router.
	sharedByProviders = netip.MustParsePrefix("100.64.0.0/10")
	// reserved are where no peer is: "this network" and the former class E with
	// the broadcast address (RFC 1122 §3.2.1.3, RFC 1112 §4), and the addresses
	// that name the connections of a node's peers over TCP (RFC 6666: discard).
	reserved = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),
		netip.MustParsePrefix("240.0.0.0/4"),
		netip.MustParsePrefix("100::/64"),
	}
)

func private(ip netip.Addr) bool {
	return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || sharedByProviders.Contains(ip)
}

// possible tells whether a peer could be at an address at all.
func possible(a netip.AddrPort) bool {
	ip := a.Addr().Unmap()
	return ip.IsValid() && a.Port() != 0 && !ip.IsUnspecified() && !ip.IsMulticast() &&
		!slices.ContainsFunc(reserved, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// unmap gives an address the one form that we compare: IPv4 as such, no zone.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
