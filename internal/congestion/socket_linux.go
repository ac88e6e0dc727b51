package congestion

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// choose sets the algorithm by its name in the kernel. Asking costs a
// microsecond; the answer is not remembered, because a module may be loaded
// while a process lives.
func choose(conn net.Conn, name string) bool {
	s, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	chosen := false
	err = raw.Control(func(fd uintptr) {
		chosen = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, name) == nil
	})
	return err == nil && chosen
}
