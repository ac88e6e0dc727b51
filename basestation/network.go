package basestation

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/keyholed/keyhole/internal/datagram"
)

// A network is the sockets of a server.
type network struct {
	udp []*socket
	tcp []*net.TCPListener
}

// A socket is one UDP socket and what waits to be sent on it.
type socket struct {
	*datagram.Conn
	out      *datagram.Batch
	families [2]bool // IPv4, IPv6: what can be sent to
}

// batchPackets is how many packets one system call moves at most.
const batchPackets = 64

// bindTries, where the kernel chooses a port for UDP that is taken for TCP.
const bindTries = 16

// listen binds all sockets, or none.
func listen(addresses []string) (*network, error) {
	n := new(network)
	for _, a := range addresses {
		if err := n.bind(a); err != nil {
			n.close()
			return nil, err
		}
	}
	if len(n.udp) == 0 {
		n.close()
		return nil, errors.New("listen: no address")
	}
	return n, nil
}

func (n *network) bind(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("listen on %q: %w", address, err)
	}
	for try := 1; ; try++ {
		taken, err := n.bindOnce(host, port)
		if err == nil || port != "0" || !taken || try == bindTries {
			return err
		}
	}
}

// bindOnce binds UDP, if this family has no socket yet, and TCP to one port. Taken
// says that only the second was not possible.
func (n *network) bindOnce(host, port string) (taken bool, err error) {
	at, err := net.ResolveUDPAddr("udp", net.JoinHostPort(host, port))
	if err != nil {
		return false, fmt.Errorf("listen: %w", err)
	}
	var s *socket
	if families := familiesOf(at); n.lacks(families) {
		udp, err := net.ListenUDP("udp", at)
		if err != nil {
			return false, fmt.Errorf("listen: %w", err)
		}
		conn, err := datagram.New(udp)
		if err != nil {
			return false, errors.Join(fmt.Errorf("listen: %w", err), udp.Close())
		}
		s = &socket{Conn: conn, out: datagram.NewBatch(batchPackets, maxPacket), families: families}
		at.Port = int(conn.LocalAddr().Port())
	}
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: at.IP, Port: at.Port, Zone: at.Zone})
	if err != nil {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
		return true, fmt.Errorf("listen: %w", err)
	}
	if s != nil {
		n.udp = append(n.udp, s)
	}
	n.tcp = append(n.tcp, tcp)
	return false, nil
}

// familiesOf tells whom a socket bound to at can reach: the unspecified address
// without a family is both.
func familiesOf(at *net.UDPAddr) [2]bool {
	if len(at.IP) == 0 || at.IP.Equal(net.IPv6unspecified) {
		return [2]bool{true, true}
	}
	four := at.IP.To4() != nil
	return [2]bool{four, !four}
}

func (n *network) lacks(families [2]bool) bool {
	for i, wanted := range families {
		has := false
		for _, s := range n.udp {
			has = has || s.families[i]
		}
		if wanted && !has {
			return true
		}
	}
	return false
}

// to returns the socket for an address, or nil.
func (n *network) to(a netip.Addr) *socket {
	family := 0
	if a.Is6() && !a.Is4In6() {
		family = 1
	}
	for _, s := range n.udp {
		if s.families[family] {
			return s
		}
	}
	return nil
}

// maxAddresses is how many a certificate can name.
const maxAddresses = 3

// reachable is where others find these sockets: what they are bound to, or where
// they are bound to all, the addresses of this machine, one of each family.
func (n *network) reachable() ([]netip.AddrPort, error) {
	var all []netip.AddrPort
	add := func(a netip.AddrPort) {
		for _, b := range all {
			if a == b {
				return
			}
		}
		if len(all) < maxAddresses {
			all = append(all, a)
		}
	}
	for _, s := range n.udp {
		local := s.LocalAddr()
		if !local.Addr().IsUnspecified() {
			add(local)
			continue
		}
		own, err := ownAddresses()
		if err != nil {
			return nil, err
		}
		for i, ip := range own {
			if ip.IsValid() && s.families[i] {
				add(netip.AddrPortFrom(ip, local.Port()))
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.New("this machine has no address of its own: say where it is reached (advertise)")
	}
	return all, nil
}

// ownAddresses returns an IPv4 and an IPv6 address of this machine: the first that
// is not private where there is one, the loopback where there is nothing else.
func ownAddresses() (own [2]netip.Addr, err error) {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return own, fmt.Errorf("read the addresses of this machine: %w", err)
	}
	var rank [2]int
	for _, f := range found {
		prefix, ok := f.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(prefix.IP)
		if !ok {
			continue
		}
		ip = ip.Unmap()
		family, r := 0, 3
		if ip.Is6() {
			family = 1
		}
		switch {
		case ip.IsLinkLocalUnicast() || ip.IsMulticast():
			continue
		case ip.IsLoopback():
			r = 1
		case ip.IsPrivate():
			r = 2
		}
		if r > rank[family] {
			own[family], rank[family] = ip, r
		}
	}
	if rank[1] == 1 && rank[0] > 1 {
		own[1] = netip.Addr{} // ::1 beside a real address would only mislead
	}
	return own, nil
}

// close ends everything; it may be called again.
func (n *network) close() {
	for _, s := range n.udp {
		_ = s.Close() // nothing is lost by it
	}
	n.closeListeners()
}

func (n *network) closeListeners() {
	for _, l := range n.tcp {
		_ = l.Close()
	}
}
