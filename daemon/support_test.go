package daemon

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// press holds a button of the simulated board, as a hand does.
func (d *device) press(t testing.TB, button string, hold time.Duration) {
	t.Helper()
	if err := d.sim.Press(context.Background(), button, hold); err != nil {
		t.Fatal(err)
	}
}

// pressed is press for a hand that takes no time; that presses become gestures is shown by
// TestSupportByHand.
func (d *device) pressed(button string, hold time.Duration) {
	d.gesture(hal.Event{Kind: hal.Press, Button: button, Held: hold})
}

// supportPhase waits until support is that far.
func (d *device) supportPhase(t testing.TB, want pairing.SupportPhase) pairing.SupportState {
	t.Helper()
	testnet.Eventually(t, "support is "+want.String(), func() error {
		if got := d.support.State().Phase; got != want {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	})
	return d.support.State()
}

// supportCode presses the support button and reads the display.
func (d *device) supportCode(t testing.TB) pairing.SupportCode {
	t.Helper()
	d.pressed(hal.ButtonSupport, 1500*time.Millisecond)
	state := d.supportPhase(t, pairing.SupportWaiting)
	d.displays(t, state.Code.Grouped())
	return state.Code
}

// displays waits until the display shows some words.
func (d *device) displays(t testing.TB, words string) {
	t.Helper()
	testnet.Eventually(t, "the display shows "+words, func() error {
		if shown := strings.Join(d.sim.State().Picture.Words, " | "); !strings.Contains(shown, words) {
			return fmt.Errorf("it shows %s", shown)
		}
		return nil
	})
}

// proveSupport does the hotline's half with a code in hand.
func (p *peer) proveSupport(typed string) (state api.Support, err error) {
	p.t.Helper()
	var hello api.Hello
	p.call("GET", "/v1/hello", nil, &hello)
	salt := make([]byte, pairing.SaltBytes)
	if o := hello.Support; o != nil {
		if salt, err = hex.DecodeString(o.Salt); err != nil || o.KiB != pairing.StretchKiB || o.Digits != 6 {
			p.t.Fatalf("offer %+v: %v", o, err)
		}
	}
	code, err := pairing.ParseSupportCode(typed)
	if err != nil {
		return state, err
	}
	exporter, err := p.Exporter(pairing.ExporterLabel, nil, pairing.ExporterBytes)
	if err != nil {
		return state, err
	}
	asker, err := pairing.NewSupportAsker(p.key.Fingerprint(), p.Peer(), exporter, code, salt)
	if err != nil {
		return state, err
	}
	var c api.SupportChallenge
	if err := p.tryCall("POST", "/v1/support", api.SupportBegin{Share: hex.EncodeToString(asker.Share())}, &c); err != nil {
		return state, err
	}
	share, _ := hex.DecodeString(c.Share)
	confirm, _ := hex.DecodeString(c.Confirm)
	proof, err := asker.Answer(pairing.CodeReply{Exchange: c.Exchange, Share: share, Confirm: confirm})
	if err != nil { // an honest hotline stops here; this one goes on
		proof = pairing.ConfirmRequest{Exchange: c.Exchange, Confirm: make([]byte, 32)}
	}
	err = p.tryCall("POST", "/v1/support/confirm", api.SupportConfirm{Exchange: proof.Exchange, Confirm: hex.EncodeToString(proof.Confirm)}, &state)
	return state, err
}

// hotline dials with a new key and proves the code that a press shows.
func (d *device) hotline(t testing.TB, path session.Path) *peer {
	t.Helper()
	p := d.dial(t, newKey(t), path)
	state, err := p.proveSupport(d.supportCode(t).Grouped())
	if err != nil {
		t.Fatal(err)
	}
	if state.State != "session" || !state.Mine || state.SecondsLeft < 1790 || state.Control != "no" || state.Device != "Front door" {
		t.Fatalf("%+v", state)
	}
	return p
}

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

// ended waits until a session is over.
func ended(t testing.TB, p *peer) {
	t.Helper()
	testnet.Eventually(t, "the session has ended", func() error {
		select {
		case <-p.Done():
			return nil
		default:
			return errors.New("it lives")
		}
	})
}

func (d *device) auditLines(t testing.TB) []acl.Entry {
	t.Helper()
	entries, err := d.store.Audit(0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// followEvents collects what a user's event stream says, as "kind what".
func followEvents(t testing.TB, p *peer) <-chan string {
	t.Helper()
	r, err := http.NewRequest("GET", "https://device/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := p.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 256)
	over := make(chan struct{})
	go func() {
		defer close(over)
		buffer := make([]byte, 64<<10)
		text := ""
		for {
			n, err := answer.Body.Read(buffer)
			text += string(buffer[:n])
			for {
				line, rest, found := strings.Cut(text, "\n")
				if !found {
					break
				}
				text = rest
				var ev api.Event
				if data, is := strings.CutPrefix(line, "data: "); is && json.Unmarshal([]byte(data), &ev) == nil {
					told <- ev.Kind + " " + ev.What
				}
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = answer.Body.Close(); p.Close(); <-over })
	return told
}

func wantEvents(t testing.TB, told <-chan string, want ...string) {
	t.Helper()
	var heard []string
	testnet.Eventually(t, strings.Join(want, ", "), func() error {
		for {
			select {
			case e := <-told:
				heard = append(heard, e)
				continue
			default:
			}
			break
		}
		for _, w := range want {
			if !slices.Contains(heard, w) {
				return fmt.Errorf("heard %v", heard)
			}
		}
		return nil
	})
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

func newShare(t testing.TB, d *device) []byte {
	t.Helper()
	code, err := pairing.ParseSupportCode("123456")
	if err != nil {
		t.Fatal(err)
	}
	a, err := pairing.NewSupportAsker(newKey(t).Fingerprint(), d.Fingerprint(), make([]byte, 32), code, make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	return a.Share()
}

// What ends a session: a restart, a reset, a reload that switches support off, the owner.
func TestWhatEndsSupport(t *testing.T) {
	t.Parallel()
	gone := func(t *testing.T, d *device, p *peer) {
		t.Helper()
		ended(t, p)
		if guests := d.guests.list(); len(guests) != 0 {
			t.Errorf("still here: %+v", guests)
		}
	}
	t.Run("reload", func(t *testing.T) {
		dir := shortDir(t)
		d := startIn(t, dir, text(dir, simulated))
		p := d.hotline(t, session.PathTCP)
		if err := d.Reload(parse(t, dir, text(dir, simulated+"[support]\nenabled = false\n"))); err != nil {
			t.Fatal(err)
		}
		gone(t, d, p)
		d.pressed(hal.ButtonSupport, 1500*time.Millisecond)
		d.displays(t, "no support")
		if s := d.Status().Support; s.State != control.SupportOff || s.Why == "" {
			t.Errorf("%+v", s)
		}
	})
	t.Run("reset", func(t *testing.T) {
		d := startDevice(t, simulated)
		owner := d.owner(t)
		p := d.hotline(t, session.PathTCP)
		owner.call("POST", "/v1/reset", api.Reset{Erase: api.EraseEverything}, nil)
		gone(t, d, p)
		if err := d.stop(); !errors.Is(err, ErrReset) {
			t.Error(err)
		}
	})
	t.Run("restart", func(t *testing.T) {
		dir := shortDir(t)
		d := startIn(t, dir, text(dir, simulated))
		p := d.hotline(t, session.PathTCP)
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		gone(t, d, p)
		again := startIn(t, dir, text(dir, simulated))
		back := again.dial(t, p.key, session.PathTCP)
		wantCode(t, "after a restart", back.tryCall("GET", "/v1/device", nil, nil), api.CodeForbidden)
		// The code of before counts: two more are left of this hour.
		for range pairing.SupportCodesPerHour - 1 {
			again.supportCode(t)
			again.pressed(hal.ButtonSupport, 1500*time.Millisecond)
			again.supportPhase(t, pairing.SupportIdle)
		}
		again.pressed(hal.ButtonSupport, 1500*time.Millisecond)
		again.displays(t, "too many codes")
	})
	t.Run("hotline", func(t *testing.T) {
		d := startDevice(t, simulated)
		p := d.hotline(t, session.PathTCP)
		_ = p.tryCall("DELETE", "/v1/support", nil, nil) // the session ends under the answer
		gone(t, d, p)
	})
	t.Run("owner", func(t *testing.T) {
		d := startDevice(t, simulated)
		owner, viewer := d.owner(t), d.member(t, "Bob", acl.RoleViewer, session.PathTCP)
		p := d.hotline(t, session.PathTCP)
		wantCode(t, "a viewer ends it", viewer.tryCall("DELETE", "/v1/support", nil, nil), api.CodeConflict)
		var state api.Support
		owner.call("DELETE", "/v1/support", nil, &state)
		if state.State != "idle" {
			t.Errorf("%+v", state)
		}
		gone(t, d, p)
	})
}

// Two secrets never share the display: the later press is meant.
func TestTwoSecretsNeverShareTheDisplay(t *testing.T) {
	t.Parallel()
	d := startDevice(t, byCode)
	d.pressed(hal.ButtonPair, 200*time.Millisecond)
	testnet.Eventually(t, "a pairing code", func() error {
		if d.window.State().Code.IsZero() {
			return errors.New("none")
		}
		return nil
	})
	d.supportCode(t)
	if s := d.window.State(); s.Open || !s.Code.IsZero() {
		t.Error("the pairing code is still there")
	}
	d.pressed(hal.ButtonPair, 200*time.Millisecond)
	d.supportPhase(t, pairing.SupportIdle)
	testnet.Eventually(t, "a pairing code again", func() error {
		if d.window.State().Code.IsZero() {
			return errors.New("none")
		}
		return nil
	})
	// The same by the control socket.
	d.pressed(hal.ButtonPair, 200*time.Millisecond)
	d.supportCode(t)
	if err := d.order(control.PairingOrder{Do: "open"}); err != nil {
		t.Fatal(err)
	}
	d.supportPhase(t, pairing.SupportIdle)
}

// On a board with one button a double press asks, and a short one ends a session.
func TestSupportWithOneButton(t *testing.T) {
	t.Parallel()
	d := startDevice(t, simulated)
	do := func(kind hal.Kind, held time.Duration) bool {
		return d.pressedForSupport(hal.Event{Kind: kind, Button: hal.ButtonPair, Held: held}, true)
	}
	if do(hal.Press, 200*time.Millisecond) || do(hal.Press, 12*time.Second) {
		t.Error("a press for pairing is taken")
	}
	if !do(hal.Double, 0) {
		t.Error("a double press is not taken")
	}
	code := d.supportPhase(t, pairing.SupportWaiting).Code
	if do(hal.Press, 200*time.Millisecond) {
		t.Error("a press for pairing is taken while a code waits")
	}
	p := d.dial(t, newKey(t), session.PathTCP)
	if _, err := p.proveSupport(code.Grouped()); err != nil {
		t.Fatal(err)
	}
	if !do(hal.Press, 200*time.Millisecond) {
		t.Error("a short press does not end the session")
	}
	d.supportPhase(t, pairing.SupportIdle)
	ended(t, p)
}

// A board that cannot show a code, or whose vendor does not want it, says so.
func TestNoSupport(t *testing.T) {
	t.Parallel()
	d := startDevice(t, "")
	if s := d.Status().Support; s.State != control.SupportOff || !strings.Contains(s.Why, "no display") {
		t.Errorf("%+v", s)
	}
	_, err := d.dial(t, newKey(t), session.PathTCP).proveSupport("123456")
	wantCode(t, "without a code", err, api.CodeClosed)
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
