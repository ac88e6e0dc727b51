package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/hal/sim"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/reach"
	"github.com/keyholed/keyhole/protocol/session"
	"github.com/keyholed/keyhole/tunnel"
)

// doors are the process's listening sockets.
type doors struct {
	tcp     []net.Listener // never changes after openDoors
	udp     []*net.UDPConn // the same addresses, for QUIC
	control net.Listener
	face    net.Listener // nil: no page
	page    *sim.Face

	bound  []netip.AddrPort // of tcp and of the page
	socket string           // path of control
}

func (d *Daemon) openDoors(opened *closers) error {
	cfg, given := d.config(), d.options.Sockets
	d.doors = doors{tcp: given.TCP, udp: given.UDP, control: given.Control, socket: cfg.Socket}
	if len(given.TCP) == 0 && len(given.UDP) == 0 {
		for _, address := range cfg.Device.Listen {
			if err := d.doors.listen(address, cfg.Basestation.Wanted(), opened); err != nil {
				return err
			}
		}
	}
	for _, l := range d.doors.tcp {
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			d.doors.bound = append(d.doors.bound, a.AddrPort())
		}
	}
	if d.doors.control == nil {
		l, err := control.Listen(cfg.Socket)
		if err != nil {
			return err
		}
		d.doors.control = l
	}
	opened.add(func() error { return ignoreClosed(d.doors.control.Close()) })
	if cfg.Board.Web != "" && cfg.Board.Profile == config.BoardSimulated {
		l, err := sim.Listen(cfg.Board.Web)
		if err != nil {
			return fmt.Errorf("front panel page: %w", err)
		}
		d.doors.face = l
		d.doors.bound = append(d.doors.bound, l.Addr().(*net.TCPAddr).AddrPort())
		opened.add(func() error { return ignoreClosed(l.Close()) })
	}
	return nil
}

// openSockets gives the UDP sockets to the sessions, and one of them to the
// basestation as well.
func (d *Daemon) openSockets(opened *closers) error {
	d.sockets = nil
	for _, udp := range d.doors.udp {
		s := session.NewSocket(udp)
		opened.add(s.Close)
		s.SetResetKey(d.reset)
		d.sockets = append(d.sockets, s)
	}
	switch {
	case !d.config().Basestation.Wanted():
		return nil
	case len(d.sockets) == 0:
		return errors.New("a basestation is configured, but systemd passed no UDP socket: add ListenDatagram= to the socket unit")
	}
	return d.openStation(widest(d.sockets))
}

// widest is the socket from which most of the world can be reached: the first of
// those for all addresses, else the first that is not on loopback, else the first.
func widest(sockets []*session.Socket) *session.Socket {
	for _, fits := range []func(netip.Addr) bool{netip.Addr.IsUnspecified, func(a netip.Addr) bool { return !a.IsLoopback() }} {
		if i := slices.IndexFunc(sockets, func(s *session.Socket) bool { return fits(s.LocalAddr().Addr()) }); i >= 0 {
			return sockets[i]
		}
	}
	return sockets[0]
}

// listenTCP makes the port one from which this process can connect as well, where
// connections are to be punched from it.
func listenTCP(address string, punched bool) (net.Listener, error) {
	if !punched {
		return net.Listen("tcp", address)
	}
	l, err := reach.ListenReusable(context.Background(), "tcp", address)
	if errors.Is(err, reach.ErrNoReuse) {
		return net.Listen("tcp", address)
	}
	return l, err
}

// listen opens one address for TCP and, with the same port number, for UDP.
func (o *doors) listen(address string, punched bool, opened *closers) error {
	// With port 0 the kernel chooses for TCP; that port may be taken for UDP.
	const attempts = 8
	var err error
	for range attempts {
		var tcp net.Listener
		if tcp, err = listenTCP(address, punched); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		var udp net.PacketConn
		bound := tcp.Addr().(*net.TCPAddr)
		host, port, _ := net.SplitHostPort(address) // it was just listened on
		if udp, err = net.ListenPacket("udp", net.JoinHostPort(host, strconv.Itoa(bound.Port))); err == nil {
			o.tcp, o.udp = append(o.tcp, tcp), append(o.udp, udp.(*net.UDPConn))
			opened.add(func() error { return errors.Join(ignoreClosed(tcp.Close()), ignoreClosed(udp.Close())) })
			return nil
		}
		err = errors.Join(err, tcp.Close())
		if port != "0" {
			break
		}
	}
	return fmt.Errorf("listen on the same UDP port: %w", err)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// own tells whether an address leads back to this daemon: a service there would
// lend every peer our own loopback address, and with it the right to pair.
func (o *doors) own(network, address string) bool {
	if network == "unix" {
		return sameFile(address, o.socket)
	}
	return leadsTo(address, o.bound)
}

// sameFile compares two paths, links in them followed where they exist.
func sameFile(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

func leadsTo(address string, listeners []netip.AddrPort) bool {
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return false
	}
	ip := target.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(listeners, func(l netip.AddrPort) bool {
		if l.Port() != target.Port() {
			return false
		}
		at := l.Addr().Unmap().WithZone("")
		return at == ip || at.IsUnspecified() && ofThisMachine(ip) || ip.IsUnspecified()
	})
}

func ofThisMachine(ip netip.Addr) bool {
	if ip.IsLoopback() {
		return true
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return true // unknown: then rather no service than a way in
	}
	return slices.ContainsFunc(addresses, func(a net.Addr) bool {
		prefix, ok := a.(*net.IPNet)
		return ok && prefix.IP.Equal(ip.AsSlice())
	})
}

// serviceTable makes the tunnel's table from the configuration. Errors name file
// and line.
func serviceTable(cfg *config.Config, own tunnel.Own, refused passwordRefused) (*tunnel.Table, error) {
	var services []tunnel.Service
	var errs []error
	for _, s := range cfg.Services {
		parsed, err := tunnel.ParseService(s.Name, s.Type, s.Address, s.Access)
		if err == nil {
			_, err = tunnel.NewTable([]tunnel.Service{parsed}, own)
		}
		if err == nil {
			parsed, err = withCredentials(cfg, s, parsed, refused)
		}
		if err == nil && parsed.Type.Media && s.Sets("media") && !s.Media {
			err = &tunnel.FieldError{Field: "media", Err: errors.New("who has a tunnel to a service of type " + s.Type + " is always shown as watching")}
		}
		if err != nil {
			errs = append(errs, located(s, err)...)
			continue
		}
		if s.Media {
			parsed = parsed.WithMedia()
		}
		services = append(services, parsed)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return tunnel.NewTable(services, own)
}

// located puts file and line to each thing that is wrong with a service.
func located(s config.Service, err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range joined.Unwrap() {
			out = append(out, located(s, e)...)
		}
		return out
	}
	var field *tunnel.FieldError
	if errors.As(err, &field) {
		return []error{s.Error(field.Field, field.Err)}
	}
	return []error{s.Error("address", err)}
}

// Check looks at a configuration with the knowledge of all rooms and touches
// nothing: what it accepts, Run can start with.
func Check(cfg *config.Config) error {
	o := doors{socket: cfg.Socket}
	for _, address := range append([]string{cfg.Board.Web}, cfg.Device.Listen...) {
		if host, port, err := net.SplitHostPort(address); err == nil {
			if host == "" {
				host = "::"
			}
			if a, err := netip.ParseAddrPort(net.JoinHostPort(host, port)); err == nil {
				o.bound = append(o.bound, a)
			}
		}
	}
	_, err := serviceTable(cfg, o.own, nil)
	if _, e := vendorRoles(cfg); e != nil {
		err = errors.Join(err, e)
	}
	for _, key := range cfg.Basestation.Keys {
		if _, e := attach.ParseRootKey(key); e != nil {
			err = errors.Join(err, fmt.Errorf("basestation.key %s: %w", key, e))
		}
	}
	return err
}
