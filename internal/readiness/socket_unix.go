//go:build unix

package readiness

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket reads a non-blocking descriptor through the runtime's poller, so that
// deadlines and Close work as they do for the net.Conn it belongs to.
//
// The two callbacks are made once: a closure for each read would be an
// allocation for each read.
type socket struct {
	raw            syscall.RawConn
	onRead, onWait func(fd uintptr) bool

	// Arguments and results of the callbacks, owned by the one reader.
	p     []byte
	n     int
	err   error
	polls [1]unix.PollFd
	asked bool
}

func newSocket(conn net.Conn) *socket {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		// Anything else that embeds a socket may buffer above it.
		return nil
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	s := &socket{raw: raw}
	s.onRead, s.onWait = s.read, s.wait
	return s
}

func (s *socket) TryRead(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.p = p
	err := s.raw.Read(s.onRead)
	s.p = nil // the buffer goes back to its pool
	if err != nil {
		return 0, err
	}
	return s.n, s.err
}

func (s *socket) WaitRead() error {
	s.asked = false
	return s.raw.Read(s.onWait)
}

// read is one read(2). It always returns true: do not wait.
func (s *socket) read(fd uintptr) bool {
	for {
		n, err := syscall.Read(int(fd), s.p)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			s.n, s.err = 0, nil
		case err != nil:
			s.n, s.err = 0, err
		case n == 0:
			s.n, s.err = 0, io.EOF
		default:
			s.n, s.err = n, nil
		}
		return true
	}
}

// wait tells whether the descriptor is readable. The runtime forgets an event
// that came before the wait began, so the first call asks the kernel; the
// second call is the event.
func (s *socket) wait(fd uintptr) bool {
	if s.asked {
		return true
	}
	s.asked = true
	s.polls[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	n, err := unix.Poll(s.polls[:], 0)
	// An error here (EINTR apart) is for TryRead to meet and name.
	return n > 0 || (err != nil && err != unix.EINTR)
}
