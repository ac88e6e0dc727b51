package client

import (
	"context"
	"encoding/hex"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
	"github.com/keyholed/keyhole/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testDevice is a device with real sessions, a real pairing window and a real
// bridge, and a list of users that is a map.
type testDevice struct {
	t       testing.TB
	key     *identity.Key
	address string
	server  *session.Server
	bridge  *tunnel.Bridge
	window  *pairing.Window
	events  chan string // what /v1/events sends, raw
	served  sync.WaitGroup

	mu    sync.Mutex
	users map[identity.Fingerprint]string
	base  *api.Basestation // what it tells paired clients

	slow session.Via // the way by which it delivers little
}

func newTestDevice(t testing.TB, services ...tunnel.Service) *testDevice {
	t.Helper()
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	d := &testDevice{t: t, key: key, users: map[identity.Fingerprint]string{}, events: make(chan string)}
	table, err := tunnel.NewTable(services, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.bridge = tunnel.NewBridge(tunnel.Config{})
	d.bridge.SetServices(table)
	d.window, err = pairing.New(pairing.Config{Modes: []string{"button"}, Device: key.Fingerprint(), Granter: d, Counter: new(tries), Changed: func(pairing.State) {}})
	if err != nil {
		t.Fatal(err)
	}
	d.start("127.0.0.1:0")
	t.Cleanup(func() {
		d.stop()
		_ = d.bridge.Close()
	})
	return d
}

type tries int

func (n *tries) Load() (int, error) { return int(*n), nil }
func (n *tries) Store(v int) error  { *n = tries(v); return nil }

func (d *testDevice) start(address string) {
	d.t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		d.t.Fatal(err)
	}
	d.address = l.Addr().String()
	server := session.NewServer(session.Config{Key: d.key, Handler: d, Known: d.known})
	d.server = server
	d.served.Go(func() { _ = server.ServeTCP(l) })
}

func (d *testDevice) stop() {
	_ = d.server.Close()
	d.served.Wait()
}

// restart is a device that lost power and has come back at the same address.
func (d *testDevice) restart() {
	d.stop()
	d.start(d.address)
}

func (d *testDevice) known(f identity.Fingerprint) bool { return d.userOf(f) != "" }

func (d *testDevice) userOf(f identity.Fingerprint) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.users[f]
}

func (d *testDevice) basestation() *api.Basestation {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.base
}

func (d *testDevice) tell(b *api.Basestation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.base = b
}

func (d *testDevice) let(f identity.Fingerprint, user string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.users[f] = user
}

func (d *testDevice) Grant(_ context.Context, r pairing.Request) (pairing.Granted, error) {
	d.let(r.Fingerprint, r.User)
	return pairing.Granted{User: r.User, Role: "owner"}, nil
}

// paired returns a Home that the device knows and that knows the device.
func (d *testDevice) paired() *Home {
	d.t.Helper()
	h := newHome(d.t)
	d.let(h.Key().Fingerprint(), "Alice")
	if err := h.Remember(d.entry()); err != nil {
		d.t.Fatal(err)
	}
	return h
}

func (d *testDevice) entry() Device {
	return Device{Fingerprint: d.key.Fingerprint(), Name: "Front door", User: "Alice", Role: "owner", Addresses: []string{d.address}}
}

func newHome(t testing.TB) *Home {
	t.Helper()
	h, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// near dials without asking the network.
var near = DialOptions{Find: -1}

func (d *testDevice) dial(h *Home) *Conn {
	d.t.Helper()
	conn, err := h.Dial(d.t.Context(), "front", near)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(conn.Close)
	return conn
}

func (d *testDevice) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := session.FromRequest(r)
	user := d.userOf(s.Peer())
	open := strings.HasPrefix(r.URL.Path, "/v1/pair/") || r.URL.Path == "/v1/hello"
	if user == "" && !open {
		api.WriteProblem(w, api.Problemf(api.CodeForbidden, "this key is not paired"))
		return
	}
	if r.Method == http.MethodConnect {
		d.connect(w, r)
		return
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /v1/hello":
		api.WriteJSON(w, api.Hello{Protocol: 1, ID: d.key.ID(), Pairing: d.offer(s)})
	case "GET /v1/me":
		api.WriteJSON(w, api.Me{User: user, Role: "owner", Fingerprint: s.Peer(), Basestation: d.basestation()})
	case "GET /v1/device":
		api.WriteJSON(w, d.description())
	case "GET /v1/services":
		list := api.Services{}
		for _, s := range d.bridge.Services().All() {
			list.Services = append(list.Services, api.Service{Name: s.Name, Type: s.Type.Name, Port: int(s.Type.Port), Allowed: true})
		}
		api.WriteJSON(w, list)
	case "GET /v1/openapi.json":
		if s.Info().Via == d.slow {
			time.Sleep(time.Second) // a path that loses much
		}
		_, _ = w.Write(noise[:20<<10])
	case "GET /v1/events":
		d.follow(w, r)
	case "POST /v1/pair/button":
		d.begin(w, r, s)
	case "POST /v1/pair/button/reveal":
		d.reveal(w, r, s)
	case "POST /v1/pair/code":
		d.codeBegin(w, r, s)
	case "POST /v1/pair/code/confirm":
		d.codeConfirm(w, r, s)
	default:
		api.WriteProblem(w, api.Problemf(api.CodeNotFound, "there is no such resource"))
	}
}

func (d *testDevice) description() api.Device {
	return api.Device{ID: d.key.ID(), Fingerprint: d.key.Fingerprint(), Name: "Front door", Product: "test"}
}

func (d *testDevice) caller(s *session.Session) pairing.Caller {
	exporter, err := s.Exporter(pairing.ExporterLabel, nil, pairing.ExporterBytes)
	if err != nil {
		d.t.Error(err)
	}
	return pairing.Caller{Fingerprint: s.Peer(), Exporter: exporter, Local: true, TCP: true}
}

func (d *testDevice) begin(w http.ResponseWriter, r *http.Request, s *session.Session) {
	var body api.ButtonBegin
	if err := api.DecodeRequest(w, r, &body); err != nil {
		d.t.Error(err)
	}
	commitment, _ := hex.DecodeString(body.Commitment)
	reply, err := d.window.Begin(r.Context(), d.caller(s), pairing.BeginRequest{Name: body.Name, User: body.User, Commitment: commitment})
	if err != nil {
		api.WriteProblem(w, api.Problemf(api.CodeClosed, "%v", err))
		return
	}
	api.WriteJSON(w, api.ButtonChallenge{Exchange: reply.Exchange, Nonce: hex.EncodeToString(reply.Nonce), Device: "Front door"})
}

func (d *testDevice) reveal(w http.ResponseWriter, r *http.Request, s *session.Session) {
	var body api.ButtonReveal
	if err := api.DecodeRequest(w, r, &body); err != nil {
		d.t.Error(err)
	}
	nonce, _ := hex.DecodeString(body.Nonce)
	granted, err := d.window.Reveal(r.Context(), d.caller(s), pairing.RevealRequest{Exchange: body.Exchange, Nonce: nonce})
	if err != nil {
		api.WriteProblem(w, api.Problemf(api.CodeAborted, "%v", err))
		return
	}
	api.WriteJSON(w, api.Paired{User: granted.User, Role: granted.Role, Device: d.description()})
}

func (d *testDevice) follow(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	_ = out.Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case text, more := <-d.events:
			if !more {
				return
			}
			_, _ = w.Write([]byte(text))
			_ = out.Flush()
		}
	}
}

func (d *testDevice) connect(w http.ResponseWriter, r *http.Request) {
	name, _ := tunnel.ParseAuthority(r.Host)
	s, known := d.bridge.Services().Lookup(name)
	if !known {
		api.WriteProblem(w, api.Problemf(api.CodeNotFound, "there is no service %q", name))
		return
	}
	t, err := d.bridge.Open(r.Context(), tunnel.Meta{Peer: session.FromRequest(r).Peer().String()}, s)
	if err != nil {
		api.WriteProblem(w, api.Problemf(api.CodeServiceDown, "its service %q does not answer", name))
		return
	}
	stream, err := session.Accept(w, r)
	if err != nil {
		_ = t.Close()
		return
	}
	t.Run(context.WithoutCancel(r.Context()), stream)
}

// pressWhenAsked compares the digits as a person would, and presses.
func (d *testDevice) pressWhenAsked(ctx context.Context, shown <-chan string) {
	digits := <-shown
	var asking *pairing.Asking
	testnet.Until(d.t, "digits on the device", func() bool {
		asking = d.window.State().Asking
		return asking != nil || ctx.Err() != nil
	})
	if asking == nil {
		return
	}
	if string(asking.Check) != digits {
		d.t.Errorf("device shows %s, client %s", asking.Check, digits)
	}
	d.window.Press()
}

func service(t testing.TB, name, typ, address string) tunnel.Service {
	t.Helper()
	s, err := tunnel.ParseService(name, typ, address, "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}
