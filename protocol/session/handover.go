package session

import (
	"crypto/tls"
	"net"
	"sync"
)

// handover is the listener that net/http accepts from: connections whose
// handshake is done. It gives net/http the *tls.Conn itself, because only for
// that concrete type net/http speaks HTTP/2.
type handover struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu       sync.Mutex
	sessions map[net.Conn]*Session // given, not asked for yet
}

func newHandover() *handover {
	return &handover{
		conns:    make(chan net.Conn),
		done:     make(chan struct{}),
		sessions: make(map[net.Conn]*Session),
	}
}

// give hands a connection over; false means that net/http has stopped and the
// connection is still the caller's.
func (h *handover) give(c *tls.Conn, s *Session) bool {
	h.mu.Lock()
	h.sessions[c] = s
	h.mu.Unlock()
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		h.sessionOf(c)
		return false
	}
}

// sessionOf returns what was given with a connection, once.
func (h *handover) sessionOf(c net.Conn) *Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sessions[c]
	delete(h.sessions, c)
	return s
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handover) Addr() net.Addr { return &net.TCPAddr{} }
