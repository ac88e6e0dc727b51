package relay

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// endVanished has the kernel end a connection whose peer acknowledges nothing for
// so long (RFC 5482), be it data or keep-alive. Without it a peer that vanished in
// mid-stream is waited for as long as the kernel sends again, a quarter of an hour.
func endVanished(conn *net.TCPConn, after time.Duration) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return // closed: the flow will find out
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(after.Milliseconds()))
	})
}
