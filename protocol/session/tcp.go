package session

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/keyholed/keyhole/internal/readiness"
	"github.com/keyholed/keyhole/protocol/identity"
)

// keepAlive finds peers that vanished without a word within a minute.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// acceptPause is how long accepting rests when the system is out of
// descriptors or memory.
const acceptPause = 50 * time.Millisecond

// ServeTCP accepts sessions from l until Shutdown or Close, then returns nil. It
// closes l. Several listeners may be served at once.
func (s *Server) ServeTCP(l net.Listener) error {
	if !s.begin(l) {
		return l.Close()
	}
	defer s.ended(l)
	for {
		tcp, err := l.Accept()
		if err == nil {
			s.welcome(tcp, &arrival{via: s.viaOf(addrPort(tcp.RemoteAddr()))})
			continue
		}
		if s.isClosing() {
			return nil
		}
		if temporary, ok := err.(interface{ Temporary() bool }); !ok || !temporary.Temporary() {
			_ = l.Close() // the first error is the one to tell
			return err
		}
		s.log.Warn("accepting pauses", "address", l.Addr().String(), "error", err)
		select {
		case <-time.After(acceptPause):
		case <-s.ctx.Done():
		}
	}
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// ServeConn takes a connection that something else than a listener brought: a
// hole that was punched, a leg of a relay. The peer is the TLS client, whoever
// connected. It returns at once; the connection is the server's.
func (s *Server) ServeConn(conn net.Conn, via Via) { s.welcome(conn, &arrival{via: via}) }

// ServeIntroduced is ServeConn for the one peer whom an introduction was about:
// whoever else comes by it is cut after the handshake, before any request. Its
// place at the door is charged to that peer, because behind a relay all have the
// relay's address, and one of them could push out all others. Over, if not nil, is
// called once when the connection has closed; it must not block.
func (s *Server) ServeIntroduced(conn net.Conn, via Via, peer identity.Fingerprint, over func()) {
	s.welcome(conn, &arrival{via: via, only: peer, over: over})
}

// Expect says that whoever begins a session from an address within the next
// provenLife was punched through to us: when two connect to each other at the
// same moment, either side's listener may get the connection, and a QUIC packet
// may come sooner than the word that its sender is Proven. Port 0 is every port of
// the address: behind a symmetric router nobody knows which one it will be.
func (s *Server) Expect(from netip.AddrPort) { s.expected.add(from, time.Now()) }

func (s *Server) viaOf(from netip.AddrPort) Via {
	now := time.Now()
	if s.expected.has(from, now) || s.expected.has(netip.AddrPortFrom(from.Addr(), 0), now) {
		return ViaPunched
	}
	return ViaDirect
}

// An arrival is how a connection came.
type arrival struct {
	via  Via
	only identity.Fingerprint // who may use it; zero: anybody
	over func()               // called once when it has closed; may be nil
}

// errOther means that somebody else came than who was introduced.
var errOther = errors.New("not the peer that was introduced")

func (a *arrival) source(tcp net.Conn) source {
	if !a.only.IsZero() {
		return source{peer: a.only}
	}
	return sourceOf(addrPort(tcp.RemoteAddr()))
}

// welcome counts a new connection and starts its handshake.
func (s *Server) welcome(tcp net.Conn, a *arrival) {
	if c, ok := tcp.(*net.TCPConn); ok {
		_ = c.SetKeepAliveConfig(keepAlive) // a peer that is gone already is found by the handshake
	}
	l, over, gate := newLink(tcp)
	l.gone = a.over
	v := &visitor{from: a.source(tcp), cut: l.cut}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || !s.door.enter(v) {
		l.cut()
		return
	}
	s.work.Go(func() { s.greet(v, a, l, over, gate) })
}

// greet brings a connection from its first byte to net/http. Its goroutine ends
// there: a handshake needs a deep stack, and an idle session shall not keep it.
func (s *Server) greet(v *visitor, a *arrival, l *link, over net.Conn, gate *readiness.Gate) {
	conn := tls.Server(over, s.tcp)
	err := s.shake(conn, l)
	if !s.door.leave(v) || err != nil {
		s.log.Debug("handshake refused", "remote", l.RemoteAddr().String(), "error", err)
		_ = conn.Close() // an alert has told what can be told
		return
	}
	session, err := s.tcpSession(conn, v, a, l, gate)
	switch {
	case errors.Is(err, errFull):
		s.log.Info("session refused", "peer", session.info.Peer.Short(), "remote", session.info.Remote.String(), "error", err)
		s.refuse(conn, l)
	case err != nil || !session.waitFirst(l, s.limits.Idle) || !s.webFor(session).give(conn, session):
		_ = conn.Close()
	}
}

func (s *Server) webFor(session *Session) *handover {
	if session.Info().Paired {
		return s.toWeb
	}
	return s.toStrangers
}

func (s *Server) shake(conn *tls.Conn, l *link) error {
	if err := l.SetDeadline(time.Now().Add(s.limits.Handshake)); err != nil {
		return err
	}
	l.shaking = true
	err := conn.Handshake()
	l.shaking = false
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return errors.Join(err, l.SetDeadline(time.Time{}))
}

func (s *Server) tcpSession(conn *tls.Conn, v *visitor, a *arrival, l *link, gate *readiness.Gate) (*Session, error) {
	state := conn.ConnectionState()
	peer, err := identity.PeerOf(state)
	if err != nil {
		return nil, err // VerifyConnection has let it pass: cannot be
	}
	if !a.only.IsZero() && peer != a.only {
		return nil, errOther
	}
	protocol := state.NegotiatedProtocol
	if protocol == "" {
		protocol = "http/1.1"
	}
	session := &Session{
		server: s,
		cut:    l.cut,
		hangUp: func() { _ = conn.Close() },
		state:  conn.ConnectionState,
		done:   make(chan struct{}),
		link:   l,
		from:   v.from,
		info: Info{
			Peer: peer, Path: PathTCP, Via: a.via, Protocol: protocol,
			Local: addrPort(l.LocalAddr()), Remote: addrPort(l.RemoteAddr()),
			Since: time.Now(), Resumed: state.DidResume, Chain: identity.ChainOf(state),
		},
	}
	if gate != nil {
		session.ready = gate.Over(conn)
	}
	// From here on Close, by whomever, takes the session off the books.
	l.whenClosed(session.finish)
	return session, s.register.add(session, &s.config)
}

// waitFirst waits for the first byte of the first request of an HTTP/1.1
// session. A client keeps such sessions warm for its next tunnel; until then
// they cost neither net/http's buffers nor its header time-out.
func (s *Session) waitFirst(l *link, limit time.Duration) bool {
	if s.ready == nil || s.info.Protocol != "http/1.1" {
		return true
	}
	if err := l.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return false
	}
	if err := s.ready.WaitRead(); err != nil {
		return false
	}
	return l.SetReadDeadline(time.Time{}) == nil
}

// refuse tells the peer in a proper response, where not too many are being told.
func (s *Server) refuse(conn *tls.Conn, l *link) {
	if s.refusing.Add(1) > maxRefusals {
		s.refusing.Add(-1)
		l.cut()
		return
	}
	over := time.AfterFunc(refusalTimeout, l.cut)
	l.whenClosed(func() {
		over.Stop()
		s.refusing.Add(-1)
	})
	if !s.toRefuse.give(conn, nil) {
		_ = conn.Close()
	}
}
