package session

import (
	"io"
	"net"
	"sync"

	"github.com/keyholed/keyhole/internal/readiness"
)

// A link is the TCP connection below TLS. It knows how to be cut and tells when
// it was closed, whoever closed it: net/http, a hijacker or an eviction.
type link struct {
	net.Conn

	// These are owned by the reader.
	shaking bool
	shook   int // bytes of the handshake so far
	records records
	ended   bool // TCP has ended, which anybody on the wire can bring about

	gone func() // called once, when the link has closed; nil, or set before its first use

	mu     sync.Mutex
	over   bool
	closed func() // the same, but another one at each stage of a connection
}

// readyLink is a link whose system can tell when there is something to read.
type readyLink struct {
	*link
	readiness.Reader
}

// TryRead is Read without waiting; see readiness.Reader.
func (l *readyLink) TryRead(p []byte) (int, error) {
	n, err := l.Reader.TryRead(p)
	if err == io.EOF {
		l.ended = true
	}
	return n, err
}

// newLink wraps a TCP connection. conn is what TLS shall run over; gate is nil
// where there is no readiness.
func newLink(tcp net.Conn) (l *link, conn net.Conn, gate *readiness.Gate) {
	l = &link{Conn: tcp}
	below, ok := readiness.Of(tcp)
	if !ok {
		return l, l, nil
	}
	gate, ok = readiness.NewGate(&readyLink{l, below})
	if !ok {
		return l, l, nil
	}
	return l, gate, gate
}

// Read reads. During a handshake it never reads past the record that TLS asks
// for: bytes of the first request stay in the socket, where WaitRead sees them.
func (l *link) Read(p []byte) (int, error) {
	if l.shaking {
		p = p[:l.records.allow(len(p))]
	}
	n, err := l.Conn.Read(p)
	if l.shaking {
		l.records.passed(p[:n])
		if l.shook += n; l.shook > maxHandshakeBytes {
			return 0, errLongHandshake
		}
	}
	if err == io.EOF {
		l.ended = true
	}
	return n, err
}

// Close closes the connection; what was written is still sent by the kernel.
func (l *link) Close() error {
	err := l.Conn.Close()
	l.mu.Lock()
	was, closed := l.over, l.closed
	l.over = true
	l.mu.Unlock()
	if was {
		return net.ErrClosed
	}
	if closed != nil {
		closed()
	}
	if l.gone != nil {
		l.gone()
	}
	return err
}

// whenClosed has f called when the link closes, at once if it is closed. Only
// the last f counts.
func (l *link) whenClosed(f func()) {
	l.mu.Lock()
	was := l.over
	l.closed = f
	l.mu.Unlock()
	if was {
		f()
	}
}

// cut closes the connection and drops what the kernel has not sent yet: after a
// revocation not one more byte shall leave, and an evicted peer shall not hold
// kernel memory.
func (l *link) cut() {
	if tcp, ok := l.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only where the connection is closed already
	}
	_ = l.Close()
}

// CloseWrite half-closes the connection.
func (l *link) CloseWrite() error {
	if half, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// recordHeaderBytes: type (1), version (2), length (2, big endian); RFC 8446 §5.1.
const recordHeaderBytes = 5

// records follows TLS records in a stream of bytes.
type records struct {
	header [recordHeaderBytes]byte
	have   int // bytes of header
	rest   int // bytes of the record's body still to come
}

// allow says how many of n bytes may be read without leaving the record.
func (r *records) allow(n int) int {
	if r.rest > 0 {
		return min(n, r.rest)
	}
	return min(n, recordHeaderBytes-r.have)
}

// passed takes note of bytes that were read, never more than allow said.
func (r *records) passed(p []byte) {
	if r.rest > 0 {
		r.rest -= len(p)
		return
	}
	r.have += copy(r.header[r.have:], p)
	if r.have == recordHeaderBytes {
		r.have = 0
		r.rest = int(r.header[3])<<8 | int(r.header[4])
	}
}
