package client

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

const (
	webHeaderTimeout = 10 * time.Second
	webHeaderBytes   = 64 << 10 // cookies of a camera's page, with much reserve
	webIdle          = 2 * time.Minute

	// webKeep is how long an idle tunnel waits for the next request. Opening one
	// costs a millisecond; one that is old may have died unnoticed.
	webKeep = 2 * time.Second

	webIdleConns = 8 // a browser opens six
)

// serveWeb serves a service of type http. Requests are taken apart and checked
// one by one, because a browser's next one on the same connection may be another
// page's.
func (f *Forward) serveWeb(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	transport := f.webTransport()
	defer transport.CloseIdleConnections()
	guarded := &guard{service: f.service.Name, port: f.Port(), next: f.webProxy(f.doubting(transport))}
	// Connections, and the requests in them, which outlive what they hijack.
	var open sync.WaitGroup
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			open.Add(1)
			defer open.Done()
			guarded.ServeHTTP(w, r)
		}),
		ConnState: func(_ net.Conn, now http.ConnState) {
			switch now {
			case http.StateNew: // told before Serve goes on, so that Wait comes later
				open.Add(1)
			case http.StateClosed, http.StateHijacked:
				open.Done()
			}
		},
		ReadHeaderTimeout: webHeaderTimeout, MaxHeaderBytes: webHeaderBytes, IdleTimeout: webIdle,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    log.New(io.Discard, "", 0), // a browser that hangs up is no news
	}
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(over)
		_ = server.Close()
	})
	err := server.Serve(f.listener)
	cancel() // ends what was hijacked
	if !stop() {
		<-over
	}
	_ = server.Close()
	open.Wait()
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// webTransport speaks HTTP/1.1 inside tunnels.
func (f *Forward) webTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return f.via.Connect(ctx, f.service.Name, f.service.Type)
		},
		Protocols:           protocols,
		DisableCompression:  true, // what the service sends is passed on as it is
		MaxIdleConnsPerHost: webIdleConns, IdleConnTimeout: webKeep,
	}
}

// doubting raises doubts about the line when an answer takes long: a tunnel that
// was kept from the last request may have died with its session.
func (f *Forward) doubting(next http.RoundTripper) http.RoundTripper {
	line, ok := f.via.(interface{ Doubt() })
	if !ok {
		return next
	}
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		defer time.AfterFunc(doubtAfter, line.Doubt).Stop()
		return next.RoundTrip(r)
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (f *Forward) webProxy(transport http.RoundTripper) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1, // pictures and events go out as they come in
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", f.service.Name
			r.Out.URL.RawQuery = r.In.URL.RawQuery // as it is, what is odd in it included
			r.Out.Host = r.In.Host                 // redirects of the service stay on the local port
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				return // the browser has gone, or we go
			}
			f.options.Failed(err)
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "keyhole: "+err.Error()+"\n")
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
}
