// Package readiness lets a reader wait for bytes without holding a buffer for
// them, and take what is there without waiting for more.
//
// Go's own Read needs the buffer before the bytes come: a thousand idle
// tunnels with 64 KiB each way would hold 128 MiB for nothing. With a Reader a
// copier waits empty-handed, borrows a buffer when bytes are there, and gives
// it back when there are none.
//
// The sessions implement Reader for their streams (TLS over a Gate), the
// tunnel uses it. What cannot offer it (HTTP/2 and HTTP/3 streams, Windows
// sockets) is simply not a Reader. The package opens and closes nothing.
package readiness

import "net"

// Reader is a source of bytes that says when there are none now. One
// goroutine may use it at a time; Close and deadlines may come from others.
type Reader interface {
	// TryRead reads what is there now and never waits. It returns n > 0 and
	// nil, or 0 and nil when nothing is there now, or 0 and io.EOF at the
	// end, or 0 and the error. A passed read deadline is
	// os.ErrDeadlineExceeded, a closed source net.ErrClosed.
	TryRead(p []byte) (n int, err error)

	// WaitRead returns nil when TryRead may have something to tell: bytes,
	// the end or an error. It is for use after TryRead returned 0 and nil:
	// what a source has buffered above its socket does not end the wait. It
	// may return early. A read deadline or Close ends it with an error.
	WaitRead() error
}

// Of returns conn as a Reader: itself where it is one, else its socket where
// the system can tell readiness (TCP and Unix stream sockets outside of
// Windows). The second result is false where neither is so; nothing is changed
// then. Reads through the Reader and through conn see one stream of bytes.
func Of(conn net.Conn) (Reader, bool) {
	if r, ok := conn.(Reader); ok {
		return r, true
	}
	s := newSocket(conn)
	if s == nil {
		return nil, false
	}
	return s, true
}
