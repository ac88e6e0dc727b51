package session

import (
	"io"
	"net"

	"github.com/keyholed/keyhole/internal/readiness"
)

// halfConn is a *tls.Conn.
type halfConn interface {
	net.Conn
	CloseWrite() error
}

// tlsStream is a tunnel that has a TLS connection to itself. Its writes go to
// crypto/tls as they are.
type tlsStream struct {
	halfConn
	early []byte // read together with the request or the answer; owned by the reader
}

func (s *tlsStream) Read(p []byte) (int, error) {
	if len(s.early) > 0 {
		return s.readEarly(p), nil
	}
	return s.halfConn.Read(p)
}

func (s *tlsStream) readEarly(p []byte) int {
	n := copy(p, s.early)
	if s.early = s.early[n:]; len(s.early) == 0 {
		s.early = nil
	}
	return n
}

// readyStream is a tlsStream that can say that there is nothing to read now.
type readyStream struct {
	tlsStream
	ready readiness.Reader
}

func newTLSStream(conn halfConn, ready readiness.Reader, early []byte) Stream {
	if len(early) == 0 {
		early = nil
	}
	plain := tlsStream{halfConn: conn, early: early}
	if ready == nil {
		return &plain
	}
	return &readyStream{plain, ready}
}

func (s *readyStream) TryRead(p []byte) (int, error) {
	if len(s.early) > 0 {
		return s.readEarly(p), nil
	}
	return s.ready.TryRead(p)
}

func (s *readyStream) WaitRead() error {
	if len(s.early) > 0 {
		return nil
	}
	return s.ready.WaitRead()
}

var (
	_ readiness.Reader = (*readyStream)(nil)
	_ io.Reader        = (*tlsStream)(nil)
)
