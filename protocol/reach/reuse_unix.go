//go:build linux || darwin || freebsd || netbsd || openbsd

package reach

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// reuse lets several sockets of one user share a local port: SO_REUSEADDR for
// what the kernel remembers of closed connections, SO_REUSEPORT for what is open,
// the listener above all.
func reuse(_, _ string, raw syscall.RawConn) error {
	var err error
	if e := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if err == nil {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}
	}); e != nil {
		return e
	}
	return err
}
