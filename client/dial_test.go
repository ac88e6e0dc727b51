package client

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestDialPinsAndRemembers(t *testing.T) {
	d, other := newTestDevice(t), newTestDevice(t)
	h := d.paired()
	entry := d.entry()
	entry.Addresses = []string{closedPort(t), d.address}
	if err := h.Remember(entry); err != nil {
		t.Fatal(err)
	}
	conn := d.dial(h)
	if conn.Trust() != TrustPinned || conn.Device().Name != "Front door" {
		t.Errorf("trust %v, device %v", conn.Trust(), conn.Device())
	}
	if got, _ := h.Lookup("front"); got.Addresses[0] != d.address {
		t.Errorf("the address that works is not first: %v", got.Addresses)
	}
	// Another device at the remembered address is not talked to.
	entry.Addresses = []string{other.address}
	if err := h.Remember(entry); err != nil {
		t.Fatal(err)
	}
	tcp := DialOptions{Find: -1, Paths: []session.Path{session.PathTCP}}
	for _, target := range []string{"front", string(d.key.ID()), string(d.key.ID()) + "@" + other.address, other.address} {
		var wrong *identity.MismatchError
		if _, err := h.Dial(t.Context(), target, tcp); !errors.As(err, &wrong) || wrong.Got != other.key.Fingerprint() {
			t.Errorf("dial %s: %v", target, err)
		}
	}
}

func TestDialStrangers(t *testing.T) {
	d := newTestDevice(t)
	h := newHome(t)
	for target, want := range map[string]Trust{d.address: TrustFound, string(d.key.ID()) + "@" + d.address: TrustID} {
		conn, err := h.Dial(t.Context(), target, near)
		if err != nil {
			t.Fatal(err)
		}
		if conn.Trust() != want {
			t.Errorf("%s: %v", target, conn.Trust())
		}
		if _, err := conn.Hello(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := conn.Services(t.Context()); !api.IsCode(err, api.CodeForbidden) {
			t.Errorf("a stranger asks for services: %v", err)
		}
		conn.Close()
	}
	if list, err := h.Devices(); err != nil || len(list) != 0 {
		t.Errorf("strangers came into the book: %v, %v", list, err)
	}
	var away *UnreachableError
	var missing *NotFoundError
	tcp := DialOptions{Find: -1, Paths: []session.Path{session.PathTCP}}
	if _, err := h.Dial(t.Context(), closedPort(t), tcp); !errors.As(err, &away) {
		t.Errorf("nobody there: %v", err)
	}
	if _, err := h.Dial(t.Context(), "cellar", tcp); !errors.As(err, &missing) {
		t.Errorf("nobody of that name: %v", err)
	}
}

func TestCallsAndRefusals(t *testing.T) {
	d := newTestDevice(t)
	conn := d.dial(d.paired())
	if me, err := conn.Me(t.Context()); err != nil || me.User != "Alice" {
		t.Errorf("%+v, %v", me, err)
	}
	if err := conn.Call(t.Context(), http.MethodGet, "/v1/nothing", nil, nil); !api.IsCode(err, api.CodeNotFound) {
		t.Errorf("no such resource: %v", err)
	}
	for _, path := range []string{"", "v1/me", "//evil.example/x", "https://evil.example/", "/%zz"} {
		if _, err := conn.Do(t.Context(), http.MethodGet, path, nil); !errors.Is(err, ErrBadPath) {
			t.Errorf("path %q: %v", path, err)
		}
	}
	if _, err := conn.Connect(t.Context(), "nothing", ""); !api.IsCode(err, api.CodeNotFound) || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("no such service: %v", err)
	}
}

func TestPairing(t *testing.T) {
	d := newTestDevice(t)
	h := newHome(t)
	o := PairOptions{User: "Alice", Name: "laptop", Dial: near}
	if _, err := h.Pair(t.Context(), d.address, o); !errors.Is(err, ErrWindowClosed) {
		t.Fatalf("with a closed window: %v", err)
	}
	for _, bad := range []PairOptions{{User: "Al\x1bice", Name: "x"}, {User: "Alice", Name: strings.Repeat("x", 65)}} {
		var name *NameError
		if _, err := h.Pair(t.Context(), d.address, bad); !errors.As(err, &name) {
			t.Errorf("%q: %v", bad.User, err)
		}
	}
	d.window.Press()
	stop := errors.New("the person says no")
	o.Check = func(Digits) error { return stop }
	if _, err := h.Pair(t.Context(), d.address, o); !errors.Is(err, stop) {
		t.Fatalf("stopped by the caller: %v", err)
	}
	shown := make(chan string, 1)
	o.Check = func(g Digits) error {
		if g.Trust != TrustFound || g.Device != "Front door" {
			t.Errorf("%+v", g)
		}
		shown <- string(g.Check)
		return nil
	}
	go d.pressWhenAsked(t.Context(), shown)
	p, err := h.Pair(t.Context(), d.address, o)
	if err != nil {
		t.Fatal(err)
	}
	if p.Already || p.Device.Checked || p.Device.User != "Alice" || p.Device.Fingerprint != d.key.Fingerprint() {
		t.Errorf("%+v", p)
	}
	if err := h.Confirm(p.Device); err != nil {
		t.Fatal(err)
	}
	// Again, by another name: the key is known there already.
	again, err := h.Pair(t.Context(), string(d.key.ID()), o)
	if err != nil || !again.Already || !again.Device.Checked || again.Trust != TrustPinned {
		t.Errorf("%+v, %v", again, err)
	}
	if err := h.Forget(p.Device.Fingerprint); err != nil {
		t.Fatal(err)
	}
	var missing *NotFoundError
	if _, err := h.Lookup("front"); !errors.As(err, &missing) {
		t.Errorf("forgotten: %v", err)
	}
}

func TestPairingWithAKnownIDIsChecked(t *testing.T) {
	d, other := newTestDevice(t), newTestDevice(t)
	h := newHome(t)
	d.window.Press()
	shown := make(chan string, 1)
	o := PairOptions{User: "Alice", Name: "laptop", Dial: near, Check: func(g Digits) error {
		shown <- string(g.Check)
		return nil
	}}
	var wrong *identity.MismatchError
	if _, err := h.Pair(t.Context(), string(d.key.ID())+"@"+other.address, o); !errors.As(err, &wrong) {
		t.Fatalf("another device at the address: %v", err)
	}
	go d.pressWhenAsked(t.Context(), shown)
	p, err := h.Pair(t.Context(), string(d.key.ID())+"@"+d.address, o)
	if err != nil || !p.Device.Checked || p.Trust != TrustID {
		t.Errorf("%+v, %v", p, err)
	}
}
