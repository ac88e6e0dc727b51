package session

import (
	"errors"
	"net"
	"net/http"
	"sync"

	"github.com/quic-go/quic-go/http3"
)

// ErrNotTunnel means that a request cannot become a stream: it is no CONNECT,
// one with a body of its own, which would leave open where the stream begins,
// one that is a stream already, or not a request of a Server.
var ErrNotTunnel = errors.New("not a CONNECT request that can become a stream")

// A Stream is the inside of a tunnel: a net.Conn with half-close, on both
// sides and every path. Close ends both directions; what was written before
// still arrives.
//
// Read returns io.EOF only where the peer itself has said that this was all.
// Whoever sits on the wire and closes the TCP connection makes it another error
// (io.ErrUnexpectedEOF as a rule).
//
// Over TLS a Stream is also a readiness.Reader. On a device's HTTP/2 stream a
// deadline that has passed ends the stream for good; elsewhere it can be set
// anew, as net.Conn has it.
type Stream interface {
	net.Conn
	// CloseWrite ends the outgoing direction: the other side reads io.EOF.
	CloseWrite() error
	// Reset ends both directions at once, and the other side's Read and Write
	// fail: it cannot take this for an orderly end, unless CloseWrite has told
	// it of one before. What was not sent yet is dropped.
	Reset() error
}

// Accept answers a CONNECT request with 200 and returns the stream that it
// becomes; bytes that came behind the request are read first. Before Accept the
// handler may refuse by any other answer. The stream ends with the handler.
//
// HTTP/2 ends both directions of a stream when a handler is done and has no
// way to end the outgoing one before. Clients that ask for it (header
// Keyhole-Stream, see chunks) get an end mark inside the stream instead. For
// others, CloseWrite on HTTP/2 has Read return io.EOF too, so that the handler
// returns and the peer sees the end, as RFC 9113 §8.5 has proxies do; what such
// a client was still sending is lost.
func Accept(w http.ResponseWriter, r *http.Request) (Stream, error) {
	session := FromRequest(r)
	t, _ := r.Context().Value(tunnelKey).(*tunnel)
	if session == nil || t == nil || r.Method != http.MethodConnect || !t.take() {
		return nil, ErrNotTunnel
	}
	var stream Stream
	var err error
	switch r.ProtoMajor {
	case 1:
		stream, err = acceptHTTP1(w, session)
	case 2:
		stream, err = acceptHTTP2(w, r, session)
	case 3:
		stream, err = acceptHTTP3(w, session)
	default:
		err = ErrNotTunnel
	}
	if err != nil {
		t.release()
		return nil, err
	}
	t.begin(stream)
	return stream, nil
}

// tunnel ties a stream to the handler that it belongs to.
type tunnel struct {
	mu     sync.Mutex
	taken  bool
	stream Stream
}

func (t *tunnel) take() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.taken
	t.taken = true
	return !was
}

func (t *tunnel) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken = false
}

func (t *tunnel) begin(s Stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stream = s
}

func (t *tunnel) handlerDone() {
	t.mu.Lock()
	stream := t.stream
	t.mu.Unlock()
	switch s := stream.(type) {
	case nil:
	case *http2Stream:
		s.detach()
	default:
		_ = s.Close()
	}
}

// established is the answer on HTTP/1.1. It has neither length nor coding
// (RFC 9110 §9.3.6).
const established = "HTTP/1.1 200 OK\r\n\r\n"

func acceptHTTP1(w http.ResponseWriter, s *Session) (Stream, error) {
	for {
		switch a := w.(type) {
		case *connectAnswer:
			return a.accept(s)
		case interface{ Unwrap() http.ResponseWriter }:
			w = a.Unwrap()
		default:
			return nil, ErrNotTunnel
		}
	}
}

func acceptHTTP3(w http.ResponseWriter, s *Session) (Stream, error) {
	streamer, ok := w.(http3.HTTPStreamer)
	if !ok {
		return nil, ErrNotTunnel
	}
	w.WriteHeader(http.StatusOK)
	raw, err := streamer.HTTPStream()
	if err != nil {
		return nil, err
	}
	info := s.Info()
	return &quicStream{raw: raw, local: net.UDPAddrFromAddrPort(info.Local), remote: net.UDPAddrFromAddrPort(info.Remote)}, nil
}
