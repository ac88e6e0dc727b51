package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
)

// Sockets are what systemd opened for us before we started. All are empty when
// the service was started without a socket unit.
type Sockets struct {
	TCP     []net.Listener
	UDP     []*net.UDPConn
	Control net.Listener // a Unix stream socket; nil if there was none
}

// TakeSockets takes over the sockets of socket activation and sorts them by
// kind, whatever the units call them. It must be called once, before anything
// else opens files in a child process: it removes the variables from the
// environment, and a second call finds nothing. A socket of another kind is an
// error that names it, and then all are closed.
func TakeSockets() (*Sockets, error) {
	s := &Sockets{}
	var errs []error
	for _, f := range activation.Files(true) {
		if err := s.take(f); err != nil {
			errs = append(errs, fmt.Errorf("socket %q from systemd: %w", f.Name(), err))
		}
		// The net package works on a copy of the descriptor.
		errs = append(errs, f.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Sockets) take(f *os.File) error {
	l, err := net.FileListener(f)
	if err != nil {
		return s.takePacket(f)
	}
	switch listener := l.(type) {
	case *net.TCPListener:
		s.TCP = append(s.TCP, listener)
		return nil
	case *net.UnixListener:
		listener.SetUnlinkOnClose(false) // the file is systemd's
		switch kind := l.Addr().Network(); {
		case kind != "unix": // package net makes "listeners" of Unix datagrams as well
			err = fmt.Errorf("a datagram socket of kind %s: want UDP", kind)
		case s.Control != nil:
			err = errors.New("a second Unix socket: there is one control socket")
		default:
			s.Control = listener
			return nil
		}
	default:
		err = fmt.Errorf("a listener of kind %s: want TCP or Unix", l.Addr().Network())
	}
	return errors.Join(err, l.Close())
}

func (s *Sockets) takePacket(f *os.File) error {
	p, err := net.FilePacketConn(f)
	if err != nil {
		return errors.New("not a socket that Keyhole can use: want ListenStream= or ListenDatagram=")
	}
	udp, ok := p.(*net.UDPConn)
	if !ok {
		return errors.Join(fmt.Errorf("a datagram socket of kind %s: want UDP", p.LocalAddr().Network()), p.Close())
	}
	s.UDP = append(s.UDP, udp)
	return nil
}

// Any reports whether systemd passed sockets for peers, which then replace the
// configured addresses.
func (s *Sockets) Any() bool { return len(s.TCP)+len(s.UDP) > 0 }

// Close closes what was taken over.
func (s *Sockets) Close() error {
	var errs []error
	for _, l := range s.TCP {
		errs = append(errs, l.Close())
	}
	for _, c := range s.UDP {
		errs = append(errs, c.Close())
	}
	if s.Control != nil {
		errs = append(errs, s.Control.Close())
	}
	return errors.Join(errs...)
}
