package reach

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// ErrNoReuse says that the system cannot connect from a port that it listens on,
// as Windows cannot: no TCP is punched there, and UDP and relay remain.
var ErrNoReuse = errors.New("this system cannot connect from a listening port")

// ListenReusable listens as net.Listen does, on a port from which this user's
// programs may connect as well. The other side of that: a second listener of the
// same user on the same port is no error, and each gets a share of the
// connections, so that whoever listens makes sure otherwise that he is alone (our
// programs by their UDP socket of the same number). It returns ErrNoReuse where
// the system has no such thing.
func ListenReusable(ctx context.Context, network, address string) (net.Listener, error) {
	l := net.ListenConfig{Control: reuse}
	l.SetMultipathTCP(false) // its sockets do not share a port with plain ones
	return l.Listen(ctx, network, address)
}

// dialFrom connects to an address from a local port that may be listened on; 0 is
// any port.
func dialFrom(ctx context.Context, port int, to netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{Control: reuse, FallbackDelay: -1}
	to = unmap(to)
	ip := netip.IPv4Unspecified()
	if to.Addr().Is6() {
		ip = netip.IPv6Unspecified()
	}
	d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(port)))
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// forget closes a connection so that the kernel keeps nothing of it: its four
// numbers are free at once for the next try.
func forget(conn net.Conn) {
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	conn.Close()
}
