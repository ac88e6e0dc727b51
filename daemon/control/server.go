package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/keyholed/keyhole/protocol/api"
)

// Bounds of the control socket. Its clients are our own commands; the bounds
// are there for the one that hangs or is replaced by something odd.
const (
	maxRequestBytes   = 64 << 10 // bodies; handlers of JSON read less
	maxHeaderBytes    = 8 << 10
	maxConnections    = 64               // further ones wait in the kernel's queue
	readTimeout       = 10 * time.Second // header and body of a request of a local process
	writeTimeout      = 60 * time.Second // an accepted pairing answers within 30 s
	idleTimeout       = 60 * time.Second
	shutdownTolerance = 2 * time.Second // for requests that run when Serve ends
)

// A Server answers on the control socket. Handler is required; a nil Log is
// silent.
type Server struct {
	// Handler sees requests of permitted peers only, with PeerFrom in their
	// context.
	Handler http.Handler
	Log     *slog.Logger
}

// Serve answers until ctx ends, then closes l, waits shortly for requests under
// way and returns nil. It returns earlier only when l fails.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	log := s.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	group, hasGroup := groupID()
	gate := &gate{next: s.Handler, log: log, own: uint32(os.Getuid()), group: group, hasGroup: hasGroup}
	server := &http.Server{
		Handler:           http.MaxBytesHandler(gate, maxRequestBytes),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnContext:       contextOf,
	}
	ended := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-ctx.Done():
		case <-ended:
		}
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTolerance)
		defer cancel()
		if err := server.Shutdown(patience); err != nil {
			_ = server.Close() // the requests that are left had their time
		}
	}()
	err := server.Serve(&limitedListener{Listener: l, slots: make(chan struct{}, maxConnections)})
	close(ended)
	<-stopped
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func contextOf(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*limitedConn); ok {
		conn = c.Conn
	}
	p, err := peerOf(conn)
	if err != nil {
		return ctx // without a peer, the gate refuses
	}
	return WithPeer(ctx, p)
}

// gate lets permitted peers through.
type gate struct {
	next     http.Handler
	log      *slog.Logger
	own      uint32
	group    uint32
	hasGroup bool
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p, known := PeerFrom(r.Context())
	if !known || !p.may(g.own, g.group, g.hasGroup) {
		g.log.Warn("local control refused", "user", p.String(), "pid", p.PID, "path", r.URL.Path)
		api.WriteProblem(w, api.Problemf(api.CodeForbidden, "only root and members of the group %s command keyholed", Group))
		return
	}
	g.next.ServeHTTP(w, r)
}

// limitedListener holds back accepting while maxConnections are open.
type limitedListener struct {
	net.Listener
	slots chan struct{}
}

// Accept takes the slot first: when the server stops, closing connections frees
// slots, and then the closed listener ends it.
func (l *limitedListener) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
