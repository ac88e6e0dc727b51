//go:build unix

package readiness

import (
	"bytes"
	"crypto/tls"
	"net"
	"testing"
)

// recorder keeps what TLS writes instead of sending it.
type recorder struct {
	net.Conn
	to *bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) { return r.to.Write(p) }

// swap has conn write to aside from now on. It works because secured gave the
// client a *switchable.
func swap(t *testing.T, conn *tls.Conn, aside net.Conn) {
	t.Helper()
	s, ok := conn.NetConn().(*switchable)
	if !ok {
		t.Fatalf("%T is not switchable", conn.NetConn())
	}
	s.Conn = aside
}

// switchable is a connection whose writes a test may redirect.
type switchable struct{ net.Conn }
