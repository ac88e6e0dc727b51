// Package session is who is on the line: TLS 1.3 sessions in which both sides
// have proven a key, over TCP (HTTP/1.1 and HTTP/2) and over QUIC (HTTP/3), all
// serving one http.Handler. The daemon runs a Server; the client package uses
// Dial, which tries addresses and paths at once and keeps a few connections
// warm for tunnels.
//
// A request reaches the handler only on a finished handshake, and FromRequest
// says whose it is. What that peer may do is not decided here: an unknown key
// is a session like any other, under a smaller limit. CONNECT becomes a byte
// stream with half-close through Accept, whichever protocol it came by.
//
// # Beyond the LAN
//
// How two sides found each other changes nothing about who they are. A Socket
// shares its UDP port with the packets that open NATs; ServeConn and DialConn
// take connections that something else brought, a punched one or a leg of a
// relay. Info.Via and Client.Via tell how it was, because only what came directly
// can be from the next room.
//
// # Goroutines
//
// A device spends on each idle session: one goroutine on HTTP/1.1 (a warm
// connection of a client is one), two on HTTP/2 and about five on QUIC, all
// of them net/http's and quic-go's. A tunnel holds one more, its handler's;
// on HTTP/1.1 that is the one the session has already.
package session

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/keyholed/keyhole/internal/readiness"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A Path is how the bytes of a session travel.
type Path string

// The paths.
const (
	PathTCP  Path = "tcp"  // TLS over TCP
	PathQUIC Path = "quic" // QUIC over UDP
)

// A Via is the way by which the two sides came together. It is told apart from
// the Path because a relay and a punched hole say something about who can be at
// the other end: nobody who came by them is in the same room.
type Via string

// The ways.
const (
	ViaDirect  Via = "direct"  // the client dialled the device's address
	ViaPunched Via = "punched" // a basestation introduced them, and nobody is between them
	ViaRelay   Via = "relay"   // a basestation carries the bytes, which it cannot read
)

// Info describes a session at one moment.
type Info struct {
	Number   uint64               // counts up from 1 in this process
	Peer     identity.Fingerprint // the key that the peer proved
	Path     Path
	Via      Via
	Protocol string // "http/1.1", "h2" or "h3"
	Local    netip.AddrPort
	Remote   netip.AddrPort
	Since    time.Time // with its monotonic reading
	Paired   bool      // counts under the limit of paired sessions
	Resumed  bool      // the handshake was a resumed one
	Chain    [][]byte  // certificates beside the key, in DER (identity.ChainOf); nil: the bare key
	Requests int       // being served now, tunnels included
}

// A Session is one authenticated connection as the device sees it. Its methods
// may be called from several goroutines.
type Session struct {
	server *Server
	cut    func() // ends the connection now, dropping what was not sent; may be called again
	hangUp func() // ends it with a goodbye; may be called again
	state  func() tls.ConnectionState
	ready  readiness.ReadWriter // of a TLS connection over TCP, nil where the system has no readiness
	done   chan struct{}
	link   *link  // below TLS; nil on QUIC
	from   source // whom its place is charged to; never changes

	mu       sync.Mutex
	info     Info
	over     bool
	leave    func() // takes back what Config.Vouch gave; may be nil
	atEnd    func() // of the tunnel that has the whole session
	draining bool
	idle     *time.Timer // armed while the session has no request and may end for it
}

type contextKey struct{ name string }

var (
	sessionKey = &contextKey{"session"}
	tunnelKey  = &contextKey{"tunnel"}
	visitorKey = &contextKey{"visitor"}
)

// FromRequest returns the session that a request came by. It is never nil for
// a request that the Server handed to its Handler, and nil for any other.
func FromRequest(r *http.Request) *Session {
	s, _ := r.Context().Value(sessionKey).(*Session)
	return s
}

// Info returns what the session is now.
func (s *Session) Info() Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.info
}

// Peer is the fingerprint of the key that the other side proved.
func (s *Session) Peer() identity.Fingerprint { return s.info.Peer } // never changes

// Exporter returns keying material that both sides of this very connection,
// and nobody else, can compute (RFC 8446 §7.5).
func (s *Session) Exporter(label string, context []byte, length int) ([]byte, error) {
	return export(s.state(), label, context, length)
}

func export(state tls.ConnectionState, label string, context []byte, length int) ([]byte, error) {
	return state.ExportKeyingMaterial(label, context, length)
}

// NetConn is the TCP connection below, for asking the kernel about it and for
// nothing else; nil on QUIC.
func (s *Session) NetConn() net.Conn {
	if s.link == nil {
		return nil
	}
	return s.link.Conn
}

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Close ends the session now, its tunnels included.
func (s *Session) Close() {
	s.cut()
	s.finish()
}

// MarkPaired counts the session as a paired one from now on: its key was just
// put on the access list. Where all places for paired sessions are taken it
// stays where it is.
func (s *Session) MarkPaired() { s.server.register.promote(s) }

// begin and end frame a request. A session of an unknown key is closed when it
// asks nothing for a while.
func (s *Session) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.info.Requests++
	s.watchLocked()
}

func (s *Session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.info.Requests--
	s.watchLocked()
}

// drain ends the session as soon as it has no request left.
func (s *Session) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	s.watchLocked()
}

func (s *Session) watchLocked() {
	limit := s.server.limits.UnpairedIdle
	if s.draining {
		limit = drainLinger
	}
	switch {
	case !s.mayEndLocked():
		if s.idle != nil {
			s.idle.Stop()
		}
	case s.idle == nil:
		s.idle = time.AfterFunc(limit, s.endIdle)
	default:
		s.idle.Reset(limit)
	}
}

// mayEndLocked says whether the session is one that ends when it is idle.
// Idle sessions of paired keys are for net/http and quic-go to end.
func (s *Session) mayEndLocked() bool {
	return !s.over && s.info.Requests == 0 && (s.draining || !s.info.Paired)
}

func (s *Session) endIdle() {
	s.mu.Lock()
	still := s.mayEndLocked()
	s.mu.Unlock()
	if still {
		s.hangUp()
		s.finish()
	}
}

// finish takes the session off the books, once.
func (s *Session) finish() {
	s.mu.Lock()
	was := s.over
	s.over = true
	if s.idle != nil {
		s.idle.Stop()
	}
	atEnd := s.atEnd
	s.mu.Unlock()
	if was {
		return
	}
	s.server.register.remove(s)
	s.unvouch()
	close(s.done)
	if atEnd != nil {
		atEnd()
	}
}

// vouched keeps what takes back that somebody vouched for the session.
func (s *Session) vouched(leave func()) {
	s.mu.Lock()
	over := s.over
	s.leave = leave
	s.mu.Unlock()
	if over {
		s.unvouch()
	}
}

// unvouch calls what vouched keeps, once.
func (s *Session) unvouch() {
	s.mu.Lock()
	leave := s.leave
	s.leave = nil
	s.mu.Unlock()
	if leave != nil {
		leave()
	}
}

// whenOver has f called when the session has ended, at once if it has.
func (s *Session) whenOver(f func()) {
	s.mu.Lock()
	over := s.over
	s.atEnd = f
	s.mu.Unlock()
	if over {
		f()
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		return unmapped(a.AddrPort())
	case *net.UDPAddr:
		return unmapped(a.AddrPort())
	}
	return netip.AddrPort{}
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func withSession(ctx context.Context, s *Session) context.Context {
	return context.WithValue(ctx, sessionKey, s)
}
