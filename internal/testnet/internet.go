package testnet

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// An Internet is a small one: a base station's host and any number of homes
// behind routers, on one switch. Everything in it goes away with its test, and
// two of them never meet.
//
//	host .10 ─ lan ─ router ─┐                  ┌─ router ─ lan ─ host .10
//	192.168.1.0/24     198.51.100.21 ─ switch ─ 198.51.100.22    192.168.2.0/24
//	                                     │
//	                             base 198.51.100.10
type Internet struct {
	Base *Namespace // BaseAddress on its interface wan

	sw    *Namespace
	homes int
}

// BaseAddress is where a basestation listens; documentation addresses (RFC 5737)
// stand for public ones.
const BaseAddress = "198.51.100.10"

// maxHomes is what fits between the first home's address and the end of the /24.
const maxHomes = 200

// NewInternet makes one with a base and no homes.
func NewInternet(t testing.TB) *Internet {
	t.Helper()
	n := &Internet{sw: New(t)}
	n.sw.batch(t, "link add name net0 type bridge", "link set dev net0 up")
	n.Base = n.Host(t, BaseAddress)
	return n
}

// Host puts a machine with a public address, which is in 198.51.100.0/24, on
// the switch, without a router; its interface is wan.
func (n *Internet) Host(t testing.TB, address string) *Namespace {
	t.Helper()
	h := New(t)
	n.plug(t, h, address)
	return h
}

// plug lays a cable from the switch to the interface wan of h.
func (n *Internet) plug(t testing.TB, h *Namespace, address string) {
	t.Helper()
	port := "p" + address[strings.LastIndex(address, ".")+1:]
	n.sw.batch(t,
		"link add "+port+" type veth peer name wan netns "+h.Name,
		"link set dev "+port+" master net0 up")
	h.wan(t, address)
}

// wan brings up the interface of that name. Its hardware address goes with the
// address, so that neighbours find whoever has it next.
func (n *Namespace) wan(t testing.TB, address string) {
	t.Helper()
	last := netip.MustParseAddr(address).As4()[3]
	n.batch(t,
		fmt.Sprintf("link set dev wan address 02:00:c6:33:64:%02x", last),
		"link set dev wan up",
		"addr add "+address+"/24 brd + dev wan")
}

// A Home is a network with private addresses behind a router.
type Home struct {
	Router  *Namespace // lan inside, wan outside
	Host    *Namespace // the first machine inside, at .10, interface eth0
	Outside netip.Addr // of the router
	Inside  netip.Prefix

	kind   NAT
	udp    bool   // false: dropped whatever the kind says
	loss   int    // per cent
	ports  int    // used on the lan so far
	unplug func() // ends the long cable; nil: a short one
}

// Home adds a home behind a router of a kind, in a network of its own:
// 192.168.1.0/24 is the first one's.
func (n *Internet) Home(t testing.TB, kind NAT) *Home {
	t.Helper()
	return n.HomeIn(t, kind, fmt.Sprintf("192.168.%d.0/24", n.homes+1))
}

// HomeIn adds a home with inside addresses of the caller's choice; it must be a
// /24. Two homes may well use the same ones, as real ones do.
func (n *Internet) HomeIn(t testing.TB, kind NAT, inside string) *Home {
	t.Helper()
	n.homes++
	if n.homes > maxHomes {
		t.Fatalf("more than %d homes", maxHomes)
	}
	h := &Home{
		Outside: netip.AddrFrom4([4]byte{198, 51, 100, byte(20 + n.homes)}),
		Inside:  netip.MustParsePrefix(inside),
		Router:  New(t),
		kind:    kind,
		udp:     true,
	}
	n.plug(t, h.Router, h.Outside.String())
	h.Router.batch(t,
		"link add name lan type bridge",
		"link set dev lan up",
		"addr add "+h.address(1)+" brd + dev lan")
	run(t, "ip", "netns", "exec", h.Router.Name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	h.rules(t)
	h.Host = h.Join(t, 10)
	return h
}

// Join adds a machine to the home, with the address that ends in last.
func (h *Home) Join(t testing.TB, last int) *Namespace {
	t.Helper()
	host := New(t)
	h.Move(t, host, last)
	return host
}

// Move gives a machine a place in this home, with the address that ends in last:
// a new cable, or, after it was unplugged from another home, a new network.
// Whatever its interface eth0 had before is gone.
func (h *Home) Move(t testing.TB, host *Namespace, last int) {
	t.Helper()
	_ = host.Command("ip", "link", "del", "dev", "eth0").Run() // there may be none
	h.ports++
	port := fmt.Sprintf("p%d", h.ports)
	h.Router.batch(t,
		"link add "+port+" type veth peer name eth0 netns "+host.Name,
		"link set dev "+port+" master lan up")
	host.batch(t,
		"link set dev eth0 up",
		"addr add "+h.address(last)+" brd + dev eth0",
		"route add default via "+h.Inside.Addr().Next().String())
}

// Renumber gives a machine of this home another address, as a DHCP server may;
// what it had before is gone.
func (h *Home) Renumber(t testing.TB, host *Namespace, last int) {
	t.Helper()
	host.batch(t,
		"addr flush dev eth0 scope global",
		"addr add "+h.address(last)+" brd + dev eth0",
		"route replace default via "+h.Inside.Addr().Next().String())
}

// Readdress gives the router another outside address, as a provider does at
// night, and forgets all flows. The address must be in 198.51.100.0/24.
func (h *Home) Readdress(t testing.TB, outside string) {
	t.Helper()
	h.Router.batch(t, "addr flush dev wan scope global", "addr add "+outside+"/24 brd + dev wan")
	h.Outside = netip.MustParseAddr(outside)
	h.Flush(t)
}

// address is the inside address that ends in last, with its length.
func (h *Home) address(last int) string {
	a := h.Inside.Addr().As4()
	a[3] = byte(last)
	return netip.PrefixFrom(netip.AddrFrom4(a), h.Inside.Bits()).String()
}

// batch runs several lines of ip(8) inside in one process.
func (n *Namespace) batch(t testing.TB, lines ...string) {
	t.Helper()
	feed(t, strings.Join(lines, "\n")+"\n", "ip", "-n", n.Name, "-batch", "-")
}
