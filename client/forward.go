package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"

	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
	"github.com/keyholed/keyhole/tunnel"
)

const (
	// localPortOffset is added to a service's usual port for its local one, so
	// that nobody must be root and the number is easy to remember: 10554.
	localPortOffset = 10000

	// browserRefuses is the one port above localPortOffset that browsers do not open
	// (https://fetch.spec.whatwg.org/#bad-port), and just where port 80 would land.
	browserRefuses = 10080

	// maxLocalConns bounds what programs on this machine can open through one
	// local port. The device allows fewer tunnels anyway.
	maxLocalConns = 256
)

// An Opener opens tunnels: a Conn, or a Line, which survives its session.
type Opener interface {
	Connect(ctx context.Context, service, typ string) (session.Stream, error)
}

// ForwardOptions say where a service is to be reached on this machine. The zero
// value is a loopback port near the service's usual one, or any free one.
type ForwardOptions struct {
	Port int    // this port and no other; 0: a fitting one
	Unix string // a Unix socket of this user (mode 0600) instead of a port

	// Failed is told why a connection could not be bridged. It may be called from
	// several goroutines at a time. Nil: nobody is.
	Failed func(error)
}

// A Forward is a local port, or socket, that leads to a service. It is a Task:
// Run serves it until its context ends.
//
// A port is bound to the IPv4 loopback address alone. Other users of this machine
// can reach it all the same; on a shared machine use a Unix socket. What runs in
// a browser is kept out of services of type http: see guard.
type Forward struct {
	via      Opener
	service  api.Service
	options  ForwardOptions
	listener net.Listener
	remove   func() // takes the socket's file away
}

// NewForward opens the local port. Run must be called, or Close.
func NewForward(via Opener, s api.Service, o ForwardOptions) (*Forward, error) {
	f := &Forward{via: via, service: s, options: o, remove: func() {}}
	if f.options.Failed == nil {
		f.options.Failed = func(error) {}
	}
	var err error
	if o.Unix != "" {
		f.listener, f.remove, err = listenUnix(o.Unix)
	} else {
		f.listener, err = listenLoopback(o.Port, s.Port)
	}
	if err != nil {
		return nil, fmt.Errorf("local end of %s: %w", s.Name, err)
	}
	f.listener = limitListener(f.listener, maxLocalConns)
	return f, nil
}

func listenLoopback(asked, usual int) (net.Listener, error) {
	on := func(port int) (net.Listener, error) {
		return net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}
	if asked != 0 {
		return on(asked)
	}
	if port := fittingPort(usual); port != 0 {
		if l, err := on(port); err == nil {
			return l, nil
		}
	}
	return on(0)
}

// fittingPort is the local port for a service's usual one, or 0 where there is none.
func fittingPort(usual int) int {
	port := usual + localPortOffset
	if port == browserRefuses {
		port++
	}
	if usual <= 0 || port >= 1<<16 {
		return 0
	}
	return port
}

// listenUnix makes a socket that is this user's from its first moment: it is made
// inside a directory that nobody else may enter, and then moved into place.
func listenUnix(path string) (net.Listener, func(), error) {
	if err := clearSocket(path); err != nil {
		return nil, nil, err
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".keyhole-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(private)
	made := filepath.Join(private, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	l.SetUnlinkOnClose(false)
	if runtime.GOOS != "windows" {
		err = os.Chmod(made, 0o600)
	}
	if err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	mine, err := os.Lstat(path)
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	remove := func() {
		// Somebody may have put another one there meanwhile.
		if now, err := os.Lstat(path); err == nil && os.SameFile(mine, now) {
			_ = os.Remove(path)
		}
	}
	return l, remove, nil
}

// clearSocket removes a socket that nobody listens on any more, and nothing else.
func clearSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s is there already and is no socket", path)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
		return fmt.Errorf("%s is in use by another program", path)
	}
	return os.Remove(path)
}

// Service is where the port leads.
func (f *Forward) Service() api.Service { return f.service }

// Port is the local port, 0 for a Unix socket.
func (f *Forward) Port() int {
	if a, ok := f.listener.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

// Address is 127.0.0.1:PORT, or the path of the Unix socket.
func (f *Forward) Address() string {
	if f.options.Unix != "" {
		return f.options.Unix
	}
	return f.listener.Addr().String()
}

// URL is how programs name it: rtsp://127.0.0.1:10554/. The address is a number
// because "localhost" may lead to [::1], where somebody else may listen.
func (f *Forward) URL() string {
	if f.options.Unix != "" {
		return "unix:" + f.options.Unix
	}
	switch f.service.Type {
	case "rtsp", "http":
		return f.service.Type + "://" + f.Address() + "/"
	case "ssh":
		return "ssh://" + f.Address()
	}
	return "tcp://" + f.Address()
}

// String names both ends.
func (f *Forward) String() string { return f.Address() + " to " + f.service.Name }

// Close gives the port back without Run.
func (f *Forward) Close() error {
	err := f.listener.Close()
	f.remove()
	return err
}

// Run serves the port until ctx ends, cuts what is open, and returns nil.
func (f *Forward) Run(ctx context.Context) error {
	defer f.remove()
	if f.service.Type == "http" {
		return f.serveWeb(ctx)
	}
	stop := context.AfterFunc(ctx, func() { _ = f.listener.Close() })
	defer stop()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		local, err := f.listener.Accept()
		if err != nil {
			_ = f.listener.Close()
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		open.Go(func() { f.bridge(ctx, local) })
	}
}

// bridge carries one local connection.
func (f *Forward) bridge(ctx context.Context, local net.Conn) {
	defer local.Close()
	// A program that hangs up meanwhile ends the wait when its bytes are pumped.
	stream, err := f.via.Connect(ctx, f.service.Name, f.service.Type)
	if err != nil {
		if ctx.Err() == nil {
			f.options.Failed(err)
		}
		refuseLocal(local)
		return
	}
	half, ok := unlimited(local).(tunnel.Conn)
	if !ok { // cannot be: TCP and Unix sockets both are
		_ = stream.Close()
		return
	}
	tunnel.Pump{}.Run(ctx, half, stream)
}

// refuseLocal ends a connection so that its program sees a failure, not an empty
// answer.
func refuseLocal(c net.Conn) {
	if t, ok := unlimited(c).(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
}

// limited is a listener that holds at most so many open connections; the next
// ones wait in the kernel's queue.
type limited struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func limitListener(l net.Listener, n int) net.Listener {
	return &limited{Listener: l, places: make(chan struct{}, n), closed: make(chan struct{})}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &counted{Conn: c, leave: func() { <-l.places }}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type counted struct {
	net.Conn
	once  sync.Once
	leave func()
}

func (c *counted) Close() error {
	c.once.Do(c.leave)
	return c.Conn.Close()
}

// unlimited returns the socket itself, which the pump can do more with.
func unlimited(c net.Conn) net.Conn {
	if w, ok := c.(*counted); ok {
		return w.Conn
	}
	return c
}

var _ http.Handler = (*guard)(nil)
