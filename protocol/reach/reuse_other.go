//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package reach

import "syscall"

// reuse fails: this system lets no two sockets share a port in the way that a
// simultaneous open needs.
func reuse(_, _ string, _ syscall.RawConn) error { return ErrNoReuse }
