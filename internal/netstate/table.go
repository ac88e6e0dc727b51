package netstate

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
)

// A link is a network interface as the kernel lists it.
type link struct {
	index        int
	name         string
	kind         string // IFLA_INFO_KIND; "" is hardware
	devType      string // DEVTYPE of sysfs, where it can be read: "wlan", "wwan", …
	ethernet     bool   // ARPHRD_ETHER: Ethernet and Wi-Fi
	up           bool
	multicast    bool
	loopback     bool
	pointToPoint bool
	master       int  // index of the bridge or bond it is a port of; 0: none
	parent       int  // index of the link it is stacked on; 0: none
	parentAway   bool // the parent is in another network namespace
	mtu          int
	hardware     net.HardwareAddr
	flags        net.Flags
}

// An address that is usable: not tentative, not a duplicate, not deprecated.
type address struct {
	link   int
	prefix netip.Prefix // the address, with the length of its network
}

// A route of any table but the local one.
type route struct {
	link      int
	to        netip.Prefix
	direct    bool // no gateway
	announced bool // IPv6: made by the kernel or a router advertisement, so the prefix is on-link
}

// A table is what netlink told at one moment.
type table struct {
	links     []link
	addresses []address
	routes    []route
	gateways  []netip.Addr
}

func (t *table) link(index int) (link, bool) {
	i := slices.IndexFunc(t.links, func(l link) bool { return l.index == index })
	if i < 0 {
		return link{}, false
	}
	return t.links[i], true
}

func (t *table) interfaces(want func(link) bool) []Interface {
	var list []Interface
	for _, l := range t.links {
		if !l.up || !l.multicast || l.loopback || l.pointToPoint || !want(l) {
			continue
		}
		i := Interface{Kind: l.kind, Interface: net.Interface{
			Index: l.index, MTU: l.mtu, Name: l.name, HardwareAddr: l.hardware, Flags: l.flags,
		}}
		for _, a := range t.addresses {
			if a.link == l.index {
				i.Prefixes = append(i.Prefixes, a.prefix)
			}
		}
		if len(i.Prefixes) > 0 {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b Interface) int { return cmp.Compare(a.Index, b.Index) })
	return list
}

// maxStack bounds the walk from a VLAN to the Ethernet below it; the kernel
// itself allows 8 (MAX_NEST_DEV).
const maxStack = 8

// lan reports whether a link is Ethernet or Wi-Fi. A bridge, tunnel, VPN or
// point-to-point link is not, unless it is named in extra: a home router's
// "br-lan" and docker0 are the same to the kernel, only the owner knows.
func (t *table) lan(l link, extra []string) (bool, string) {
	if l.loopback {
		return false, l.name + " is the loopback interface"
	}
	if slices.Contains(extra, l.name) {
		return true, l.name + " is named in [pairing] interfaces"
	}
	return t.lanBelow(l, maxStack)
}

func (t *table) lanBelow(l link, depth int) (bool, string) {
	switch {
	case depth == 0:
		return false, l.name + " is stacked too deep"
	case l.pointToPoint:
		return false, l.name + " is a point-to-point link"
	case !l.ethernet:
		return false, l.name + " is neither Ethernet nor Wi-Fi"
	case l.devType == "wwan":
		return false, l.name + " is a mobile modem"
	}
	switch l.kind {
	case "", "dsa", "bond", "team": // hardware, switch ports, and bundles of them
		return true, l.name + " is Ethernet or Wi-Fi"
	case "vlan", "macvlan": // as good as what they are stacked on
		if l.parentAway {
			return true, l.name + " is Ethernet"
		}
		below, ok := t.link(l.parent)
		if !ok {
			return false, l.name + " is stacked on an unknown interface"
		}
		return t.lanBelow(below, depth-1)
	case "veth":
		return t.lanVeth(l)
	}
	return false, fmt.Sprintf("%s is a %s, not Ethernet or Wi-Fi (name it in [pairing] interfaces if it is your LAN)", l.name, l.kind)
}

// lanVeth tells a container's uplink, which is its Ethernet, from the host's
// end of a container's wire. They look alike, so: a port of a bridge is no
// interface of its own, and where the machine has a network card of its own
// that is the LAN and veths lead to containers.
func (t *table) lanVeth(l link) (bool, string) {
	if l.master != 0 {
		return false, l.name + " is a port of a bridge"
	}
	for _, other := range t.links {
		if other.ethernet && other.kind == "" && !other.loopback {
			return false, l.name + " leads to a container"
		}
	}
	return true, l.name + " is this container's Ethernet"
}

// local is Local on a table. receiving is the index of the interface the
// connection came in by, or 0 when the kernel did not tell.
func (t *table) local(receiving int, local, remote netip.Addr, extra []string) (bool, string) {
	local, remote = local.Unmap(), remote.Unmap()
	zone, bare := remote.Zone(), remote.WithZone("")
	if !bare.IsValid() || !local.IsValid() {
		return false, "no address"
	}
	if bare.IsLoopback() {
		return true, "from this machine (loopback)"
	}
	if t.owns(bare) {
		return true, "from this machine (its own address)"
	}
	if slices.Contains(t.gateways, bare) {
		return false, fmt.Sprintf("%s is a gateway: who speaks through it may be anywhere", bare)
	}
	if receiving == 0 && zone != "" {
		receiving = t.zone(zone)
	}
	candidates := []int{receiving}
	if receiving == 0 {
		candidates = t.owners(local)
	}
	why := fmt.Sprintf("no interface has the address %s", local.WithZone(""))
	for _, index := range candidates {
		ok, reason := t.localOn(index, bare, extra)
		if ok {
			return true, reason
		}
		why = reason
	}
	return false, why
}

func (t *table) localOn(index int, remote netip.Addr, extra []string) (bool, string) {
	l, ok := t.link(index)
	if !ok {
		return false, "the receiving interface is gone"
	}
	if ok, why := t.lan(l, extra); !ok {
		return false, why
	}
	if remote.Is6() && remote.IsLinkLocalUnicast() {
		return true, fmt.Sprintf("link-local address on %s", l.name)
	}
	return t.connected(l, remote)
}

// connected reports whether remote is a neighbour on link l: of the most
// specific routes to it one leaves by l without a gateway, and its prefix is a
// network of l, not a default route that was given no gateway. IPv4 link-local
// addresses (169.254/16) are held to it too: Linux routes them like any other.
func (t *table) connected(l link, remote netip.Addr) (bool, string) {
	best := -1
	for _, r := range t.routes {
		if r.to.Contains(remote) {
			best = max(best, r.to.Bits())
		}
	}
	for _, r := range t.routes {
		if r.to.Bits() != best || !r.to.Contains(remote) || !r.direct || r.link != l.index {
			continue
		}
		if r.announced && remote.Is6() && best > 0 {
			return true, fmt.Sprintf("in %s, directly connected on %s", r.to, l.name)
		}
		for _, a := range t.addresses {
			if a.link == l.index && a.prefix.Contains(remote) {
				return true, fmt.Sprintf("in %s, directly connected on %s", a.prefix.Masked(), l.name)
			}
		}
	}
	return false, fmt.Sprintf("%s is not in a network directly connected on %s", remote, l.name)
}

func (t *table) owns(a netip.Addr) bool { return len(t.owners(a)) > 0 }

// owners returns the indexes of the interfaces that have address a.
func (t *table) owners(a netip.Addr) []int {
	if zone := a.Zone(); zone != "" {
		return []int{t.zone(zone)}
	}
	if a.Is6() && a.IsLinkLocalUnicast() {
		return nil // several links may have it: only a zone tells
	}
	var owners []int
	for _, own := range t.addresses {
		if own.prefix.Addr() == a {
			owners = append(owners, own.link)
		}
	}
	return owners
}

func (t *table) zone(zone string) int {
	for _, l := range t.links {
		if l.name == zone {
			return l.index
		}
	}
	index, _ := strconv.Atoi(zone)
	return index
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	addr = addr.Unmap()
	ones, bits := n.Mask.Size()
	if bits != addr.BitLen() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr, ones), true
}
