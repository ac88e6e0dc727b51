// Package admin is the operator's way to a basestation: an HTTPS API with bearer
// tokens, the same API over a Unix socket for the commands on the machine itself,
// metrics for Prometheus, and the two questions of a load balancer, /healthz and
// /readyz.
//
// cmd/keyhole-basestation makes one Server beside the basestation's own. The
// package reads and writes records through the registry and shows what others
// count; it attaches, introduces and relays nothing, and it shows no secret
// twice: tokens and factory secrets are told once, when they are made.
package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/internal/metrics"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Records are the registry, as this package needs it.
type Records interface {
	Device(ctx context.Context, id identity.ID) (registry.Device, error)
	Devices(ctx context.Context, tell func(registry.Device) error) error
	Presence(ctx context.Context, id identity.ID) (registry.Presence, error)
	Presences(ctx context.Context, tell func(identity.ID, registry.Presence) error) error
	Add(ctx context.Context, d registry.Device) error
	Remove(ctx context.Context, id identity.ID) error
	Block(ctx context.Context, id identity.ID, reason string) error
	Unblock(ctx context.Context, id identity.ID) error
	BlockOf(ctx context.Context, id identity.ID) (registry.Block, error)

	Bound(ctx context.Context, serial string) (identity.Fingerprint, error)
	Reopen(ctx context.Context, serial string) error
	PutSecret(ctx context.Context, serial string, s attach.Secret) error
	Secret(ctx context.Context, serial string) (s attach.Secret, known bool, err error)
	RemoveSecret(ctx context.Context, serial string) error

	CreateToken(ctx context.Context, t registry.Token) (text string, err error)
	UseToken(ctx context.Context, text string) (registry.Token, error)
	Tokens(ctx context.Context, tell func(registry.Token) error) error
	RemoveToken(ctx context.Context, hash string) error
}

// Listener is the part of a store that brings events of the whole fleet as they
// happen.
type Listener interface {
	Subscribe(pattern string, hear func(subject string, data []byte, reply func([]byte))) (stop func(), err error)
}

// A Config is what a Server needs.
type Config struct {
	Records Records
	Events  Listener // nil: there are none
	// Pattern is the subjects under which Events has events as JSON.
	Pattern string
	// About tells who this basestation is; it is asked at every request.
	About func() About
	// Nodes are the live nodes of the fleet; nil: this one alone.
	Nodes func() []Node
	// Ready returns nil when this node can serve, or what it waits for.
	Ready func(ctx context.Context) error
	// Metrics write what is shown at /metrics, beside the API's own numbers and
	// those of the process.
	Metrics []func(io.Writer)

	// TLS is the certificate of the HTTPS listener, and Listener that listener
	// itself; without them the API is served on the Unix socket alone.
	TLS      *tls.Certificate
	Listener net.Listener
	// Socket is where the commands on this machine come; nil: nowhere.
	Socket net.Listener

	Version string
	Log     *slog.Logger // nil: silent
}

// Bounds of the API. Its callers are few and trusted; the bounds are there for
// strangers on the port and for programs that go wrong.
const (
	maxConnections    = 256 // further ones wait in the kernel's queue
	maxAtOnce         = 64  // requests that are answered, events apart
	maxStreams        = 64  // of events
	maxHeaderBytes    = 16 << 10
	readTimeout       = 10 * time.Second // of a header, and of a body
	writeTimeout      = 2 * time.Minute  // a page of a million devices, over a slow line
	idleTimeout       = 2 * time.Minute
	shutdownTolerance = 3 * time.Second
)

// A Server answers the operator.
type Server struct {
	Config
	document   []byte // OpenAPI
	own        *metrics.Set
	counts     *counts
	slots      chan struct{}
	streams    chan struct{}
	ready      chan struct{}
	eventWrite time.Duration
	stopping   context.Context // ends the streams of events
	stop       context.CancelFunc
}

// New returns a server that answers when Run is called.
func New(c Config) (*Server, error) {
	if c.Records == nil || c.About == nil || c.Ready == nil {
		return nil, errors.New("admin: Records, About and Ready must be set")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{Config: c, own: metrics.NewSet(), slots: make(chan struct{}, maxAtOnce), streams: make(chan struct{}, maxStreams), ready: make(chan struct{}), eventWrite: eventWrite}
	s.own.Process()
	s.counts = newCounts(s.own)
	s.stopping, s.stop = context.WithCancel(context.Background())
	var err error
	if s.document, err = describe(c.Version); err != nil {
		return nil, fmt.Errorf("describe the API: %w", err)
	}
	return s, nil
}

// Run answers until ctx ends, then closes the listeners, waits shortly for
// requests under way and returns nil. It returns earlier only when a listener
// fails.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 2)
	doors := 0
	serve := func(l net.Listener, h http.Handler, config *tls.Config) {
		doors++
		go func() {
			defer cancel()
			ended <- s.serve(ctx, l, h, config)
		}()
	}
	if s.Listener != nil {
		if s.TLS == nil {
			return errors.New("admin: a listener and no certificate")
		}
		serve(s.Listener, s.Handler(), &tls.Config{Certificates: []tls.Certificate{*s.TLS}, MinVersion: tls.VersionTLS13})
	}
	if s.Socket != nil {
		serve(s.Socket, s.LocalHandler(), nil)
	}
	close(s.ready)
	<-ctx.Done()
	s.stop()
	var errs []error
	for range doors {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}

// Ready is closed when the API is served.
func (s *Server) Ready() <-chan struct{} { return s.ready }

func (s *Server) String() string { return "api" }

func (s *Server) serve(ctx context.Context, l net.Listener, h http.Handler, config *tls.Config) error {
	server := &http.Server{
		Handler:           h,
		TLSConfig:         config,
		ReadHeaderTimeout: readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug), // strangers' handshakes
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTolerance)
		defer cancel()
		if err := server.Shutdown(patience); err != nil {
			_ = server.Close() // the requests that are left had their time
		}
	}()
	limited := newLimitedListener(l, maxConnections)
	var err error
	if config != nil {
		err = server.ServeTLS(limited, "", "")
	} else {
		err = server.Serve(limited)
	}
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return err
}
