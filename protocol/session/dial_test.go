package session

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/identity"
)

// silent accepts and says nothing. Its channel tells of each connection that
// the other side has ended.
func silent(t *testing.T) (address string, ended chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended = make(chan struct{}, 10)
	var running sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
				ended <- struct{}{}
			})
		}
	})
	return l.Addr().String(), ended
}

// dead is an address where nobody listens.
func dead(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestDialRace(t *testing.T) {
	before := goleak.IgnoreCurrent()
	d, wrong := startDevice(t, Limits{}, nil), startDevice(t, Limits{}, nil)
	for _, one := range []*device{d, wrong} { // so that all that a device runs is running
		c := one.dial(t, newKey(t), PathQUIC, -1)
		get(t, c, "/")
		c.Close()
	}
	testnet.Until(t, "nobody is in", func() bool { return len(d.Sessions())+len(wrong.Sessions()) == 0 })
	own := goleak.IgnoreCurrent() // the devices'
	still, ended := silent(t)
	alsoStill := goleak.IgnoreCurrent()
	addresses := []string{dead(t), still, wrong.tcp, still, d.tcp}
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		address := l.Addr().String()
		_ = l.Close()
		addresses = append([]string{address}, addresses...) // dead, of the other family
	} else {
		t.Log("no IPv6 here")
	}
	c, err := Dial(context.Background(), addresses, DialConfig{Key: newKey(t), Pin: identity.PinFingerprint(d.key.Fingerprint()), WarmConns: -1})
	if err != nil {
		t.Fatal(err)
	}
	if c.Path() != PathTCP || c.RemoteAddr().String() != d.tcp {
		t.Errorf("connected to %s over %s", c.RemoteAddr(), c.Path())
	}
	<-ended // the loser's connection
	get(t, c, "/")
	c.Close()
	testnet.Until(t, "nobody is left", func() bool { return len(d.Sessions())+len(wrong.Sessions()) == 0 })
	goleak.VerifyNone(t, before, own, alsoStill)
}

// Both succeed at nearly the same time: one is closed.
func TestSlowWinnerIsClosed(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	inside := make(chan struct{}, 2)
	c, err := race(context.Background(), 2, func(context.Context, int) (*Client, error) {
		client := d.dial(t, newKey(t), PathTCP, -1)
		inside <- struct{}{}
		testnet.Until(t, "both are in before either is told of", func() bool { return len(inside) == 2 })
		return client, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	testnet.Until(t, "one is left", func() bool { return len(d.Sessions()) == 1 })
	get(t, c, "/")
}

// Whatever else failed, the caller learns that somebody else answered.
func TestMismatchSurfaces(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	for _, path := range []Path{PathTCP, PathQUIC} {
		live := map[Path]string{PathTCP: d.tcp, PathQUIC: d.quic}[path]
		gone := dead(t)
		if path == PathQUIC {
			gone = "host-that-is-not.invalid:1"
		}
		for _, addresses := range [][]string{{live, gone}, {gone, live}} {
			_, err := Dial(context.Background(), addresses, DialConfig{
				Key: newKey(t), Pin: identity.PinFingerprint(newKey(t).Fingerprint()), Paths: []Path{path},
				lookup: func(ctx context.Context, host string) ([]net.IPAddr, error) {
					if ip := net.ParseIP(host); ip != nil {
						return []net.IPAddr{{IP: ip}}, nil
					}
					return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
				},
			})
			var mismatch *identity.MismatchError
			if !errors.As(err, &mismatch) || mismatch == nil {
				t.Errorf("%s %v: %v", path, addresses, err)
			}
		}
	}
}

func TestQUICTriesAllAddressesOfAName(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	_, port, _ := net.SplitHostPort(d.quic)
	k := newKey(t)
	c, err := Dial(context.Background(), []string{"device.example.net:" + port}, DialConfig{
		Key: k, Pin: identity.PinFingerprint(d.key.Fingerprint()), Paths: []Path{PathQUIC},
		lookup: func(context.Context, string) ([]net.IPAddr, error) {
			return []net.IPAddr{{IP: net.IPv4(127, 0, 0, 2)}, {IP: net.IPv4(127, 0, 0, 1)}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := get(t, c, "/"); got != k.Fingerprint().String() {
		t.Errorf("seen as %q", got)
	}
}

// Whatever a call is doing, its context ends it.
func TestCancelInEachPhase(t *testing.T) {
	stuck := make(chan struct{}, 10)
	d := startDevice(t, Limits{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "stuck" && r.URL.Path != "/stuck" {
			testHandler(w, r)
			return
		}
		stuck <- struct{}{}
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}))
	pin := identity.PinFingerprint(d.key.Fingerprint())
	canceled := func(t *testing.T, there <-chan struct{}, call func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- call(ctx) }()
		<-there
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	}
	t.Run("before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := Dial(ctx, []string{d.tcp, d.quic}, DialConfig{Key: newKey(t), Pin: pin}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("lookup", func(t *testing.T) {
		there := make(chan struct{}, 1)
		canceled(t, there, func(ctx context.Context) error {
			_, err := Dial(ctx, []string{"device.example.net:1"}, DialConfig{
				Key: newKey(t), Pin: pin, Paths: []Path{PathQUIC},
				lookup: func(ctx context.Context, _ string) ([]net.IPAddr, error) {
					there <- struct{}{}
					<-ctx.Done()
					return nil, ctx.Err()
				},
			})
			return err
		})
	})
	t.Run("TLS handshake", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		there := make(chan struct{}, 1)
		var c net.Conn
		var accepted sync.WaitGroup
		accepted.Go(func() {
			if c, err = l.Accept(); err == nil {
				_, _ = c.Read(make([]byte, 1))
				there <- struct{}{}
			}
		})
		canceled(t, there, func(ctx context.Context) error {
			_, err := Dial(ctx, []string{l.Addr().String()}, DialConfig{Key: newKey(t), Pin: pin, Paths: []Path{PathTCP}})
			return err
		})
		accepted.Wait()
		_ = c.Close()
	})
	t.Run("QUIC handshake", func(t *testing.T) {
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer udp.Close()
		there := make(chan struct{}, 1)
		go func() {
			_, _ = udp.Read(make([]byte, 1))
			there <- struct{}{}
		}()
		canceled(t, there, func(ctx context.Context) error {
			_, err := Dial(ctx, []string{udp.LocalAddr().String()}, DialConfig{Key: newKey(t), Pin: pin, Paths: []Path{PathQUIC}})
			return err
		})
	})
	for _, way := range ways {
		k := newKey(t)
		d.pair(k, true)
		c := d.dial(t, k, way.path, map[bool]int{true: 1, false: -1}[way.bulk])
		warmed(t, c, way.bulk)
		t.Run("tunnel "+way.name, func(t *testing.T) {
			canceled(t, stuck, func(ctx context.Context) error {
				_, err := c.Connect(ctx, "stuck", way.bulk)
				return err
			})
		})
		t.Run("request "+way.name, func(t *testing.T) {
			canceled(t, stuck, func(ctx context.Context) error {
				r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://ignored/stuck", nil)
				_, err := c.RoundTrip(r)
				return err
			})
		})
		if get(t, c, "/") == "" {
			t.Error("the session did not survive")
		}
	}
}

// More tunnels than one HTTP/2 connection takes (256) travel on more.
func TestManyTunnelsTakeMoreConnections(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	k := newKey(t)
	d.pair(k, true)
	c := d.dial(t, k, PathTCP, -1)
	var all []Stream
	for range maxStreams + 20 {
		all = append(all, open(t, c, "echo", false))
	}
	for _, s := range all {
		oneByte(t, s)
	}
	if n := len(d.Sessions()); n != 2 {
		t.Errorf("%d sessions for %d tunnels, want 2", n, len(all))
	}
	for _, s := range all {
		_ = s.Close()
	}
	c.Close()
	testnet.Until(t, "all are gone", func() bool { return len(d.Sessions()) == 0 })
}

// A warm connection that dies between the look at it and its use costs nothing
// but the time: the tunnel goes over the standing session.
func TestWarmConnectionDiesBeforeUse(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	k := newKey(t)
	d.pair(k, true)
	c := d.dial(t, k, PathTCP, 2)
	warmed(t, c, true)
	c.warm.mu.Lock()
	for _, w := range c.warm.conns {
		w.ready = nil // who cannot look takes it for alive
	}
	c.warm.mu.Unlock()
	d.CloseSessions(func(i Info) bool { return i.Protocol == "http/1.1" })
	oneByte(t, open(t, c, "echo", true))
}

// An unknown key has fewer streams on a connection: they are what 32 such
// sessions could take the memory with.
func TestStrangersHaveFewStreams(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	c := d.dial(t, newKey(t), PathTCP, -1)
	for range strangerStreams {
		oneByte(t, open(t, c, "echo", false))
	}
	if n := len(d.Sessions()); n != 1 {
		t.Fatalf("%d sessions", n)
	}
	oneByte(t, open(t, c, "echo", false))
	if n := len(d.Sessions()); n != 2 {
		t.Errorf("%d sessions for one stream too many, want 2", n)
	}
}

// A client that needed several connections takes all of them with it.
func TestCloseEndsEveryStandingConnection(t *testing.T) {
	d := startDevice(t, Limits{}, nil)
	c := d.dial(t, newKey(t), PathTCP, -1)
	h := c.standing.(*http2Carrier)
	for range maxStanding - 1 {
		s, err := h.door.dial(t.Context(), "h2")
		if err == nil {
			err = h.add(t.Context(), s)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	testnet.Until(t, "all are there", func() bool { return len(d.Sessions()) == maxStanding })
	c.Close()
	testnet.Until(t, "nobody is left", func() bool { return len(d.Sessions()) == 0 })
}
