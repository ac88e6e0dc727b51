package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/keyholed/keyhole/protocol/identity"
)

// http3Carrier carries requests as HTTP/3 over one QUIC connection.
type http3Carrier struct {
	conn *quic.Conn
	web  *http3.ClientConn
}

// dialQUIC tries all addresses of a name: a net.Dialer does that for TCP.
func dialQUIC(ctx context.Context, address string, c *DialConfig) (*Client, error) {
	remotes, err := resolveUDP(ctx, address, c.lookup)
	if err != nil {
		return nil, err
	}
	return race(ctx, len(remotes), func(ctx context.Context, i int) (*Client, error) {
		return dialUDP(ctx, remotes[i], c)
	})
}

func dialUDP(ctx context.Context, remote *net.UDPAddr, c *DialConfig) (*Client, error) {
	udp, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, err
	}
	socket := NewSocket(udp)
	closeSocket := func() { _ = socket.Close() }
	client, err := dialOn(ctx, socket, remote, ViaDirect, c)
	if err != nil {
		closeSocket()
		return nil, err
	}
	client.afterQUIC(closeSocket)
	return client, nil
}

// DialSocket connects over QUIC from a socket that is open already to the one
// address that a punch has proven. The socket stays the caller's: sessions on
// it end when he closes it, and not the other way round.
func DialSocket(ctx context.Context, s *Socket, to netip.AddrPort, c DialConfig) (*Client, error) {
	c = c.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	client, err := dialOn(ctx, s, net.UDPAddrFromAddrPort(to), ViaPunched, &c)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", PathQUIC, to, err)
	}
	client.afterQUIC(nil)
	return client, nil
}

func dialOn(ctx context.Context, socket *Socket, remote *net.UDPAddr, via Via, c *DialConfig) (*Client, error) {
	if err := socket.begin(nil); err != nil {
		return nil, err
	}
	config := identity.ClientTLS(c.Key, c.Pin, http3.NextProtoH3)
	config.ClientSessionCache = c.Resumption.of(c.Key.Fingerprint(), PathQUIC)
	quicConfig := quicConfig(dialTimeout)
	quicConfig.TokenStore = c.Resumption.tokensOf(c.Key.Fingerprint())
	quicConfig.KeepAlivePeriod = quicKeepAlive
	quicConfig.MaxIncomingStreams = -1 // a device opens none
	quicConfig.InitialStreamReceiveWindow = clientStreamWindow
	quicConfig.InitialConnectionReceiveWindow = clientWindow
	quicConfig.MaxConnectionReceiveWindow = clientWindow
	conn, err := socket.transport.Dial(ctx, remote, config, quicConfig)
	if err != nil {
		return nil, err
	}
	h := &http3Carrier{conn: conn}
	peer, err := identity.PeerOf(conn.ConnectionState().TLS)
	if err != nil {
		h.close()
		return nil, err
	}
	h.web = (&http3.Transport{DisableCompression: true, MaxResponseHeaderBytes: 64 << 10}).NewClientConn(h.conn)
	client := newClient(PathQUIC, via, peer, conn.RemoteAddr(), func() tls.ConnectionState { return conn.ConnectionState().TLS })
	client.standing = h
	return client, nil
}

// afterQUIC ends the client with its QUIC connection, and then calls f, if any.
func (c *Client) afterQUIC(f func()) {
	h, ok := c.standing.(*http3Carrier)
	if !ok {
		return // the caller has dialled QUIC
	}
	life := h.conn.Context()
	context.AfterFunc(life, func() {
		c.end(context.Cause(life))
		if f != nil {
			f()
		}
	})
}

// maxResolved bounds what one name can cost.
const maxResolved = 8

// resolveUDP turns host:port into the addresses to try, never none.
func resolveUDP(ctx context.Context, address string, lookup func(context.Context, string) ([]net.IPAddr, error)) ([]*net.UDPAddr, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return nil, err
	}
	ips, err := lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	if len(ips) == 0 {
		return nil, &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
	}
	var list []*net.UDPAddr
	for _, ip := range ips[:min(len(ips), maxResolved)] {
		list = append(list, &net.UDPAddr{IP: ip.IP, Zone: ip.Zone, Port: number})
	}
	return list, nil
}

func (h *http3Carrier) RoundTrip(r *http.Request) (*http.Response, error) { return h.web.RoundTrip(r) }

func (h *http3Carrier) connect(ctx context.Context, service string) (Stream, error) {
	raw, err := h.open(ctx)
	if err != nil {
		return nil, err
	}
	giveUp := func() {
		raw.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
		raw.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
	}
	stop := context.AfterFunc(ctx, giveUp)
	response, err := h.ask(raw, service)
	if !stop() {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		giveUp()
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		err := refused(response)
		giveUp()
		return nil, err
	}
	return &quicStream{raw: raw, local: h.conn.LocalAddr(), remote: h.conn.RemoteAddr()}, nil
}

// ErrBusy means that a session over QUIC carries as many tunnels and requests
// as it can (256).
var ErrBusy = errors.New("the session carries as many tunnels as it can")

// busyAfter is how long a tunnel waits for another one to end.
const busyAfter = 2 * time.Second

// open opens a stream. The device says how many there may be, and QUIC would
// wait for as long as they last.
func (h *http3Carrier) open(ctx context.Context) (*http3.RequestStream, error) {
	opening, cancel := context.WithTimeoutCause(ctx, busyAfter, ErrBusy)
	defer cancel()
	raw, err := h.web.OpenRequestStream(opening)
	if err != nil && opening.Err() != nil {
		return nil, context.Cause(opening)
	}
	return raw, err
}

func (h *http3Carrier) ask(raw *http3.RequestStream, service string) (*http.Response, error) {
	// The request's own context must outlive the opening.
	if err := raw.SendRequestHeader(connectRequest(context.Background(), service)); err != nil {
		return nil, err
	}
	return raw.ReadResponse()
}

func (h *http3Carrier) close() {
	_ = h.conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
}
