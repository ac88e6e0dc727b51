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

// tlsStream is a tunnel that has a TLS connection to itself.
type tlsStream struct {
	halfConn
	link  *link
	early []byte // read together with the request or the answer; owned by the reader
}

func (s *tlsStream) Read(p []byte) (int, error) {
	if len(s.early) > 0 {
		return s.readEarly(p), nil
	}
	n, err := s.halfConn.Read(p)
	return n, s.proven(err)
}

func (s *tlsStream) readEarly(p []byte) int {
	n := copy(p, s.early)
	if s.early = s.early[n:]; len(s.early) == 0 {
		s.early = nil
	}
	return n
}

// proven lets io.EOF pass only where the peer's close_notify said it. crypto/tls
// takes the end of TCP for the same when it falls between two records, which
// who sits on the wire can arrange (RFC 8446 §6.1, truncation).
func (s *tlsStream) proven(err error) error {
	if err == io.EOF && s.link.ended {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Reset sends RST and no close_notify.
func (s *tlsStream) Reset() error {
	s.link.cut()
	return nil
}

// readyStream is a tlsStream that can say that there is nothing to read now.
type readyStream struct {
	tlsStream
	ready readiness.ReadWriter
}

func newTLSStream(conn halfConn, l *link, ready readiness.ReadWriter, early []byte) Stream {
	if len(early) == 0 {
		early = nil
	}
	plain := tlsStream{halfConn: conn, link: l, early: early}
	if ready == nil {
		return &plain
	}
	return &readyStream{plain, ready}
}

func (s *readyStream) TryRead(p []byte) (int, error) {
	if len(s.early) > 0 {
		return s.readEarly(p), nil
	}
	n, err := s.ready.TryRead(p)
	return n, s.proven(err)
}

func (s *readyStream) Write(p []byte) (int, error) { return s.ready.Write(p) }

func (s *readyStream) WaitRead() error {
	if len(s.early) > 0 {
		return nil
	}
	return s.ready.WaitRead()
}

var _ readiness.Reader = (*readyStream)(nil)
