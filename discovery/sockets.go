package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/keyholed/keyhole/internal/netstate"
)

// mdnsPort is where multicast DNS lives, and from where its answers must come.
const mdnsPort = 5353

var (
	group4 = netip.MustParseAddr("224.0.0.251")
	group6 = netip.MustParseAddr("ff02::fb")
)

// maxPacket is the largest multicast DNS packet there is (RFC 6762 §17). What
// is longer arrives cut and is dropped.
const maxPacket = 9000

// A packet is what one neighbour sent.
type packet struct {
	data      []byte // valid until the handler returns
	on        netstate.Interface
	source    netip.AddrPort
	multicast bool // sent to the group, not to our own address
}

func (p packet) v6() bool { return p.source.Addr().Is6() }

// sockets are one IPv4 and one IPv6 socket on port 5353, which they share with
// every other responder of this machine, joined to the groups on some interfaces.
type sockets struct {
	v4 *ipv4.PacketConn // nil where IPv4 is missing
	v6 *ipv6.PacketConn // nil where IPv6 is missing

	mu         sync.Mutex // guards interfaces, and the choice of interface where it is the socket's state
	interfaces []netstate.Interface
}

var errNoGroup = errors.New("no interface could join the multicast group")

// openSockets joins both groups on the interfaces. One address family is
// enough; the error tells why there is none.
func openSockets(interfaces []netstate.Interface) (*sockets, error) {
	s := &sockets{interfaces: interfaces}
	err4 := s.open4()
	err6 := s.open6()
	if err4 != nil && err6 != nil {
		return nil, fmt.Errorf("multicast DNS: IPv4: %w; IPv6: %w", err4, err6)
	}
	return s, nil
}

func (s *sockets) open4() error {
	// Given a group to listen on, the net package binds the wildcard address and
	// shares the port.
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: group4.AsSlice(), Port: mdnsPort})
	if err != nil {
		return err
	}
	p := ipv4.NewPacketConn(conn)
	joined := 0
	for _, i := range s.interfaces {
		if p.JoinGroup(&i.Interface, &net.UDPAddr{IP: group4.AsSlice()}) == nil {
			joined++
		}
	}
	if joined == 0 {
		conn.Close()
		return errNoGroup
	}
	// Best effort: Windows has no control messages, see receive.
	_ = p.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true)
	_ = p.SetMulticastTTL(255) // RFC 6762 §11
	_ = p.SetTTL(255)
	s.v4 = p
	return nil
}

func (s *sockets) open6() error {
	conn, err := net.ListenUDP("udp6", &net.UDPAddr{IP: group6.AsSlice(), Port: mdnsPort})
	if err != nil {
		return err
	}
	p := ipv6.NewPacketConn(conn)
	joined := 0
	for _, i := range s.interfaces {
		if p.JoinGroup(&i.Interface, &net.UDPAddr{IP: group6.AsSlice()}) == nil {
			joined++
		}
	}
	if joined == 0 {
		conn.Close()
		return errNoGroup
	}
	_ = p.SetControlMessage(ipv6.FlagInterface|ipv6.FlagDst, true)
	_ = p.SetMulticastHopLimit(255)
	_ = p.SetHopLimit(255)
	s.v6 = p
	return nil
}

// update tells the addresses that the interfaces have now.
func (s *sockets) update(interfaces []netstate.Interface) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interfaces = interfaces
}

func (s *sockets) all() []netstate.Interface {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.interfaces
}

// serve calls handle for each packet of a neighbour until close. Two goroutines
// call it, one for each address family.
func (s *sockets) serve(handle func(packet)) {
	var readers sync.WaitGroup
	if s.v4 != nil {
		readers.Go(func() { s.read4(handle) })
	}
	if s.v6 != nil {
		readers.Go(func() { s.read6(handle) })
	}
	readers.Wait()
}

// readPause keeps an error that does not go away from taking a whole core.
const readPause = 50 * time.Millisecond

func (s *sockets) read4(handle func(packet)) {
	buffer := make([]byte, maxPacket+1)
	for {
		n, cm, from, err := s.v4.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // an ICMP answer to something we sent
			time.Sleep(readPause)
			continue
		}
		index, dst := 0, group4
		if cm != nil {
			index = cm.IfIndex
			dst, _ = netip.AddrFromSlice(cm.Dst)
		}
		s.receive(buffer[:n], index, dst, from, handle)
	}
}

func (s *sockets) read6(handle func(packet)) {
	buffer := make([]byte, maxPacket+1)
	for {
		n, cm, from, err := s.v6.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(readPause)
			continue
		}
		index, dst := 0, group6
		if cm != nil {
			index = cm.IfIndex
			dst, _ = netip.AddrFromSlice(cm.Dst)
		}
		s.receive(buffer[:n], index, dst, from, handle)
	}
}

// receive drops what is too long, came by an interface that is not ours (Linux
// gives a socket the packets of groups that others joined) or was not sent by a
// neighbour: an answer to somebody off the link would tell strangers what is in
// this network, and help them flood others (VU#550620).
func (s *sockets) receive(data []byte, index int, dst netip.Addr, from net.Addr, handle func(packet)) {
	udp, ok := from.(*net.UDPAddr)
	if !ok || len(data) > maxPacket {
		return
	}
	source := udp.AddrPort()
	source = netip.AddrPortFrom(source.Addr().Unmap(), source.Port())
	on, ok := find(s.all(), index, source.Addr())
	if !ok || !on.OnLink(source.Addr()) || source.Port() == 0 {
		return
	}
	handle(packet{data: data, on: on, source: source, multicast: dst.Unmap().IsMulticast()})
}

// find returns the interface with an index. Where the system does not tell it
// (0), it is the one that the source's zone or network names.
func find(interfaces []netstate.Interface, index int, source netip.Addr) (netstate.Interface, bool) {
	i := slices.IndexFunc(interfaces, func(i netstate.Interface) bool {
		switch {
		case index != 0:
			return i.Index == index
		case source.Zone() != "":
			return i.Name == source.Zone()
		}
		return i.OnLink(source)
	})
	if i < 0 {
		return netstate.Interface{}, false
	}
	return interfaces[i], true
}

// multicast sends to the group of one or both address families on an interface.
// Errors are not told: what is lost is asked for again.
func (s *sockets) multicast(data []byte, on netstate.Interface, v4, v6 bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v4 && s.v4 != nil {
		_ = s.v4.SetMulticastInterface(&on.Interface)
		_, _ = s.v4.WriteTo(data, nil, &net.UDPAddr{IP: group4.AsSlice(), Port: mdnsPort})
	}
	if v6 && s.v6 != nil {
		_ = s.v6.SetMulticastInterface(&on.Interface)
		_, _ = s.v6.WriteTo(data, nil, &net.UDPAddr{IP: group6.AsSlice(), Port: mdnsPort, Zone: on.Name})
	}
}

// unicast answers one neighbour by the interface it asked on.
func (s *sockets) unicast(data []byte, on netstate.Interface, to netip.AddrPort) {
	addr := net.UDPAddrFromAddrPort(to)
	if to.Addr().Is4() && s.v4 != nil {
		_, _ = s.v4.WriteTo(data, &ipv4.ControlMessage{IfIndex: controlIndex(on)}, addr)
	}
	if to.Addr().Is6() && s.v6 != nil {
		_, _ = s.v6.WriteTo(data, &ipv6.ControlMessage{IfIndex: controlIndex(on)}, addr)
	}
}

// controlIndex is 0, "as routed", where control messages are not known.
func controlIndex(on netstate.Interface) int {
	if runtime.GOOS == "windows" {
		return 0
	}
	return on.Index
}

// close ends serve.
func (s *sockets) close() {
	if s.v4 != nil {
		s.v4.Close()
	}
	if s.v6 != nil {
		s.v6.Close()
	}
}
