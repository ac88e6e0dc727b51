package readiness

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
)

// Gate is the connection to give to tls.Server or tls.Client so that the TLS
// connection above it can be read without waiting. It behaves as the
// connection it wraps until TLS reads through it.
//
//	gate, ok := readiness.NewGate(tcp)
//	secure := tls.Server(gate, config)
//	reader := gate.Over(secure)   // after the handshake
type Gate struct {
	net.Conn
	below Reader
	now   bool // owned by the one reader: Read must not wait
	ahead ahead
	cork  cork
}

// NewGate wraps conn. The second result is false, and conn should be used as
// it is, where the system cannot tell when its socket is readable.
func NewGate(conn net.Conn) (*Gate, bool) {
	below, ok := Of(conn)
	if !ok {
		return nil, false
	}
	return &Gate{Conn: conn, below: below}, true
}

// Read is the wrapped connection's, except below a TryRead of TLS: there it
// returns a temporary error when nothing is there. crypto/tls keeps the part
// of a record it has, is not poisoned by a temporary error, and goes on with
// the next Read.
func (g *Gate) Read(p []byte) (int, error) {
	if !g.now {
		if n := g.ahead.take(p); n > 0 {
			return n, nil
		}
		return g.Conn.Read(p)
	}
	n, err := g.ahead.tryRead(g.below, p)
	if n == 0 && err == nil && len(p) > 0 {
		return 0, errNothingNow
	}
	return n, err
}

// Write is the wrapped connection's; the records of a large write through the
// Writer of Over leave together.
func (g *Gate) Write(p []byte) (int, error) { return g.cork.write(g.Conn, p) }

// CloseWrite half-closes the wrapped connection where it can.
func (g *Gate) CloseWrite() error {
	if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Over returns the Reader of conn, whose handshake is done and which runs over
// g. Read and Reader share the stream; only one goroutine may use them at a
// time. It is also the io.Writer for much data; it writes as conn does, with
// fewer system calls.
func (g *Gate) Over(conn *tls.Conn) ReadWriter { return &overTLS{conn: conn, gate: g} }

// ReadWriter is a Reader that is written to as well.
type ReadWriter interface {
	Reader
	io.Writer
}

type overTLS struct {
	conn    *tls.Conn
	gate    *Gate
	writing sync.Mutex // held by Write: one write is gathered at a time
}

func (r *overTLS) TryRead(p []byte) (int, error) {
	r.gate.now = true
	n, err := r.conn.Read(p)
	r.gate.now = false
	if err == errNothingNow {
		err = nil
	}
	if n > 0 {
		// The next call meets the error again: TLS remembers it.
		return n, nil
	}
	return 0, err
}

func (r *overTLS) WaitRead() error { return r.gate.below.WaitRead() }

// errNothingNow is what TLS sees below TryRead. It is compared by identity.
var errNothingNow net.Error = nothingNow{}

type nothingNow struct{}

func (nothingNow) Error() string   { return "nothing to read now" }
func (nothingNow) Timeout() bool   { return false }
func (nothingNow) Temporary() bool { return true }
