package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyholed/keyhole/basestation/admin"
	"github.com/keyholed/keyhole/basestation/config"
	"github.com/keyholed/keyhole/basestation/push"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/systemd"
)

// running is a node in this process, made from a configuration file's text.
func running(t *testing.T, text string) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "kh") // a Unix socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg, err := config.Parse([]byte(text), filepath.Join(dir, "basestation.toml"), config.Overrides{Data: filepath.Join(dir, "d")})
	if err != nil {
		t.Fatal(err)
	}
	n, err := openNode(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.run(ctx, context.Background(), &systemd.Notifier{}) }()
	<-n.server.Ready()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := n.close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// link keeps a link of a device, or of a client that asks, until the test ends.
func link(t *testing.T, n *node, key *identity.Key, ask *attach.Introduce, message func(attach.Kind, []byte)) {
	t.Helper()
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := attach.NewLink(attach.LinkConfig{
		Key: key, Roots: n.server.Roots(), Basestations: []netip.AddrPort{n.server.Address()}, Introduce: ask, Firmware: "1.2", Message: message,
		Send: func(to netip.AddrPort, p []byte) { _, _ = udp.WriteToUDPAddrPort(p, to) },
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		begin, buf := time.Now(), make([]byte, attach.MaxPacket)
		for {
			next := l.Tick(time.Since(begin))
			if err := udp.SetReadDeadline(begin.Add(next)); err != nil {
				return
			}
			size, _, err := udp.ReadFromUDPAddrPort(buf)
			if err == nil {
				l.Receive(time.Since(begin), buf[:size])
			} else if !os.IsTimeout(err) {
				return
			}
		}
	}()
	t.Cleanup(func() {
		udp.Close()
		<-done
	})
}

func newKey(t *testing.T) *identity.Key {
	t.Helper()
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A file with a webhook and an authorization webhook does what it says: the
// receiver hears of a device, and is asked about a client.
func TestConfiguredWebhooks(t *testing.T) {
	var mu sync.Mutex
	var events []push.Event
	var questions []push.Question
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var e push.Event
		var q push.Question
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path == "/may" {
			if err := json.Unmarshal(body, &q); err != nil {
				t.Error(err)
			}
			questions = append(questions, q)
			fmt.Fprint(w, `{"allow": false}`)
			return
		}
		if err := json.Unmarshal(body, &e); err != nil {
			t.Error(err)
		}
		events = append(events, e)
	}))
	defer receiver.Close()
	n := running(t, `
[basestation]
name = "n-1"
listen = ["127.0.0.1:0"]
[api]
listen = ""
[authorize]
url = "`+receiver.URL+`/may"
[[webhook]]
name = "crm"
url = "`+receiver.URL+`/hook"
events = ["presence"]
`)
	device, client := newKey(t), newKey(t)
	asked := make(chan struct{}, 1)
	link(t, n, device, nil, func(kind attach.Kind, _ []byte) {
		if kind == attach.KindIntroduction {
			asked <- struct{}{}
		}
	})
	testnet.Eventually(t, "presence", func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(events) != 1 {
			return fmt.Errorf("%d events", len(events))
		}
		return nil
	})
	if e := events[0]; e.Kind != push.KindAttached || e.Device != string(device.ID()) || e.Node != "n-1" || !strings.Contains(string(e.Data), `"firmware":"1.2"`) {
		t.Errorf("event %+v", e)
	}
	answered := make(chan attach.Kind, 1)
	link(t, n, client, &attach.Introduce{Device: device.ID()}, func(kind attach.Kind, _ []byte) {
		select {
		case answered <- kind:
		default:
		}
	})
	if kind := <-answered; kind != attach.KindNotIntroduced {
		t.Errorf("answered with %v, want no", kind)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(questions) != 1 || questions[0].Client != client.Fingerprint().String() || questions[0].Device != string(device.ID()) {
		t.Errorf("asked %+v", questions)
	}
	if len(asked) != 0 {
		t.Error("the device was asked although the webhook said no")
	}
	var about admin.About
	if err := admin.NewClient(n.cfg.Basestation.Data).Do(t.Context(), http.MethodGet, "/v1/basestation", nil, &about); err != nil || about.Devices != 1 || about.Name != "n-1" {
		t.Errorf("%+v, %v", about, err)
	}
	if err := n.alive(t.Context()); err != nil {
		t.Errorf("watchdog: %v", err)
	}
}

// Every metric of a node is in the operator's list.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/operator.md")
	if err != nil {
		t.Fatal(err)
	}
	n := running(t, `
[basestation]
listen = ["127.0.0.1:0"]
[api]
listen = ""
[authorize]
url = "http://127.0.0.1:1/may"
[[webhook]]
name = "crm"
url = "http://127.0.0.1:1/hook"
`)
	w := httptest.NewRecorder()
	n.api.LocalHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	families := 0
	for line := range strings.Lines(w.Body.String()) {
		if name, ok := strings.CutPrefix(line, "# TYPE keyhole_"); ok {
			families++
			if name = "keyhole_" + strings.Fields(name)[0]; !strings.Contains(string(page), "`"+name+"`") && !strings.Contains(string(page), "`"+name+"{") {
				t.Errorf("docs/operator.md does not name %s", name)
			}
		}
	}
	if families < 20 {
		t.Errorf("only %d metrics", families)
	}
}
