package session

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newKey(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// device is a running Server. Its handler answers GET with the peer's
// fingerprint and CONNECT with what the service is called.
type device struct {
	*Server
	key     *identity.Key
	tcp     string
	quic    string
	socket  *Socket
	packets others

	mu    sync.Mutex
	known map[identity.Fingerprint]bool
}

func (d *device) Known(f identity.Fingerprint) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known[f]
}

func (d *device) pair(k *identity.Key, paired bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[k.Fingerprint()] = paired
}

func startDevice(t testing.TB, limits Limits, h http.Handler) *device {
	t.Helper()
	return startDeviceOf(t, Config{Key: newKey(t), Handler: h, Limits: limits})
}

func startDeviceOf(t testing.TB, c Config) *device {
	t.Helper()
	d := &device{key: c.Key, known: make(map[identity.Fingerprint]bool)}
	if c.Handler == nil {
		c.Handler = http.HandlerFunc(testHandler)
	}
	c.Known = d.Known
	d.Server = NewServer(c)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	d.tcp, d.quic = l.Addr().String(), udp.LocalAddr().String()
	d.socket = NewSocket(udp)
	d.socket.SetResetKey(c.ResetKey)
	d.socket.OnPacket(d.packets.take)
	var served sync.WaitGroup
	served.Go(func() {
		if err := d.ServeTCP(l); err != nil {
			t.Errorf("ServeTCP: %v", err)
		}
	})
	served.Go(func() {
		if err := d.ServeSocket(d.socket); err != nil {
			t.Errorf("ServeSocket: %v", err)
		}
	})
	t.Cleanup(func() {
		_ = d.Close()
		served.Wait()
		_ = d.socket.Close()
	})
	return d
}

// others is what takes the packets of a device's socket that are no QUIC.
type others struct {
	mu sync.Mutex
	to func(from netip.AddrPort, p []byte)
}

func (o *others) set(f func(netip.AddrPort, []byte)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.to = f
}

func (o *others) take(from netip.AddrPort, p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.to != nil {
		o.to(from, p)
	}
}

// testHandler serves: "echo" sends back what comes and then its end, "first"
// sends and ends its direction before it reads, "exporter" tells the exporter.
func testHandler(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		if r.URL.Path == "/exporter" {
			b, err := FromRequest(r).Exporter("EXPERIMENTAL keyhole test", []byte("context"), 32)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = w.Write(b)
			return
		}
		_, _ = io.WriteString(w, FromRequest(r).Peer().String())
		return
	}
	if r.Host == "none" {
		http.Error(w, "no such service", http.StatusNotFound)
		return
	}
	s, err := Accept(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	defer s.Close()
	switch r.Host {
	case "first":
		_, _ = io.WriteString(s, "all there is")
		_ = s.CloseWrite()
		got, _ := io.ReadAll(s)
		firstGot <- string(got)
	case "zeros":
		buf := make([]byte, 64<<10)
		for {
			if _, err := s.Write(buf); err != nil {
				return
			}
		}
	default:
		_, _ = io.Copy(s, s)
		_ = s.CloseWrite()
	}
}

var firstGot = make(chan string, 1)

func (d *device) dial(t testing.TB, k *identity.Key, path Path, warm int) *Client {
	t.Helper()
	address := d.tcp
	if path == PathQUIC {
		address = d.quic
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := Dial(ctx, []string{address}, DialConfig{
		Key: k, Pin: identity.PinFingerprint(d.key.Fingerprint()), Paths: []Path{path}, WarmConns: warm,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func get(t testing.TB, c *Client, path string) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "https://ignored"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// ways are the ways a tunnel travels.
var ways = []struct {
	name string
	path Path
	bulk bool
}{{"http1", PathTCP, true}, {"http2", PathTCP, false}, {"http3", PathQUIC, false}}

func eachWay(t *testing.T, f func(t *testing.T, d *device, c *Client, bulk bool)) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			d := startDevice(t, Limits{}, nil)
			k := newKey(t)
			d.pair(k, true)
			warm := -1
			if way.bulk {
				warm = 1
			}
			c := d.dial(t, k, way.path, warm)
			if way.bulk {
				testnet.Until(t, "a warm connection", func() bool {
					c.warm.mu.Lock()
					defer c.warm.mu.Unlock()
					return len(c.warm.conns) > 0
				})
			}
			f(t, d, c, way.bulk)
		})
	}
}

func open(t testing.TB, c *Client, service string, bulk bool) Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := c.Connect(ctx, service, bulk)
	if err != nil {
		t.Fatalf("connect %s: %v", service, err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestRequestsKnowTheirPeer(t *testing.T) {
	eachWay(t, func(t *testing.T, d *device, c *Client, _ bool) {
		if got, want := get(t, c, "/"), d.Sessions()[0].Peer.String(); got != want {
			t.Errorf("peer %s, want %s", got, want)
		}
		if c.Peer() != d.key.Fingerprint() {
			t.Errorf("client sees %s", c.Peer())
		}
		want, err := c.Exporter("EXPERIMENTAL keyhole test", []byte("context"), 32)
		if err != nil {
			t.Fatal(err)
		}
		if got := get(t, c, "/exporter"); got != string(want) {
			t.Errorf("exporters differ: %x and %x", got, want)
		}
	})
}

func TestClientEndsItsDirectionFirst(t *testing.T) {
	eachWay(t, func(t *testing.T, _ *device, c *Client, bulk bool) {
		s := open(t, c, "echo", bulk)
		payload := make([]byte, 300_000)
		for i := range payload {
			payload[i] = byte(i * 7)
		}
		go func() {
			_, _ = s.Write(payload)
			_ = s.CloseWrite()
		}()
		got, err := io.ReadAll(s)
		if err != nil || string(got) != string(payload) {
			t.Fatalf("%d bytes came back, %v; want %d", len(got), err, len(payload))
		}
	})
}

func TestDeviceEndsItsDirectionFirst(t *testing.T) {
	eachWay(t, func(t *testing.T, _ *device, c *Client, bulk bool) {
		s := open(t, c, "first", bulk)
		got, err := io.ReadAll(s)
		if err != nil || string(got) != "all there is" {
			t.Fatalf("read %q, %v", got, err)
		}
		if _, err := io.WriteString(s, "and an answer"); err != nil {
			t.Fatal(err)
		}
		if err := s.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got := <-firstGot; got != "and an answer" {
			t.Fatalf("device read %q", got)
		}
	})
}

func TestRefusedTunnelSaysWhy(t *testing.T) {
	eachWay(t, func(t *testing.T, _ *device, c *Client, bulk bool) {
		_, err := c.Connect(context.Background(), "none", bulk)
		var refused *ConnectError
		if !errors.As(err, &refused) || refused.Status != http.StatusNotFound || string(refused.Body) != "no such service\n" {
			t.Fatalf("got %v (%+v), want 404 with its body", err, refused)
		}
	})
}

func TestCloseSessionsCutsTunnels(t *testing.T) {
	eachWay(t, func(t *testing.T, d *device, c *Client, bulk bool) {
		s := open(t, c, "echo", bulk)
		if _, err := io.WriteString(s, "x"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if n := d.CloseSessions(func(Info) bool { return true }); n == 0 {
			t.Fatal("no session was closed")
		}
		if left := d.Sessions(); len(left) != 0 {
			t.Errorf("%d sessions left", len(left))
		}
		if _, err := io.ReadAll(s); err == nil {
			t.Error("the tunnel ended like a whole one")
		}
		<-c.Done()
	})
}

func TestReadDeadlineCanBeLifted(t *testing.T) {
	eachWay(t, func(t *testing.T, _ *device, c *Client, bulk bool) {
		s := open(t, c, "echo", bulk)
		_ = s.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := s.Read(make([]byte, 1))
		if e, ok := err.(net.Error); !ok || !e.Timeout() {
			t.Fatalf("got %v, want a time-out", err)
		}
		_ = s.SetReadDeadline(time.Time{})
		if _, err := io.WriteString(s, "x"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	})
}
