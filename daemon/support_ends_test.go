package daemon

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

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
