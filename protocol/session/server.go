package session

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/keyholed/keyhole/protocol/identity"
)

// Config is what a Server needs.
type Config struct {
	// Key is the device's.
	Key *identity.Key
	// Handler serves every session, whatever its path and protocol.
	Handler http.Handler
	// Known tells whether a key is paired, which decides the limit it counts
	// under. It is asked once for each handshake and must not block. Nil knows nobody.
	Known func(identity.Fingerprint) bool
	// Welcome tells of an unpaired key that it finds a place among the unpaired ones
	// when they are all taken: the oldest idle session of another that is not welcome
	// makes room. It is asked then alone, and must not block. Nil welcomes nobody.
	Welcome func(identity.Fingerprint) bool
	// Vouch is asked once for each session whose peer has shown certificates beside
	// its key (Info.Chain), resumed ones included, before any request and before
	// Observe. What it returns is called when the session has ended; nil says that
	// the certificates are worth nothing, and the session is as good as without.
	// It may take as long as a few signatures. Nil vouches for nobody.
	Vouch func(Info) (leave func())
	// ResetKey is the device's for QUIC. Kept over restarts it has clients see at
	// their next packet that the session is gone; zero, they wait a minute.
	ResetKey ResetKey
	// Limits; zero fields are their defaults.
	Limits Limits
	// Observe, if not nil, is told of every session that begins, and with true
	// when it has ended. It must not block. The two calls of a session that is
	// over at once may come in either order.
	Observe func(s Info, ended bool)
	// Log; nil is silence.
	Log *slog.Logger
}

// A Server is the device's side of all sessions.
type Server struct {
	config   Config
	limits   Limits
	log      *slog.Logger
	door     *door
	register *register
	tickets  *tickets
	expected proven

	tcp         *tls.Config
	quic        *tls.Config
	web         *http.Server // HTTP/1.1 and HTTP/2
	strangers   *http.Server // the same, with less for each
	refuser     *http.Server // tells those for whom there is no place
	h3          *http3.Server
	toWeb       *handover
	toStrangers *handover
	toRefuse    *handover

	refusing atomic.Int32 // peers being told

	ctx  context.Context // ends with Close
	stop context.CancelFunc

	mu      sync.Mutex
	closing bool               // no new connection
	closed  bool               // no new request
	doors   map[io.Closer]bool // listeners and QUIC transports being served
	work    sync.WaitGroup     // accept loops, handshakes, handlers; Add under mu while the flags allow
}

// NewServer makes a server that listens to nothing yet.
func NewServer(c Config) *Server {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Welcome == nil {
		c.Welcome = func(identity.Fingerprint) bool { return false }
	}
	if c.Known == nil {
		c.Known = func(identity.Fingerprint) bool { return false }
	}
	limits := c.Limits.withDefaults()
	s := &Server{
		config:   c,
		limits:   limits,
		log:      c.Log,
		door:     newDoor(limits.Unauthenticated),
		register: newRegister(limits, c.Observe),
		tickets:  newTickets(),
		tcp:      identity.ServerTLS(c.Key, "h2", "http/1.1"),
		quic:     identity.ServerTLS(c.Key, http3.NextProtoH3),
		doors:    make(map[io.Closer]bool),

		toWeb: newHandover(), toStrangers: newHandover(), toRefuse: newHandover(),
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.tickets.use(s.tcp)
	s.tickets.use(s.quic)
	s.web = s.newWeb(http.HandlerFunc(s.serve), s.toWeb, http2Config())
	s.web.IdleTimeout = limits.Idle
	s.strangers = s.newWeb(http.HandlerFunc(s.serve), s.toStrangers, http2ConfigOfStrangers())
	s.strangers.IdleTimeout = limits.Idle // for who is paired meanwhile; others have a timer
	s.refuser = s.newWeb(http.HandlerFunc(refuse), s.toRefuse, http2ConfigOfStrangers())
	s.refuser.IdleTimeout = refusalTimeout
	s.h3 = s.newHTTP3()
	// Their errors say no more than that they were closed.
	s.work.Go(func() { _ = s.web.Serve(s.toWeb) })
	s.work.Go(func() { _ = s.strangers.Serve(s.toStrangers) })
	s.work.Go(func() { _ = s.refuser.Serve(s.toRefuse) })
	return s
}

// newWeb is for the connections that come by from.
func (s *Server) newWeb(h http.Handler, from *handover, config *http.HTTP2Config) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	web := &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: s.limits.Header,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             config,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return withSession(ctx, from.sessionOf(c))
		},
	}
	return web
}

const (
	// What a peer may send ahead on one HTTP/2 stream. Uploads that want more
	// have a connection of their own.
	http2StreamWindow = 64 << 10
	// http2SessionWindow is the same for a session of a paired key: as much as
	// 64 tunnels, twice a peer's usual share, take when nobody reads any of them, and room
	// for requests beside them.
	http2SessionWindow = (64 + 4) * http2StreamWindow
)

// http2Config bounds the memory of an HTTP/2 session.
func http2Config() *http.HTTP2Config {
	return &http.HTTP2Config{
		// As many as HTTP/3 has; the tunnel room has limits of its own.
		MaxConcurrentStreams: maxStreams,
		// What Go clients copy an upload through is as large as this, for each
		// stream; 16 KiB is also the size of a TLS record.
		MaxReadFrameSize:              16 << 10,
		MaxReceiveBufferPerStream:     http2StreamWindow,
		MaxReceiveBufferPerConnection: http2SessionWindow,
		// A peer that accepts not one byte for this long is gone; a tunnel that
		// is not read blocks only its stream, not the connection.
		WriteByteTimeout: time.Minute,
	}
}

// http2ConfigOfStrangers is for unknown keys, who have to ask for hello and
// pairing and nothing else. Each request holds some 10 KiB, so that 32 of them
// with 256 streams each would take all the memory that there is. A session that
// is paired meanwhile keeps it: our client opens another when one is full.
func http2ConfigOfStrangers() *http.HTTP2Config {
	c := http2Config()
	c.MaxConcurrentStreams = strangerStreams
	c.MaxReceiveBufferPerConnection = 256 << 10
	return c
}

const strangerStreams = 16

// maxStreams is how many requests one session may have open.
const maxStreams = 256

// serve frames each request of a session.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	session := FromRequest(r)
	if !s.beginRequest() {
		refuse(w, r)
		return
	}
	session.begin()
	done := func() {
		session.end()
		s.work.Done()
	}
	if r.Method == http.MethodConnect && r.ProtoMajor == 1 {
		s.takeOver(w, r, session, done)
		return
	}
	defer done()
	if r.Method != http.MethodConnect {
		s.config.Handler.ServeHTTP(w, r)
		return
	}
	t := new(tunnel)
	defer t.handlerDone()
	s.config.Handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tunnelKey, t)))
}

// refuse answers whoever came when all places were taken.
func refuse(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Connection", "close")
	h.Set("Retry-After", "30")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, `{"status":503,"title":"Too many sessions","detail":"All places for sessions of this kind are taken. Try again later."}`+"\n")
}

// Sessions returns the live sessions, oldest first.
func (s *Server) Sessions() []Info {
	all := s.register.all()
	list := make([]Info, len(all))
	for i, one := range all {
		list[i] = one.Info()
	}
	return list
}

// CloseSessions cuts the sessions that match picks, their tunnels included,
// before it returns, and says how many they were. No resumption ticket handed
// out so far is worth anything afterwards.
func (s *Server) CloseSessions(match func(Info) bool) int {
	s.tickets.forget()
	var matched []*Session
	for _, one := range s.register.all() {
		if match(one.Info()) {
			one.cut()
			matched = append(matched, one)
		}
	}
	// What is told of each ending may write to a disk, which must not keep the
	// others open.
	for _, one := range matched {
		one.finish()
	}
	return len(matched)
}

// begin registers something that Close has to close; false means that the
// server is closing already.
func (s *Server) begin(c io.Closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.doors[c] = true
	s.work.Add(1)
	return true
}

func (s *Server) ended(c io.Closer) {
	s.mu.Lock()
	delete(s.doors, c)
	s.mu.Unlock()
	s.work.Done()
}

// beginRequest has Close wait for a handler; false means that it came too late.
func (s *Server) beginRequest() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.work.Add(1)
	return true
}

// closeDoors stops accepting.
func (s *Server) closeDoors() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	var errs []error
	for c := range s.doors {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Shutdown accepts nobody any more, waits until no session has a request or a
// tunnel left, and closes. When ctx ends first the rest is cut and ctx's error
// returned.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.closeDoors()
	s.register.close()
	var goodbye sync.WaitGroup
	defer goodbye.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	goodbye.Go(func() { _ = s.web.Shutdown(ctx) }) // tells HTTP/2 clients and closes idle connections
	goodbye.Go(func() { _ = s.strangers.Shutdown(ctx) })
	goodbye.Go(func() { _ = s.h3.Shutdown(ctx) })
	for _, one := range s.register.all() {
		one.drain()
	}
	for _, one := range s.register.all() {
		select {
		case <-one.done:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), s.Close())
		}
	}
	return errors.Join(err, s.Close())
}

// Close cuts everything and returns when all handlers have. They see their
// streams fail and their request's context end. No handler may call Close.
func (s *Server) Close() error {
	err := s.closeDoors()
	s.register.close()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.door.evictAll()
	for _, one := range s.register.all() {
		one.Close()
	}
	_ = s.web.Close() // the sessions are cut: only its own listener is left, our hand-over
	_ = s.strangers.Close()
	_ = s.refuser.Close()
	s.work.Wait()
	return err
}
