package sim

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Limits of the face. One person with a few tabs uses it.
const (
	maxStreams    = 8                // pages that watch at once
	maxEdgeBytes  = 512              // body of an edge: two short names and a flag
	maxFaceHeader = 16 << 10         // request header, bytes
	headerTime    = 5 * time.Second  // to send a request's header, and its body again
	writeTime     = 10 * time.Second // for a page to take what it is sent
	idleTime      = time.Minute      // of a connection without a request
	streamBeat    = 15 * time.Second // between signs of life on a quiet stream
	shutdownTime  = 2 * time.Second  // for requests under way when Serve ends
)

//go:embed assets
var assets embed.FS

// FaceOptions say how the face looks and who may use it.
type FaceOptions struct {
	Title string            // the device's name; empty: "Keyhole"
	Hints map[string]string // by button: a few words below it, such as "press to pair"
	Token string            // the secret a page must show; empty: a new random one
	Log   *slog.Logger      // nil: silent
}

// A Face is the board's front panel as a web page: one can press and hold its
// buttons and sees the display and the light live. It is an http.Handler.
//
// Other web pages and other users of the machine are kept out: the Host must be
// a loopback name with the port of the connection (else a foreign page could
// come by DNS rebinding), a foreign Origin or Sec-Fetch-Site is refused, and
// everything but the static page wants the token. Listening on loopback only is
// the caller's part; Listen does it.
type Face struct {
	board   *Board
	options FaceOptions
	mux     *http.ServeMux

	mu      sync.Mutex
	streams map[string]*stream // guarded by mu; by the id the page was given
}

// NewFace returns the face of board.
func NewFace(board *Board, o FaceOptions) *Face {
	if o.Title == "" {
		o.Title = "Keyhole"
	}
	if o.Token == "" {
		o.Token = rand.Text()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	f := &Face{board: board, options: o, mux: http.NewServeMux(), streams: make(map[string]*stream)}
	for path, name := range map[string]string{
		"/{$}": "face.html", "/face.css": "face.css", "/face.js": "face.js", "/icon.svg": "icon.svg",
	} {
		f.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			http.ServeFileFS(w, r, assets, "assets/"+name)
		})
	}
	f.mux.HandleFunc("GET /events", f.withToken(f.watch))
	f.mux.HandleFunc("POST /edge", f.withToken(f.edge))
	return f
}

// URL returns the address of the page, token included, for a face that is
// served at addr. The token stands in the fragment: a browser sends it to no
// server and puts it in no Referer, and the page takes it out of the address bar.
func (f *Face) URL(addr net.Addr) string {
	return "http://" + addr.String() + "/#token=" + f.options.Token
}

// ServeHTTP is part of http.Handler.
func (f *Face) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setFaceHeaders(w.Header())
	if why := refuse(r); why != "" {
		f.options.Log.Warn("front panel refused a request", "why", why, "path", r.URL.Path)
		http.Error(w, why, http.StatusForbidden)
		return
	}
	f.mux.ServeHTTP(w, r)
}

// Serve serves the face on l until ctx ends, then lets go of all buttons,
// closes l and returns nil.
func (f *Face) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           f,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxFaceHeader,
		ErrorLog:          slog.NewLogLogger(f.options.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx }, // its end ends the streams
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer cancel()
		if server.Shutdown(drain) != nil {
			_ = server.Close() // what did not drain is cut; nothing is left to tell
		}
	})
	err := server.Serve(l)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the front panel: %w", err)
}

// ErrNotLoopback refuses an address that others than this machine can reach.
var ErrNotLoopback = errors.New("not a loopback address")

// Listen opens a TCP listener for a face at host:port. The host must be
// localhost or a loopback address, else the error is ErrNotLoopback.
func Listen(address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("front panel: %w", err)
	}
	if host == "localhost" { // not asked of a resolver, which may think otherwise
		host = "127.0.0.1"
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("front panel at %s: %w", address, ErrNotLoopback)
	}
	return net.Listen("tcp", net.JoinHostPort(host, port))
}
