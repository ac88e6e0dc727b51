package session

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"

	"github.com/keyholed/keyhole/protocol/identity"
)

const (
	// clientStreamWindow is what a client lets its device send ahead on one
	// tunnel: what is under way at 25 MB/s over a round trip of 160 ms. With 1 MiB
	// a tunnel through the relay was held to 6.5 MB/s by a line of 50 ms, whose
	// queues make that 100 and more, where 20 went through.
	clientStreamWindow = 4 << 20
	// clientWindow is the same for all tunnels of a session together, which
	// share it: were it smaller than all their windows, a few paused players
	// would stop all other tunnels, and requests, for good. It is no
	// reservation, and a client has pinned its device.
	clientWindow = (maxStreams + 4) * clientStreamWindow
)

// A Client is an authenticated session with a device, as the client sees it:
// requests go over it, and tunnels over it or over connections of their own by
// the same way. It may be used by several goroutines.
type Client struct {
	path     Path
	via      Via
	peer     identity.Fingerprint
	remote   net.Addr
	state    func() tls.ConnectionState
	standing carrier
	warm     *warmPool // nil on QUIC, or when there shall be none

	done  chan struct{}
	ended sync.Once
	err   error // set before done closes
}

// carrier is what requests and tunnels travel on.
type carrier interface {
	http.RoundTripper
	connect(ctx context.Context, service string) (Stream, error)
	close()
}

// ErrClosed is the Err of a Client that was closed by its owner.
var ErrClosed = errors.New("session closed")

func newClient(path Path, via Via, peer identity.Fingerprint, remote net.Addr, state func() tls.ConnectionState) *Client {
	return &Client{path: path, via: via, peer: peer, remote: remote, state: state, done: make(chan struct{})}
}

// Peer is the device's fingerprint, as proven.
func (c *Client) Peer() identity.Fingerprint { return c.peer }

// Path is how the session travels.
func (c *Client) Path() Path { return c.path }

// Via is how the two sides came together.
func (c *Client) Via() Via { return c.via }

// RemoteAddr is the device's address, on a relayed session the relay's.
func (c *Client) RemoteAddr() net.Addr { return c.remote }

// Exporter returns keying material of the standing session that the device
// computes as well from its Session (RFC 8446 §7.5).
func (c *Client) Exporter(label string, context []byte, length int) ([]byte, error) {
	return export(c.state(), label, context, length)
}

// Done is closed when the standing session has ended. Tunnels on connections
// of their own may outlive it.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is why the session has ended, nil while it lives, ErrClosed after Close.
func (c *Client) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Close ends the session, its tunnels on it, and the warm connections. Tunnels
// that have a connection of their own are not touched.
func (c *Client) Close() {
	c.end(ErrClosed)
}

func (c *Client) end(err error) {
	c.ended.Do(func() {
		c.err = err
		close(c.done)
		if c.warm != nil {
			c.warm.close()
		}
		c.standing.close()
	})
}

// RoundTrip sends a request on the standing session. Scheme and host of its URL
// are ignored: there is one device at the other end.
func (c *Client) RoundTrip(r *http.Request) (*http.Response, error) {
	return c.standing.RoundTrip(c.aimed(r))
}

// aimed returns a copy of r whose URL names the device.
func (c *Client) aimed(r *http.Request) *http.Request {
	aimed := r.WithContext(r.Context())
	u := url.URL{}
	if r.URL != nil {
		u = *r.URL
	}
	u.Scheme, u.Host = "https", string(c.peer.ID())+".local"
	aimed.URL, aimed.Host = &u, ""
	return aimed
}

// ErrBadService means that a service name has characters that no name has.
var ErrBadService = errors.New("not a service name")

// maxServiceBytes is the longest authority that Connect sends: a name of 32 and a port.
const maxServiceBytes = 255

// Connect opens a tunnel to a service ("cam" or "cam:554"). Bulk asks for a TLS
// connection of the tunnel's own from the warm pool, which is faster for much
// data; when none is ready, and without bulk, it is a stream of the standing
// session. A refusal is a *ConnectError.
//
// Ctx bounds the opening, not the stream.
func (c *Client) Connect(ctx context.Context, service string, bulk bool) (Stream, error) {
	if !plainAuthority(service) {
		return nil, ErrBadService
	}
	if bulk && c.warm != nil {
		stream, err := c.warm.connect(ctx, service)
		if stream != nil || err != nil {
			return stream, err
		}
	}
	return c.standing.connect(ctx, service)
}

// plainAuthority keeps out what would break a request line or mean more than a
// name and a port. Which names exist is for the device to say.
func plainAuthority(s string) bool {
	if s == "" || len(s) > maxServiceBytes {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == ':', c == '_':
		default:
			return false
		}
	}
	return true
}

// connectRequest is the CONNECT for a service, without a body.
func connectRequest(ctx context.Context, service string) *http.Request {
	r := &http.Request{
		Method: http.MethodConnect,
		URL:    &url.URL{Scheme: "https", Host: service},
		Host:   service,
		Header: http.Header{},
	}
	return r.WithContext(ctx)
}

// Busy tells whether requests or tunnels are on the standing session itself; tunnels
// that have a connection of their own do not count. Over QUIC, where nothing
// counts them, it is always true.
func (c *Client) Busy() bool {
	h, ok := c.standing.(*http2Carrier)
	return !ok || h.busy()
}
