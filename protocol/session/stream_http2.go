package session

import (
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// goodbyeTimeout is how long Close waits for room for the end mark; crypto/tls
// gives its close alert as long.
const goodbyeTimeout = 5 * time.Second

// http2Stream is the device's side of a tunnel in an HTTP/2 stream.
type http2Stream struct {
	body          io.ReadCloser
	w             http.ResponseWriter
	control       *http.ResponseController
	chunked       bool // the client wants chunks
	local, remote net.Addr

	closed atomic.Bool // Close was called
	ended  atomic.Bool // the outgoing direction is

	// alive is held for reading by whoever uses w, which nobody may after the
	// handler; writing, taken before it, keeps chunks whole.
	writing sync.Mutex
	alive   sync.RWMutex
	gone    bool // guarded by alive
}

func acceptHTTP2(w http.ResponseWriter, r *http.Request, session *Session) (Stream, error) {
	info := session.Info()
	s := &http2Stream{
		body: r.Body, w: w, control: http.NewResponseController(w),
		chunked: r.Header.Get(chunksHeader) == chunksValue,
		local:   net.TCPAddrFromAddrPort(info.Local), remote: net.TCPAddrFromAddrPort(info.Remote),
	}
	if s.chunked {
		w.Header().Set(chunksHeader, chunksValue)
	}
	w.WriteHeader(http.StatusOK)
	return s, s.control.Flush()
}

func (s *http2Stream) Read(p []byte) (int, error) {
	switch {
	case s.closed.Load():
		return 0, net.ErrClosed
	case s.ended.Load() && !s.chunked:
		return 0, io.EOF
	}
	n, err := s.body.Read(p)
	if err != nil && n == 0 {
		switch {
		case s.closed.Load():
			err = net.ErrClosed
		case s.ended.Load() && !s.chunked:
			err = io.EOF
		}
	}
	return n, err
}

func (s *http2Stream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.ended.Load() || s.closed.Load() {
		return 0, net.ErrClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	if !s.alive.TryRLock() {
		return 0, net.ErrClosed // the handler is leaving
	}
	defer s.alive.RUnlock()
	if s.gone {
		return 0, net.ErrClosed
	}
	if s.chunked {
		var header [chunkHeaderBytes]byte
		putChunkHeader(&header, len(p))
		if _, err := s.w.Write(header[:]); err != nil {
			return 0, err
		}
	}
	n, err := s.w.Write(p)
	if err == nil {
		err = s.control.Flush()
	}
	return n, err
}

// CloseWrite: see Accept for clients that did not ask for chunks.
func (s *http2Stream) CloseWrite() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.endLocked()
}

func (s *http2Stream) endLocked() error {
	if s.ended.Swap(true) {
		return nil
	}
	if !s.chunked {
		return s.body.Close() // wakes the reader; the handler's return tells the peer
	}
	if !s.alive.TryRLock() {
		return net.ErrClosed
	}
	defer s.alive.RUnlock()
	if s.gone {
		return net.ErrClosed
	}
	var header [chunkHeaderBytes]byte
	if _, err := s.w.Write(header[:]); err != nil {
		return err
	}
	return s.control.Flush()
}

// Close ends both directions. A write that is stuck is given up.
func (s *http2Stream) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	err := s.body.Close()
	if !s.writing.TryLock() {
		return s.deadline(s.control.SetWriteDeadline, time.Unix(1, 0)) // resets the stream
	}
	defer s.writing.Unlock()
	if s.chunked && !s.ended.Load() {
		// The end mark may find a full window of a client that does not read.
		if e := s.deadline(s.control.SetWriteDeadline, time.Now().Add(goodbyeTimeout)); e != nil {
			return e
		}
	}
	if e := s.endLocked(); err == nil {
		err = e
	}
	return err
}

// Reset is RST_STREAM.
func (s *http2Stream) Reset() error {
	if s.closed.Swap(true) {
		return nil
	}
	// The only way to RST_STREAM before the handler has returned.
	err := s.deadline(s.control.SetWriteDeadline, time.Unix(1, 0))
	_ = s.body.Close()
	return err
}

// detach makes sure that nobody uses the response writer after the handler.
func (s *http2Stream) detach() {
	_ = s.Close() // the handler had its chance to look at errors
	s.alive.Lock()
	s.gone = true
	s.alive.Unlock()
}

func (s *http2Stream) deadline(set func(time.Time) error, t time.Time) error {
	s.alive.RLock()
	defer s.alive.RUnlock()
	if s.gone {
		return net.ErrClosed
	}
	return set(t)
}

func (s *http2Stream) SetReadDeadline(t time.Time) error {
	return s.deadline(s.control.SetReadDeadline, t)
}

func (s *http2Stream) SetWriteDeadline(t time.Time) error {
	return s.deadline(s.control.SetWriteDeadline, t)
}

func (s *http2Stream) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

func (s *http2Stream) LocalAddr() net.Addr  { return s.local }
func (s *http2Stream) RemoteAddr() net.Addr { return s.remote }
