package session

import (
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// http3Stream is what http3.Stream and http3.RequestStream have in common.
type http3Stream interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
	Close() error // of the outgoing direction
	CancelRead(quic.StreamErrorCode)
	CancelWrite(quic.StreamErrorCode)
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// quicStream is a tunnel in an HTTP/3 stream.
type quicStream struct {
	raw           http3Stream
	local, remote net.Addr

	// writing is held while Write is below: QUIC streams must not be closed
	// while they are written.
	writing sync.Mutex
}

func (s *quicStream) Read(p []byte) (int, error) { return s.raw.Read(p) }

func (s *quicStream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.raw.Write(p)
}

func (s *quicStream) CloseWrite() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.raw.Close()
}

// Close ends both directions. A write that is stuck is given up.
func (s *quicStream) Close() error {
	s.raw.CancelRead(quic.StreamErrorCode(http3.ErrCodeNoError))
	if !s.writing.TryLock() {
		s.raw.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
		return nil
	}
	defer s.writing.Unlock()
	return s.raw.Close()
}

// Reset is H3_CONNECT_ERROR, in both directions (RFC 9114 §4.4).
func (s *quicStream) Reset() error {
	s.raw.CancelRead(quic.StreamErrorCode(http3.ErrCodeConnectError))
	s.raw.CancelWrite(quic.StreamErrorCode(http3.ErrCodeConnectError))
	return nil
}

func (s *quicStream) LocalAddr() net.Addr                { return s.local }
func (s *quicStream) RemoteAddr() net.Addr               { return s.remote }
func (s *quicStream) SetDeadline(t time.Time) error      { return s.raw.SetDeadline(t) }
func (s *quicStream) SetReadDeadline(t time.Time) error  { return s.raw.SetReadDeadline(t) }
func (s *quicStream) SetWriteDeadline(t time.Time) error { return s.raw.SetWriteDeadline(t) }
