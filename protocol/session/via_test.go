package session

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A meeting is a way by which a client and a device come together.
type meeting struct {
	name string
	via  Via
	path Path
	dial func(t testing.TB, d *device, k *identity.Key, warm int) *Client
}

var meetings = []meeting{
	{"direct tcp", ViaDirect, PathTCP, func(t testing.TB, d *device, k *identity.Key, warm int) *Client {
		return d.dial(t, k, PathTCP, warm)
	}},
	{"direct quic", ViaDirect, PathQUIC, func(t testing.TB, d *device, k *identity.Key, warm int) *Client {
		return d.dial(t, k, PathQUIC, warm)
	}},
	{"punched quic", ViaPunched, PathQUIC, punchedQUIC},
	{"punched tcp", ViaPunched, PathTCP, func(t testing.TB, d *device, k *identity.Key, warm int) *Client {
		return overConns(t, d, k, ViaPunched, -1)
	}},
	{"relay", ViaRelay, PathTCP, func(t testing.TB, d *device, k *identity.Key, warm int) *Client {
		return overConns(t, d, k, ViaRelay, warm)
	}},
}

// overConns gives the device one end of each connection that the client opens.
func overConns(t testing.TB, d *device, k *identity.Key, via Via, warm int) *Client {
	t.Helper()
	c, err := DialConn(context.Background(), legs(t, func(leg net.Conn) { d.ServeIntroduced(leg, via, k.Fingerprint(), nil) }), via, DialConfig{
		Key: k, Pin: identity.PinFingerprint(d.key.Fingerprint()), WarmConns: warm,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// legs makes pairs of TCP connections; serve takes the device's ends.
func legs(t testing.TB, serve func(net.Conn)) func(context.Context) (net.Conn, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			leg, err := l.Accept()
			if err != nil {
				return
			}
			serve(leg)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		accepting.Wait()
	})
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}
}

func eachMeeting(t *testing.T, f func(t *testing.T, d *device, m meeting)) {
	for _, m := range meetings {
		t.Run(m.name, func(t *testing.T) { f(t, startDevice(t, Limits{}, nil), m) })
	}
}

// However two have met, requests, tunnels and exporters work, and both sides
// know how it was.
func TestEveryWayOfMeeting(t *testing.T) {
	eachMeeting(t, func(t *testing.T, d *device, m meeting) {
		k := newKey(t)
		d.pair(k, true)
		c := m.dial(t, d, k, -1)
		if got := get(t, c, "/"); got != k.Fingerprint().String() {
			t.Errorf("seen as %s", got)
		}
		want, err := c.Exporter("EXPERIMENTAL keyhole test", []byte("context"), 32)
		if err != nil {
			t.Fatal(err)
		}
		if got := get(t, c, "/exporter"); got != string(want) {
			t.Error("the two ends have different exporters")
		}
		info := d.Sessions()[0]
		if info.Via != m.via || info.Path != m.path || c.Via() != m.via || c.Path() != m.path {
			t.Errorf("the device says %s %s, the client %s %s, want %s %s", info.Via, info.Path, c.Via(), c.Path(), m.via, m.path)
		}
		s := open(t, c, "echo", false)
		go func() {
			_, _ = s.Write(make([]byte, 300_000))
			_ = s.CloseWrite()
		}()
		if got, err := io.ReadAll(s); err != nil || len(got) != 300_000 {
			t.Errorf("%d bytes came back, %v", len(got), err)
		}
	})
}

// A revocation reaches every session, however it came, and its tunnels.
func TestRevocationCutsEveryWay(t *testing.T) {
	eachMeeting(t, func(t *testing.T, d *device, m meeting) {
		k := newKey(t)
		d.pair(k, true)
		c := m.dial(t, d, k, -1)
		s := open(t, c, "echo", false)
		if _, err := io.WriteString(s, "x"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if n := d.CloseSessions(func(i Info) bool { return i.Peer == k.Fingerprint() }); n != 1 {
			t.Fatalf("%d sessions were closed, want 1", n)
		}
		if _, err := io.ReadAll(s); err == nil {
			t.Error("the tunnel ended like a whole one")
		}
		<-c.Done()
		if left := d.Sessions(); len(left) != 0 {
			t.Errorf("%d sessions left", len(left))
		}
	})
}

// Limits count sessions, not ways.
func TestLimitsCountEveryWay(t *testing.T) {
	eachMeeting(t, func(t *testing.T, d *device, m meeting) {
		d.limits.Paired, d.register.limits.Paired, d.register.limits.PerKey = 2, 2, 2
		k := newKey(t)
		d.pair(k, true)
		for range 2 {
			get(t, m.dial(t, d, k, -1), "/")
		}
		if n := len(d.Sessions()); n != 2 {
			t.Fatalf("%d sessions, want 2", n)
		}
		c := m.dial(t, d, k, -1)
		r, _ := http.NewRequest(http.MethodGet, "https://ignored/", nil)
		response, err := c.RoundTrip(r)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("the third session was answered %s", response.Status)
			}
		}
		if n := len(d.Sessions()); n != 2 {
			t.Errorf("%d sessions, want 2", n)
		}
	})
}

// Warm connections of a relayed session are legs of their own, and a tunnel on
// one goes with the revocation too.
func TestWarmLegs(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	k := newKey(t)
	d.pair(k, true)
	c := overConns(t, d, k, ViaRelay, 2)
	testnet.Until(t, "warm legs", func() bool { return len(d.Sessions()) == 3 })
	s := open(t, c, "echo", true)
	if _, ok := s.(interface{ TryRead([]byte) (int, error) }); !ok {
		t.Errorf("the bulk tunnel is a %T", s)
	}
	for _, info := range d.Sessions() {
		if info.Via != ViaRelay {
			t.Errorf("a leg came by %s", info.Via)
		}
	}
	d.CloseSessions(func(Info) bool { return true })
	if _, err := io.ReadAll(s); err == nil {
		t.Error("the tunnel ended like a whole one")
	}
}

// Where one connection is all there is, a full session makes the next tunnel
// wait, and opens nothing.
func TestOneConnectionOnly(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	k := newKey(t)
	d.pair(k, true)
	opened := 0
	open := legs(t, func(leg net.Conn) { d.ServeConn(leg, ViaPunched) })
	c, err := DialConn(context.Background(), func(ctx context.Context) (net.Conn, error) {
		opened++
		return open(ctx)
	}, ViaPunched, DialConfig{Key: k, Pin: identity.TrustAsFound})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var streams []Stream
	for range maxStreams {
		s, err := c.Connect(context.Background(), "echo", true)
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	result := make(chan error, 1)
	go func() {
		s, err := c.Connect(context.Background(), "echo", true)
		if err == nil {
			_ = s.Close()
		}
		result <- err
	}()
	for _, s := range streams {
		_ = s.Close()
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
	if opened != 1 {
		t.Errorf("%d connections were opened, want 1", opened)
	}
}

// A leg is for whom the introduction was about.
func TestLegIsForOnePeer(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	introduced, other := newKey(t), newKey(t)
	d.pair(introduced, true)
	d.pair(other, true)
	open := legs(t, func(leg net.Conn) { d.ServeIntroduced(leg, ViaRelay, introduced.Fingerprint(), nil) })
	dial := func(k *identity.Key) error {
		c, err := DialConn(context.Background(), open, ViaRelay, DialConfig{Key: k, Pin: identity.TrustAsFound})
		if err != nil {
			return err
		}
		defer c.Close()
		r, _ := http.NewRequest(http.MethodGet, "https://ignored/", nil)
		response, err := c.RoundTrip(r)
		if err == nil {
			err = response.Body.Close()
		}
		return err
	}
	if err := dial(introduced); err != nil {
		t.Error(err)
	}
	if dial(other) == nil {
		t.Error("somebody else was served")
	}
	testnet.Until(t, "nobody is left", func() bool { return len(d.Sessions()) == 0 && d.door.count() == 0 })
}

// All legs of a relay come from one address. One peer that opens many and says
// nothing pushes itself out, not the handshakes of others.
func TestRelayedFloodPushesItselfOut(t *testing.T) {
	d := startDevice(t, Limits{Unauthenticated: 8}, nil)
	flooder, owner := newKey(t).Fingerprint(), newKey(t)
	d.pair(owner, true)
	flood := legs(t, func(leg net.Conn) { d.ServeIntroduced(leg, ViaRelay, flooder, nil) })
	// The owner's leg waits in its handshake, the oldest of all.
	ready := make(chan struct{}, 1)
	patient := legs(t, func(leg net.Conn) {
		d.ServeIntroduced(leg, ViaRelay, owner.Fingerprint(), nil)
		ready <- struct{}{}
	})
	mine, err := patient(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	<-ready
	for range 40 {
		leg, err := flood(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		defer leg.Close()
	}
	testnet.Until(t, "the door is full", func() bool { return d.door.count() == 8 })
	c, err := DialConn(context.Background(), func(context.Context) (net.Conn, error) { return mine, nil }, ViaRelay, DialConfig{
		Key: owner, Pin: identity.PinFingerprint(d.key.Fingerprint()),
	})
	if err != nil {
		t.Fatalf("the owner was pushed out: %v", err)
	}
	defer c.Close()
	get(t, c, "/")
}

// Whoever gave a leg away hears once that it has closed, however it did: refused
// at the door, cut by a revocation, ended by the peer.
func TestLegTellsItsEnd(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	k, other := newKey(t), newKey(t)
	d.pair(k, true)
	over := make(chan string, 8)
	served := 0
	open := legs(t, func(leg net.Conn) {
		served++
		name := string(rune('a' + served - 1))
		d.ServeIntroduced(leg, ViaRelay, k.Fingerprint(), func() { over <- name })
	})
	leg, err := open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	_ = leg.Close()
	if got := <-over; got != "a" {
		t.Errorf("%s closed", got)
	}
	_, _ = DialConn(context.Background(), open, ViaRelay, DialConfig{Key: other, Pin: identity.TrustAsFound})
	if got := <-over; got != "b" {
		t.Errorf("%s closed", got)
	}
	c, err := DialConn(context.Background(), open, ViaRelay, DialConfig{Key: k, Pin: identity.TrustAsFound})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	get(t, c, "/")
	d.CloseSessions(func(Info) bool { return true })
	if got := <-over; got != "c" {
		t.Errorf("%s closed", got)
	}
	select {
	case got := <-over:
		t.Errorf("%s closed twice", got)
	default:
	}
}

// A connection that a listener accepts from an address it was to meet is a punched
// one.
func TestExpectedConnections(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	k := newKey(t)
	for _, expect := range []bool{true, false} {
		conn, err := net.Dial("tcp", d.tcp)
		if err != nil {
			t.Fatal(err)
		}
		want := ViaDirect
		if expect {
			want = ViaPunched
			_ = conn.(*net.TCPConn).SetLinger(0) // its port is known now, and is used again at once
			_ = conn.Close()
			from := addrPort(conn.LocalAddr())
			d.Expect(from)
			if conn, err = (&net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from)}).Dial("tcp", d.tcp); err != nil {
				t.Fatal(err)
			}
		}
		c, err := DialConn(context.Background(), func(context.Context) (net.Conn, error) { return conn, nil }, want, DialConfig{Key: k, Pin: identity.TrustAsFound})
		if err != nil {
			t.Fatal(err)
		}
		get(t, c, "/")
		if got := d.Sessions()[0].Via; got != want {
			t.Errorf("expected %v: came by %s", expect, got)
		}
		c.Close()
		testnet.Until(t, "it is over", func() bool { return len(d.Sessions()) == 0 })
	}
}

// Whoever comes from an address of which all ports are expected is punched, over TCP
// and over QUIC.
func TestExpectedAddresses(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	k := newKey(t)
	for _, want := range []Via{ViaDirect, ViaPunched} {
		for _, path := range []Path{PathTCP, PathQUIC} {
			c := d.dial(t, k, path, -1)
			get(t, c, "/")
			if got := d.Sessions()[0].Via; got != want {
				t.Errorf("%s came by %s, want %s", path, got, want)
			}
			c.Close()
			testnet.Until(t, "it is over", func() bool { return len(d.Sessions()) == 0 })
		}
		d.Expect(netip.MustParseAddrPort("127.0.0.1:0"))
	}
}
