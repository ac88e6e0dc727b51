package daemon

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// A hotline sees the device and its logs for half an hour, and nothing else; every action
// is in the audit log; a press ends it at once.
func TestSupport(t *testing.T) {
	t.Parallel()
	e := echo(t)
	d := startDevice(t, serviceTOML("shell", "tcp", e.address)+simulated)
	owner := d.owner(t)
	events := followEvents(t, owner)
	for _, path := range bothPaths {
		p := d.hotline(t, path)
		d.displays(t, "Support here ")
		if code := d.support.State().Code; !code.IsZero() {
			t.Error("a code that was used is still there")
		}
		for _, allowed := range []string{"/v1/device", "/v1/services", "/v1/audit", "/v1/sessions", "/v1/me", "/v1/support", "/v1/openapi.json"} {
			if r, body := p.ask("GET", allowed, nil); r.StatusCode != http.StatusOK {
				t.Errorf("%s: %s %s", allowed, r.Status, body)
			}
		}
		for _, refused := range [][2]string{{"GET", "/v1/users/Alice"}, {"DELETE", "/v1/users/Alice"}, {"POST", "/v1/reset"}} {
			var body any
			if refused[0] == "POST" {
				body = api.Reset{Erase: api.EraseEverything}
			}
			wantCode(t, refused[1], p.tryCall(refused[0], refused[1], body, nil), api.CodeForbidden)
		}
		if _, err := p.Connect(context.Background(), "shell", true); err == nil {
			t.Error("a tunnel without control")
		}
		wantCode(t, "a hotline lists users", p.tryCall("GET", "/v1/users", nil, nil), api.CodeForbidden)
		var state api.Support
		p.call("GET", "/v1/support", nil, &state)
		if !state.Mine || state.Control != "no" {
			t.Errorf("%+v", state)
		}
		d.pressed(hal.ButtonSupport, 300*time.Millisecond)
		d.supportPhase(t, pairing.SupportIdle)
		ended(t, p)
		if _, err := d.tryDial(t, p.key, path, -1); err != nil {
			t.Fatal(err) // as a stranger
		}
	}
	var lines []string
	for _, line := range d.auditLines(t) {
		if line.User == supportName || line.What == acl.WhatSupportShown {
			lines = append(lines, strings.TrimSpace(string(line.What)+" "+line.Detail+" "+line.Why))
		}
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{
		"support code shown", "support began", "support asked GET /v1/audit", "support asked DELETE /v1/users/Alice",
		"support asked POST /v1/reset support never may", "support ended  pressed", "support asked CONNECT shell role support may not use services",
	} {
		contains(t, "the audit log", text, want)
	}
	wantEvents(t, events, "support begun", "support ended")
}

// A hotline that is known to the device as well is written down all the same, and keeps what
// it had before when support ends.
func TestSupportByAUser(t *testing.T) {
	t.Parallel()
	d := startDevice(t, simulated)
	d.owner(t)
	bob := d.member(t, "Bob", acl.RoleViewer, session.PathTCP)
	if _, err := bob.proveSupport(d.supportCode(t).Grouped()); err != nil {
		t.Fatal(err)
	}
	bob.call("GET", "/v1/audit", nil, nil)
	d.pressed(hal.ButtonSupport, 300*time.Millisecond)
	d.supportPhase(t, pairing.SupportIdle)
	wantCode(t, "afterwards", bob.tryCall("GET", "/v1/audit", nil, nil), api.CodeForbidden)
	bob.call("GET", "/v1/device", nil, nil)
	asked := 0
	for _, line := range d.auditLines(t) {
		if line.What == acl.WhatSupportAction && line.Fingerprint == bob.key.Fingerprint() {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("%d actions in the log, want 1", asked)
	}
}

// A hotline reaches services once the person at the device has held the button for it, and
// what it has open ends with the session.
func TestSupportByHand(t *testing.T) {
	t.Parallel()
	e := echo(t)
	d := startDevice(t, serviceTOML("shell", "tcp", e.address)+simulated)
	d.press(t, hal.ButtonSupport, 1500*time.Millisecond)
	code := d.supportPhase(t, pairing.SupportWaiting).Code
	d.displays(t, code.Grouped())
	p := d.dial(t, newKey(t), session.PathTCP)
	if _, err := p.proveSupport(code.Grouped()); err != nil {
		t.Fatal(err)
	}
	d.pressed(hal.ButtonSupport, 3200*time.Millisecond) // nobody has asked
	if s := d.supportPhase(t, pairing.SupportSession); s.Control != pairing.ControlNo {
		t.Fatal("control that was not asked for")
	}
	answer := make(chan error, 1)
	var state api.Support
	go func() { answer <- p.tryCall("POST", "/v1/support/control", nil, &state) }()
	d.displays(t, "Allow control?")
	if pattern := d.sim.State().Pattern; pattern != hal.FastBlink {
		t.Errorf("the light is %v", pattern)
	}
	d.pressed(hal.ButtonSupport, 2500*time.Millisecond) // let go too early
	if s := d.supportPhase(t, pairing.SupportSession); s.Control != pairing.ControlAsked {
		t.Fatalf("%+v", s)
	}
	d.press(t, hal.ButtonSupport, 3500*time.Millisecond) // a busy machine sees presses late
	if err := <-answer; err != nil || state.Control != "allowed" {
		t.Fatalf("%v, %+v", err, state)
	}
	tunnel, err := p.Connect(context.Background(), "shell", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(tunnel, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(tunnel, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "users with control", p.tryCall("DELETE", "/v1/users/Alice", nil, nil), api.CodeForbidden)
	wantCode(t, "reset with control", p.tryCall("POST", "/v1/reset", api.Reset{Erase: api.EraseEverything}, nil), api.CodeForbidden)
	d.press(t, hal.ButtonSupport, 200*time.Millisecond)
	d.supportPhase(t, pairing.SupportIdle)
	if _, err := tunnel.Read(make([]byte, 1)); err == nil {
		t.Error("the tunnel goes on")
	}
}

// A press while the display asks ends everything and allows nothing.
func TestSupportControlRefused(t *testing.T) {
	t.Parallel()
	d := startDevice(t, simulated)
	p := d.hotline(t, session.PathTCP)
	answer := make(chan error, 1)
	go func() { answer <- p.tryCall("POST", "/v1/support/control", nil, nil) }()
	d.displays(t, "Allow control?")
	d.pressed(hal.ButtonSupport, 200*time.Millisecond)
	if err := <-answer; err == nil {
		t.Error("allowed")
	}
	d.supportPhase(t, pairing.SupportIdle)
}

// Whatever is wrong with a code, the answer is the same: wrong, none shown, used up, tries
// used up.
func TestSupportAnswersAreAlike(t *testing.T) {
	t.Parallel()
	d := startDevice(t, simulated)
	var answers []string
	ask := func(what string, p *peer, begin any) {
		t.Helper()
		r, body := p.ask("POST", "/v1/support", begin)
		answers = append(answers, fmt.Sprint(r.Status, r.Header.Get("Content-Length"), string(body)))
		if last := len(answers) - 1; answers[last] != answers[0] {
			t.Errorf("%s: %s, and before %s", what, answers[last], answers[0])
		}
	}
	share := hex.EncodeToString(newShare(t, d))
	ask("no code", d.dial(t, newKey(t), session.PathTCP), api.SupportBegin{Share: share})
	code := d.supportCode(t)
	for i := range pairing.TriesPerSupportCode {
		p := d.dial(t, newKey(t), session.PathTCP)
		var c api.SupportChallenge
		p.call("POST", "/v1/support", api.SupportBegin{Share: share}, &c)
		r, body := p.ask("POST", "/v1/support/confirm", api.SupportConfirm{Exchange: c.Exchange, Confirm: hex.EncodeToString(make([]byte, 32))})
		if got := fmt.Sprint(r.Status, r.Header.Get("Content-Length"), string(body)); got != answers[0] {
			t.Errorf("try %d: %s, and without a code %s", i, got, answers[0])
		}
	}
	ask("tries used up", d.dial(t, newKey(t), session.PathTCP), api.SupportBegin{Share: share})
	_, err := d.dial(t, newKey(t), session.PathTCP).proveSupport(code.Grouped())
	wantCode(t, "the right code, too late", err, api.CodeClosed)
	failed := 0
	for _, line := range d.auditLines(t) {
		if line.What == acl.WhatSupportFailed {
			failed++
		}
	}
	if failed != pairing.TriesPerSupportCode {
		t.Errorf("%d failures in the log", failed)
	}
}

// The vendor's key is proven in the session, or the code is nothing.
func TestSupportVendorKeyOnTheWire(t *testing.T) {
	t.Parallel()
	vendor := newKey(t)
	d := startDevice(t, simulated+fmt.Sprintf("[support]\nkey = %q\ndigits = 4\n", vendor.Fingerprint()))
	code := d.supportCode(t)
	p := d.dial(t, newKey(t), session.PathTCP)
	var hello api.Hello
	p.call("GET", "/v1/hello", nil, &hello)
	if o := hello.Support; o == nil || o.Digits != 4 || !o.Vendor {
		t.Fatalf("%+v", hello.Support)
	}
	salt, _ := hex.DecodeString(hello.Support.Salt)
	exporter, err := p.Exporter(pairing.ExporterLabel, nil, pairing.ExporterBytes)
	if err != nil {
		t.Fatal(err)
	}
	try := func(k *identity.Key) error {
		asker, err := pairing.NewSupportAsker(p.key.Fingerprint(), p.Peer(), exporter, code, salt)
		if err != nil {
			t.Fatal(err)
		}
		begin := api.SupportBegin{Share: hex.EncodeToString(asker.Share())}
		if k != nil {
			proof, err := pairing.NewVendorProof(k, p.key.Fingerprint(), p.Peer(), exporter)
			if err != nil {
				t.Fatal(err)
			}
			begin.VendorKey, begin.Signature = hex.EncodeToString(proof.PublicKey), hex.EncodeToString(proof.Signature)
		}
		var c api.SupportChallenge
		return p.tryCall("POST", "/v1/support", begin, &c)
	}
	for range 5 {
		wantCode(t, "without the key", try(nil), api.CodeClosed)
		wantCode(t, "with another", try(newKey(t)), api.CodeClosed)
	}
	if err := try(vendor); err != nil {
		t.Errorf("with the key: %v", err)
	}
}

func TestSupportFigures(t *testing.T) {
	t.Parallel()
	if supportHoldMin != time.Second || supportHoldMax != 3*time.Second {
		t.Error("the presses are others than docs/support.md says")
	}
	c := config.Default()
	if !c.Support.Enabled || c.Support.Role != acl.RoleSupport || c.Support.Digits != pairing.SupportDigits {
		t.Errorf("%+v", c.Support)
	}
	if got := filepath.Base(string(supportLedger("x/support-codes"))); got != "support-codes" {
		t.Error(got)
	}
}
