package session

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/keyholed/keyhole/protocol/identity"
)

const (
	// quicIdle is how long a QUIC peer may be silent. The client sends
	// something at least every quicKeepAlive; a peer that vanished costs 80 KiB
	// until this has passed.
	quicIdle      = time.Minute
	quicKeepAlive = 25 * time.Second // NATs forget a UDP flow after 30 s and more (RFC 4787 §4.3)

	// Windows bound what a peer can make us buffer. They begin small and grow
	// while what comes is read: a stream that nobody reads holds 64 KiB, and
	// one session whose streams nobody reads 1 MiB, so a few stuck uploads do
	// not stop the others. 1 MiB on a stream fills 100 Mbit/s over 80 ms; the
	// library's 6 and 15 MB would let 20 peers take a small board's memory.
	quicFirstStreamWindow  = 64 << 10
	quicStreamWindow       = 1 << 20
	quicFirstSessionWindow = 1 << 20
	quicSessionWindow      = 4 << 20

	// A peer needs one control stream and two of QPACK (RFC 9114 §6.2).
	quicUniStreams = 8
)

func quicConfig(handshake time.Duration) *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           handshake / 2, // quic-go gives twice this to the whole handshake
		MaxIdleTimeout:                 quicIdle,
		InitialStreamReceiveWindow:     quicFirstStreamWindow,
		MaxStreamReceiveWindow:         quicStreamWindow,
		InitialConnectionReceiveWindow: quicFirstSessionWindow,
		MaxConnectionReceiveWindow:     quicSessionWindow,
		MaxIncomingStreams:             maxStreams,
		MaxIncomingUniStreams:          quicUniStreams,
		Allow0RTT:                      false, // a replayed CONNECT is not harmless
	}
}

// A quicVisitor travels in the context of a QUIC connection.
type quicVisitor struct {
	visitor
	via     Via
	session *Session // set before HTTP/3 begins
}

func (s *Server) newHTTP3() *http3.Server {
	return &http3.Server{
		Handler:        http.HandlerFunc(s.serve),
		MaxHeaderBytes: maxHeaderBytes,
		IdleTimeout:    s.limits.Idle,
		Logger:         s.log,
		ConnContext: func(ctx context.Context, c *quic.Conn) context.Context {
			v, _ := c.Context().Value(visitorKey).(*quicVisitor)
			return withSession(ctx, v.session)
		},
	}
}

// ServeQUIC is ServeSocket for a UDP socket that QUIC has to itself. It owns
// the socket from now on and closes it.
func (s *Server) ServeQUIC(udp *net.UDPConn) error {
	socket := NewSocket(udp)
	defer func() { _ = socket.Close() }() // the sessions are closed, each by itself; nothing can be lost
	return s.ServeSocket(socket)
}

// ServeSocket accepts sessions from a socket until Shutdown or Close, then
// returns nil. The socket stays the caller's, who closes it after that.
//
// Before a source has proven its address it gets a Retry, which is a tenth of
// what it sent. Without, it would get three times as much (RFC 9000 §8.1), and
// devices would do as amplifiers. Who was here before brings a token and is
// spared the round trip, and so is who is Proven.
func (s *Server) ServeSocket(socket *Socket) error {
	if err := socket.begin(s); err != nil {
		if s.isClosing() {
			return nil
		}
		return err
	}
	l, err := socket.transport.Listen(s.quic, quicConfig(s.limits.Handshake))
	if err != nil {
		return err
	}
	if !s.begin(l) {
		return l.Close()
	}
	defer s.ended(l)
	var sessions sync.WaitGroup
	for {
		conn, err := l.Accept(s.ctx)
		if err == nil {
			s.greetQUIC(conn, &sessions)
			continue
		}
		sessions.Wait()
		if s.isClosing() {
			return nil
		}
		return err
	}
}

var errNoRoom = errors.New("too many unfinished handshakes")

// knock runs for each first packet, before the handshake.
func (s *Server) knock(ctx context.Context, from *quic.ClientInfo, via Via) (context.Context, error) {
	v := &quicVisitor{visitor: visitor{from: sourceOf(addrPort(from.RemoteAddr))}, via: via}
	if !s.door.enter(&v.visitor) {
		return nil, errNoRoom
	}
	// The context ends with the connection or its failed handshake.
	context.AfterFunc(ctx, func() { s.door.leave(&v.visitor) })
	return context.WithValue(ctx, visitorKey, v), nil
}

// greetQUIC takes a connection whose handshake is done and serves it in a
// goroutine of sessions.
func (s *Server) greetQUIC(conn *quic.Conn, sessions *sync.WaitGroup) {
	v, ok := conn.Context().Value(visitorKey).(*quicVisitor)
	if !ok {
		return // every connection came through knock
	}
	s.door.leave(&v.visitor)
	sessions.Go(func() { s.serveQUIC(conn, v) }) // certificates are looked at there: accepting goes on meanwhile
}

func (s *Server) serveQUIC(conn *quic.Conn, v *quicVisitor) {
	session, err := s.quicSession(conn, v)
	if err != nil {
		s.log.Info("session refused", "path", string(PathQUIC), "remote", conn.RemoteAddr().String(), "error", err)
		_ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad), err.Error())
		return
	}
	v.session = session
	context.AfterFunc(conn.Context(), session.finish)
	if err := s.h3.ServeQUICConn(conn); err != nil {
		s.log.Debug("session ended", "peer", session.info.Peer.Short(), "error", err)
	}
	session.hangUp()
}

func (s *Server) quicSession(conn *quic.Conn, v *quicVisitor) (*Session, error) {
	state := conn.ConnectionState().TLS
	peer, err := identity.PeerOf(state)
	if err != nil {
		return nil, err // VerifyConnection has let it pass: cannot be
	}
	hangUp := func() { _ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "") }
	session := &Session{
		server: s,
		cut:    hangUp, // QUIC drops what was not sent in any case
		hangUp: hangUp,
		state:  func() tls.ConnectionState { return conn.ConnectionState().TLS },
		done:   make(chan struct{}),
		from:   v.from,
		info: Info{
			Peer: peer, Path: PathQUIC, Via: v.via, Protocol: http3.NextProtoH3,
			Local: addrPort(conn.LocalAddr()), Remote: addrPort(conn.RemoteAddr()),
			Since: time.Now(), Resumed: state.DidResume, Chain: identity.ChainOf(state),
		},
	}
	return session, s.register.add(session, &s.config)
}
