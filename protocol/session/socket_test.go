package session

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// punchedQUIC has the device's socket take the client's for proven, as a
// finished punch does.
func punchedQUIC(t testing.TB, d *device, k *identity.Key, _ int) *Client {
	t.Helper()
	s := newSocket(t)
	d.socket.Proven(s.LocalAddr())
	c, err := DialSocket(context.Background(), s, d.socket.LocalAddr(), DialConfig{Key: k, Pin: identity.PinFingerprint(d.key.Fingerprint())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newSocket(t testing.TB) *Socket {
	t.Helper()
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := NewSocket(udp)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// A session of a direct client on a socket stays one when its neighbour was
// punched, and a proof ends.
func TestProofIsOfOneAddressAndEnds(t *testing.T) {
	var p proven
	now := time.Now()
	a, b := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.1:2")
	p.add(netip.MustParseAddrPort("[::ffff:192.0.2.1]:1"), now)
	if !p.has(a, now) || p.has(b, now) {
		t.Error("a proof is of another address than it should be")
	}
	if p.has(a, now.Add(provenLife)) {
		t.Error("a proof has no end")
	}
	for i := range 2 * maxProven {
		p.add(netip.AddrPortFrom(a.Addr(), uint16(i+1)), now.Add(time.Duration(i)))
	}
	if len(p.until) != maxProven || p.has(a, now) || !p.has(netip.AddrPortFrom(a.Addr(), 2*maxProven), now) {
		t.Errorf("%d proofs are kept, or the wrong ones", len(p.until))
	}
}

// Who has proven his address pays no round trip for a Retry.
func TestNoRetryForWhoIsProven(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	w := newUDPWire(t, d.quic)
	w.mu.Lock()
	w.newer = d.socket.Proven
	w.mu.Unlock()
	c, err := Dial(context.Background(), []string{w.address()}, DialConfig{Key: newKey(t), Pin: identity.TrustAsFound, Paths: []Path{PathQUIC}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	get(t, c, "/")
	if n, _ := w.retries(0); n != 0 {
		t.Errorf("%d Retry packets, want none", n)
	}
	if info := d.Sessions()[0]; info.Via != ViaPunched {
		t.Errorf("the session came by %s", info.Via)
	}
}

// A proof in the packet before counts, though another goroutine reads it: else every
// third punched session would begin with a Retry.
func TestProofRightBeforeTheHandshake(t *testing.T) {
	const trials = 20
	d := startDevice(t, Limits{}, nil)
	d.packets.set(func(from netip.AddrPort, _ []byte) { d.socket.Proven(from) })
	d.Expect(netip.MustParseAddrPort("127.0.0.1:0"))
	w := newUDPWire(t, d.quic)
	to := netip.MustParseAddrPort(w.address())
	for range trials {
		s := newSocket(t)
		if err := s.WriteTo([]byte{0x09}, to); err != nil {
			t.Fatal(err)
		}
		c, err := DialSocket(context.Background(), s, to, DialConfig{Key: newKey(t), Pin: identity.TrustAsFound})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	// A hello of two datagrams may get one for each. On a machine that is busy
	// enough a proof may be late nonetheless.
	if n, _ := w.retries(0); n > trials/2 {
		t.Errorf("%d Retry packets in %d sessions", n, trials)
	}
}

// Packets of both protocols share the port, from the first one on.
func TestSocketCarriesOtherPackets(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	s := newSocket(t)
	type packet struct {
		from netip.AddrPort
		data string
	}
	got := make(chan packet, 4)
	s.OnPacket(func(from netip.AddrPort, p []byte) { got <- packet{from, string(p)} })
	d.packets.set(func(from netip.AddrPort, p []byte) {
		if err := d.socket.WriteTo(append([]byte{p[0] | 0x20}, p[1:]...), from); err != nil {
			t.Error(err)
		}
	})
	if err := s.WriteTo([]byte("\x04hello"), d.socket.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if p := <-got; p.data != "\x24hello" || p.from != d.socket.LocalAddr() {
		t.Errorf("got %q from %s", p.data, p.from)
	}
	c, err := DialSocket(context.Background(), s, d.socket.LocalAddr(), DialConfig{Key: newKey(t), Pin: identity.TrustAsFound})
	if err != nil {
		t.Fatal(err)
	}
	get(t, c, "/")
	if err := s.WriteTo([]byte("\x3fagain"), d.socket.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if p := <-got; p.data != "\x3fagain" {
		t.Errorf("got %q", p.data)
	}
	c.Close()
	for _, bad := range []string{"", "\x40", "\xc0x"} {
		if err := s.WriteTo([]byte(bad), d.socket.LocalAddr()); !errors.Is(err, ErrNotOther) {
			t.Errorf("%q was sent: %v", bad, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.WriteTo([]byte("\x04"), d.socket.LocalAddr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed socket sends: %v", err)
	}
	if _, err := DialSocket(context.Background(), s, d.socket.LocalAddr(), DialConfig{Key: newKey(t), Pin: identity.TrustAsFound}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed socket dials: %v", err)
	}
}

// The socket below QUIC keeps segmentation offload on both sides.
func TestSharedSocketKeepsOffload(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	c := punchedQUIC(t, d, newKey(t), -1)
	alone := d.dial(t, newKey(t), PathQUIC, -1)
	state := func(c *Client) bool { return c.standing.(*http3Carrier).conn.ConnectionState().GSO }
	if state(c) != state(alone) {
		t.Errorf("offload is %v on a shared socket and %v on one of its own", state(c), state(alone))
	}
	t.Logf("offload: %v", state(c))
}

// A session may end without its socket, and a socket can be dialled from again.
func TestSocketOutlivesItsSessions(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	s := newSocket(t)
	for range 2 {
		c, err := DialSocket(context.Background(), s, d.socket.LocalAddr(), DialConfig{Key: newKey(t), Pin: identity.TrustAsFound})
		if err != nil {
			t.Fatal(err)
		}
		get(t, c, "/")
		c.Close()
		<-c.Done()
	}
	c, err := DialSocket(context.Background(), s, d.socket.LocalAddr(), DialConfig{Key: newKey(t), Pin: identity.TrustAsFound})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = s.Close()
	<-c.Done()
}
