package readiness

import (
	"crypto/tls"
	"errors"
	"net"
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
		return g.Conn.Read(p)
	}
	n, err := g.below.TryRead(p)
	if n == 0 && err == nil && len(p) > 0 {
		return 0, errNothingNow
	}
	return n, err
}

// CloseWrite half-closes the wrapped connection where it can.
func (g *Gate) CloseWrite() error {
	if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Over returns the Reader of conn, whose handshake is done and which runs over
// g. Read and Reader share the stream; only one goroutine may use them at a
// time.
func (g *Gate) Over(conn *tls.Conn) Reader { return &overTLS{conn, g} }

type overTLS struct {
	conn *tls.Conn
	gate *Gate
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
