package netstate

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dumpTries is how often a listing is repeated when the tables changed under
// it; after that the last, perhaps inconsistent one is an error.
const dumpTries = 5

// read asks the kernel for links, addresses and routes of the caller's network
// namespace.
func read() (*table, error) {
	var err error
	for range dumpTries {
		var t *table
		if t, err = readOnce(); err == nil {
			return t, nil
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return nil, err
}

func readOnce() (*table, error) {
	t := &table{}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		t.links = append(t.links, linkOf(l))
	}
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addresses {
		if p, ok := prefixOf(a.IPNet); ok && usable(a.Flags) {
			t.addresses = append(t.addresses, address{link: a.LinkIndex, prefix: p})
		}
	}
	// Naming the table "unspecified" is how this library lists all tables.
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		t.addRoute(r)
	}
	return t, nil
}

func linkOf(l netlink.Link) link {
	a := l.Attrs()
	kind := l.Type()
	if kind == "device" {
		kind = ""
	}
	return link{
		index:        a.Index,
		name:         a.Name,
		kind:         kind,
		devType:      devType(a.Name),
		ethernet:     a.EncapType == "ether",
		up:           a.Flags&net.FlagUp != 0,
		multicast:    a.Flags&net.FlagMulticast != 0,
		loopback:     a.Flags&net.FlagLoopback != 0,
		pointToPoint: a.Flags&net.FlagPointToPoint != 0,
		master:       a.MasterIndex,
		parent:       a.ParentIndex,
		parentAway:   a.NetNsID >= 0,
		mtu:          a.MTU,
		hardware:     a.HardwareAddr,
		flags:        a.Flags,
	}
}

// devType reads what the driver calls the device: mobile modems in Ethernet
// mode are told from network cards by nothing else. Where /sys is missing or
// another namespace's, the answer is "".
func devType(name string) string {
	if name != filepath.Base(name) {
		return ""
	}
	text, err := os.ReadFile(filepath.Join("/sys/class/net", name, "uevent"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVTYPE="); ok {
			return value
		}
	}
	return ""
}

// usable leaves out addresses that duplicate address detection has not passed
// yet (IPv6 addresses arrive tentative first, and once more when they are
// ready) and those that are on their way out.
func usable(flags int) bool {
	return flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED|unix.IFA_F_DEPRECATED) == 0 ||
		flags&unix.IFA_F_OPTIMISTIC != 0
}

func (t *table) addRoute(r netlink.Route) {
	if r.Table == unix.RT_TABLE_LOCAL {
		return
	}
	direct := t.addGateway(r.Gw, r.Via)
	for _, hop := range r.MultiPath {
		direct = t.addGateway(hop.Gw, hop.Via) && direct
	}
	to, ok := prefixOf(r.Dst)
	if !ok { // a default route may come without a destination
		to = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if r.Family == unix.AF_INET6 {
			to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
	}
	if r.Type != unix.RTN_UNICAST && r.Type != unix.RTN_UNSPEC {
		direct = false // unreachable, prohibit, blackhole: covers, but connects nothing
	}
	t.routes = append(t.routes, route{
		link:      r.LinkIndex,
		to:        to.Masked(),
		direct:    direct && len(r.MultiPath) == 0,
		announced: r.Protocol == unix.RTPROT_KERNEL || r.Protocol == unix.RTPROT_RA,
	})
}

// addGateway notes a route's gateway and reports whether there is none.
func (t *table) addGateway(gw net.IP, via netlink.Destination) bool {
	none := true
	if v, ok := via.(*netlink.Via); ok && v != nil {
		none = false
		if a, ok := netip.AddrFromSlice(v.Addr); ok {
			t.gateways = append(t.gateways, a.Unmap())
		}
	}
	if a, ok := netip.AddrFromSlice(gw); ok && !a.IsUnspecified() {
		none = false
		t.gateways = append(t.gateways, a.Unmap())
	}
	return none
}
