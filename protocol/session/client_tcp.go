package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/keyholed/keyhole/internal/readiness"
	"github.com/keyholed/keyhole/protocol/identity"
)

// maxStanding is how many HTTP/2 connections one client opens when its streams
// are more than one takes (256).
const maxStanding = 4

// tcpDoor opens TLS connections to one device.
type tcpDoor struct {
	address string                                  // where open goes; behind a relay only a name for it
	config  *tls.Config                             // without ALPN
	open    func(context.Context) (net.Conn, error) // nil: dial address
	once    bool                                    // one connection is all there is to have
}

func (d *tcpDoor) connect(ctx context.Context) (net.Conn, error) {
	if d.open != nil {
		return d.open(ctx)
	}
	return tcpDialer.DialContext(ctx, "tcp", d.address)
}

// secured is one TLS connection; ready is nil where there is no readiness.
type secured struct {
	*tls.Conn
	link  *link
	ready readiness.ReadWriter
}

func (d *tcpDoor) dial(ctx context.Context, protocol string) (*secured, error) {
	tcp, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	config := d.config.Clone()
	config.NextProtos = []string{protocol}
	l, over, gate := newLink(tcp)
	conn := tls.Client(over, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != protocol {
		_ = conn.Close()
		return nil, errors.New("the device does not speak " + protocol)
	}
	s := &secured{Conn: conn, link: l}
	if gate != nil {
		s.ready = gate.Over(conn)
	}
	return s, nil
}

func dialTCP(ctx context.Context, address string, c *DialConfig) (*Client, error) {
	config := identity.ClientTLS(c.Key, c.Pin)
	config.ClientSessionCache = c.Resumption.of(c.Key.Fingerprint(), PathTCP)
	return dialDoor(ctx, &tcpDoor{address: address, config: config}, ViaDirect, c)
}

// DialConn connects over TLS on what open returns, which is a connection to the
// device by whatever way: a hole that was punched, a leg of a relay. Open is
// called once now; with WarmConns above 0 it is called for each warm connection
// too, and when the standing session has no stream left, and must then give
// another connection to the same device. 0 is none here.
func DialConn(ctx context.Context, open func(context.Context) (net.Conn, error), via Via, c DialConfig) (*Client, error) {
	if c.WarmConns == 0 {
		c.WarmConns = -1
	}
	c = c.withDefaults()
	config := identity.ClientTLS(c.Key, c.Pin)
	config.ClientSessionCache = c.Resumption.of(c.Key.Fingerprint(), PathTCP)
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	client, err := dialDoor(ctx, &tcpDoor{config: config, open: open, once: c.WarmConns < 0}, via, &c)
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", PathTCP, via, err)
	}
	return client, nil
}

func dialDoor(ctx context.Context, door *tcpDoor, via Via, c *DialConfig) (*Client, error) {
	first, err := door.dial(ctx, "h2")
	if err != nil {
		return nil, err
	}
	state := first.ConnectionState()
	peer, err := identity.PeerOf(state)
	if err != nil {
		_ = first.Close()
		return nil, err
	}
	// Names are resolved once: everything else goes where the first one went.
	door.address = first.RemoteAddr().String()
	client := newClient(PathTCP, via, peer, first.RemoteAddr(), first.ConnectionState)
	h := &http2Carrier{door: door, local: first.LocalAddr(), remote: first.RemoteAddr(), client: client}
	client.standing = h
	h.transport = h.newTransport()
	if c.WarmConns > 0 {
		most := manyWarm
		if via == ViaRelay {
			most = c.WarmConns
		}
		client.warm = newWarmPool(door, c.WarmConns, most, c.Log)
	}
	if err := h.add(ctx, first); err != nil {
		client.Close()
		_ = first.Close()
		return nil, err
	}
	return client, nil
}

// http2Carrier carries requests as HTTP/2 over one connection, or a few when
// one is full. The end of the first is the end of the client.
type http2Carrier struct {
	door          *tcpDoor
	local, remote net.Addr
	transport     *http.Transport
	client        *Client

	opening sync.Mutex // held while a connection is being added

	mu     sync.Mutex
	closed bool
	conns  []*http.ClientConn // the first is the standing one
}

// dialKey hands a connection that is open already to http.Transport's dialler.
type dialKey struct{}

func (h *http2Carrier) newTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return &http.Transport{
		Protocols: protocols,
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, _ := ctx.Value(dialKey{}).(*tls.Conn)
			return conn, nil
		},
		DisableCompression:     true, // the device never compresses; a stream must not be touched
		MaxResponseHeaderBytes: 64 << 10,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:               30 * time.Second, // a device that lost power is noticed
			PingTimeout:                   15 * time.Second,
			MaxReceiveBufferPerStream:     clientStreamWindow,
			MaxReceiveBufferPerConnection: clientWindow, // net/http's default where it will not have it, which is larger
			WriteByteTimeout:              time.Minute,
		},
	}
}

// add makes a TLS connection one that carries requests.
func (h *http2Carrier) add(ctx context.Context, s *secured) error {
	cc, err := h.transport.NewClientConn(context.WithValue(ctx, dialKey{}, s.Conn), "https", h.door.address)
	if err != nil {
		return err
	}
	h.mu.Lock()
	first := len(h.conns) == 0
	h.conns = append(h.conns, cc)
	closed := h.closed
	h.mu.Unlock()
	if closed {
		return errors.Join(ErrClosed, cc.Close())
	}
	s.link.whenClosed(func() {
		if first {
			err := cc.Err()
			if err == nil {
				err = net.ErrClosed
			}
			go h.client.end(err)
		} else {
			h.drop(cc)
		}
	})
	return nil
}

func (h *http2Carrier) drop(cc *http.ClientConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, other := range h.conns {
		if other == cc {
			h.conns = append(h.conns[:i], h.conns[i+1:]...)
			return
		}
	}
}

// reserve finds a connection with a free stream; nil means that all are full.
func (h *http2Carrier) reserve() (*http.ClientConn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	for _, cc := range h.conns {
		if cc.Reserve() == nil {
			return cc, nil
		}
	}
	return nil, nil
}

// conn returns a connection with a stream reserved, opening one if need be. At
// the limit it returns the first, where RoundTrip waits for a stream.
func (h *http2Carrier) conn(ctx context.Context) (*http.ClientConn, error) {
	if cc, err := h.reserve(); cc != nil || err != nil {
		return cc, err
	}
	h.opening.Lock()
	defer h.opening.Unlock()
	if cc, err := h.reserve(); cc != nil || err != nil {
		return cc, err
	}
	h.mu.Lock()
	first, n := h.conns[0], len(h.conns)
	h.mu.Unlock()
	if err := first.Err(); err != nil {
		return nil, err
	}
	if n < maxStanding && !h.door.once {
		s, err := h.door.dial(ctx, "h2")
		if err != nil {
			return nil, err
		}
		if err := h.add(ctx, s); err != nil {
			_ = s.Close()
			return nil, err
		}
		if cc, err := h.reserve(); cc != nil || err != nil {
			return cc, err
		}
	}
	return first, nil
}

func (h *http2Carrier) RoundTrip(r *http.Request) (*http.Response, error) {
	cc, err := h.conn(r.Context())
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as RoundTripper promises
		}
		return nil, err
	}
	return cc.RoundTrip(r)
}

func (h *http2Carrier) connect(ctx context.Context, service string) (Stream, error) {
	// The request's context would end the stream with it; ours ends with the stream.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	inner, outer := net.Pipe()
	r := connectRequest(life, service)
	r.Body, r.ContentLength = inner, -1
	r.Header.Set(chunksHeader, chunksValue)
	response, err := h.RoundTrip(r)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil && response.StatusCode != http.StatusOK {
		err = refused(response)
	}
	if err != nil {
		cancel()
		_ = outer.Close()
		_ = inner.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return newClientStream(response, outer, inner, cancel, h.local, h.remote), nil
}

func (h *http2Carrier) close() {
	h.mu.Lock()
	h.closed = true
	conns := slices.Clone(h.conns) // each that closes is dropped from h.conns meanwhile
	h.mu.Unlock()
	for _, cc := range conns {
		_ = cc.Close()
	}
}

func (h *http2Carrier) busy() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.conns, func(cc *http.ClientConn) bool { return cc.InFlight() > 0 })
}
