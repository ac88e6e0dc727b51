//go:build !unix

package readiness

import "net"

// Windows completes reads into a buffer that it was given beforehand and has
// no readiness to ask for: no socket is a Reader here, and copiers fall back to
// a small waiting buffer.
type socket struct{}

func newSocket(net.Conn) *socket { return nil }

func (*socket) TryRead([]byte) (int, error) { panic("readiness: no sockets on this system") }
func (*socket) WaitRead() error             { panic("readiness: no sockets on this system") }
