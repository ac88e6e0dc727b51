// Package netstate tells what the kernel knows about this machine's network:
// which interfaces are a local network, whether a peer is *local*, and when
// anything of that changed. It is the one door to netlink.
//
// Pairing asks it who may use the LAN-only modes, discovery asks it where to
// announce and wakes on its changes, doctor prints what it finds. It never
// changes the network. Where there is no netlink (macOS, Windows: clients only)
// it lists interfaces, notices changes by looking now and then, and calls
// nobody local but the machine itself.
package netstate

import (
	"net"
	"net/netip"
	"slices"
)

// An Interface is a network interface as multicast DNS needs it.
type Interface struct {
	net.Interface                // index, name, MTU, hardware address, flags
	Kind          string         // kernel's word for a virtual one ("veth", "bridge", …); "" for hardware
	Prefixes      []netip.Prefix // usable addresses, each with the length of its network; no tentative ones
}

// Addresses returns the addresses of an interface without their prefix lengths.
func (i Interface) Addresses() []netip.Addr {
	addresses := make([]netip.Addr, len(i.Prefixes))
	for n, p := range i.Prefixes {
		addresses[n] = p.Addr()
	}
	return addresses
}

// OnLink reports whether a packet from source was sent by a neighbour on this
// interface, as far as the address tells: link-local, or in one of its prefixes.
func (i Interface) OnLink(source netip.Addr) bool {
	source = source.Unmap().WithZone("")
	if source.Is6() && source.IsLinkLocalUnicast() {
		return true
	}
	return slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool { return p.Contains(source) })
}

// Interfaces returns the interfaces that are a local network and can carry
// multicast, ordered by index: Ethernet and Wi-Fi as Local defines them, and
// those named in extra. An interface without an address is left out.
func Interfaces(extra []string) ([]Interface, error) {
	t, err := read()
	if err != nil {
		return nil, err
	}
	return t.interfaces(func(l link) bool {
		ok, _ := t.lan(l, extra)
		return ok
	}), nil
}

// AllInterfaces returns every interface that can carry multicast, bridges and
// containers included and point-to-point links excepted: where a client looks
// for devices. Asking in one place too many costs nothing.
func AllInterfaces() ([]Interface, error) {
	t, err := read()
	if err != nil {
		return nil, err
	}
	return t.interfaces(func(l link) bool { return l.master == 0 }), nil
}

// Local reports whether the peer at remote, connected over TCP to our address
// local, is on this machine or on a directly connected local network, and says
// why in words. The names in extra are interfaces that count as a local network
// whatever their kind ([pairing] interfaces). When the kernel cannot be asked
// the answer is no.
//
// The receiving interface is taken to be the one that owns the address local
// and that answers to remote leave by. That is safe for TCP although Linux
// accepts packets for its addresses on every interface: the handshake is
// complete, so the peer has read what was sent to remote, and that left by this
// interface to a neighbour, with no gateway in between. LocalConn asks the
// kernel for the interface itself and is to be preferred where there is a
// net.Conn.
func Local(local, remote netip.Addr, extra []string) (bool, string) {
	t, err := read()
	if err != nil {
		return false, "the kernel's network tables cannot be read: " + err.Error()
	}
	return t.local(0, local, remote, extra)
}

// LocalConn is Local for a TCP connection that a listener of ours accepted. It
// also asks the kernel by which interface the connection came in.
func LocalConn(c net.Conn, extra []string) (bool, string) {
	local, ok1 := addressOf(c.LocalAddr())
	remote, ok2 := addressOf(c.RemoteAddr())
	if !ok1 || !ok2 {
		return false, "not a TCP connection"
	}
	t, err := read()
	if err != nil {
		return false, "the kernel's network tables cannot be read: " + err.Error()
	}
	index, err := Receiving(c)
	if err != nil {
		index = 0 // the interface that owns the address: see Local
	}
	return t.local(index, local, remote, extra)
}

func addressOf(a net.Addr) (netip.Addr, bool) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	return tcp.AddrPort().Addr(), true
}
