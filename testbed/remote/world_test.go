package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/basestation"
	"github.com/keyholed/keyhole/basestation/memstore"
	"github.com/keyholed/keyhole/basestation/relay"
	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/daemon"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A base is a basestation that can be stopped and started again at its address,
// with its records and keys.
type base struct {
	t       testing.TB
	store   *memstore.Store
	data    string
	address string
	stop    func()
	*basestation.Server
}

func startBase(t testing.TB) *base {
	t.Helper()
	b := &base{t: t, store: memstore.New(), data: t.TempDir(), address: "127.0.0.1:0"}
	t.Cleanup(func() { _ = b.store.Close() })
	b.start()
	b.address = b.Address().String()
	return b
}

func (b *base) start() {
	b.t.Helper()
	s, err := basestation.New(basestation.Config{
		Listen: []string{b.address}, Data: b.data, Store: b.store, Relay: &relay.Config{}, Log: testLog(b.t),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	over := false
	b.Server, b.stop = s, func() {
		if !over {
			cancel()
			over = true
			if err := <-ended; err != nil {
				b.t.Errorf("basestation: %v", err)
			}
		}
	}
	b.t.Cleanup(b.stop)
	select {
	case <-s.Ready():
	case err := <-ended:
		b.t.Fatal(err)
	}
}

// A device is a daemon with one service that sends back what comes.
type device struct {
	*daemon.Daemon
	dir  string
	stop func()
}

func startDevice(t testing.TB, b *base) *device {
	t.Helper()
	dir, err := os.MkdirTemp("", "kh") // paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return startIn(t, b, dir, echo(t))
}

func startIn(t testing.TB, b *base, dir, service string) *device {
	t.Helper()
	return startWith(t, b, dir, service, "")
}

// startWith is startIn with some more TOML.
func startWith(t testing.TB, b *base, dir, service, more string) *device {
	t.Helper()
	text := fmt.Sprintf(`
[device]
name = "Front door"
listen = ["127.0.0.1:0"]
state = %q
identity = %q
[basestation]
address = %q
key = %q
[[service]]
name = "echo"
type = "tcp"
address = %q
[board]
profile = "simulated"
web = "127.0.0.1:0"
`, filepath.Join(dir, "state"), filepath.Join(dir, "identity"), b.address, b.Keys()[0], service) + more
	cfg, err := config.Parse([]byte(text), filepath.Join(dir, "keyholed.toml"), config.Overrides{Socket: filepath.Join(dir, "s")})
	if err != nil {
		t.Fatal(err)
	}
	d, err := daemon.New(daemon.Options{Config: cfg, Quiet: true, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	over := false
	x := &device{Daemon: d, dir: dir, stop: func() {
		if !over {
			cancel()
			over = true
			if err := <-ended; err != nil {
				t.Errorf("daemon: %v", err)
			}
		}
	}}
	t.Cleanup(x.stop)
	select {
	case <-d.Ready():
	case err := <-ended:
		t.Fatal(err)
	}
	return x
}

func (d *device) waitAttached(t *testing.T) {
	t.Helper()
	testnet.Eventually(t, "attached", func() error {
		if s := d.Status().Basestation; s.State != control.BasestationAttached {
			return errors.New(s.State + ": " + s.Error)
		}
		return nil
	})
}

// pair pairs a new client on the device's own network, and returns its home.
func (d *device) pair(t *testing.T, user string) *client.Home {
	t.Helper()
	home, err := client.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	local := control.NewClient(filepath.Join(d.dir, "s"))
	defer local.Close()
	order := func(do string) {
		if err := local.Post(t.Context(), control.PairingRoute, control.PairingOrder{Do: do}, nil); err != nil {
			t.Error(err)
		}
	}
	order("open")
	pressed := make(chan struct{})
	_, err = home.Pair(t.Context(), fmt.Sprintf("127.0.0.1:%d", d.Port()), client.PairOptions{User: user, Check: func(client.Digits) error {
		go func() {
			defer close(pressed)
			testnet.Until(t, "digits on the device", func() bool { return d.Status().Pairing.Asking != nil || t.Context().Err() != nil })
			order("accept")
		}()
		return nil
	}, Dial: client.DialOptions{Find: -1}})
	if err != nil {
		t.Fatal(err)
	}
	<-pressed
	return home
}

// goAway forgets where the device is on its network.
func goAway(t testing.TB, home *client.Home) client.Device {
	t.Helper()
	d, err := home.Only()
	if err != nil {
		t.Fatal(err)
	}
	if d.Basestation.IsZero() {
		t.Fatal("the client has learnt of no basestation")
	}
	d.Addresses = []string{closedPort(t)}
	if err := home.Remember(d); err != nil {
		t.Fatal(err)
	}
	return d
}

func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func dial(t testing.TB, home *client.Home, o client.DialOptions) (*client.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	o.Find, o.Log = -1, testLog(t)
	c, err := home.Dial(ctx, "Front door", o)
	if err == nil {
		t.Cleanup(c.Close)
	}
	return c, err
}

// wantEcho sends and receives through a tunnel.
func wantEcho(t testing.TB, s io.ReadWriter, text string) {
	t.Helper()
	if _, err := io.WriteString(s, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(s, got); err != nil || string(got) != text {
		t.Fatalf("got %q, %v", got, err)
	}
}

// echo is a service that sends back what comes.
func echo(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// testLog is silent unless KEYHOLE_LOG is set.
func testLog(t testing.TB) *slog.Logger {
	if os.Getenv("KEYHOLE_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
