package daemon

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// The way a person goes: press, ask, compare, press.
func TestPairingByPresses(t *testing.T) {
	d := startDevice(t, simulated)
	alice := d.dial(t, newKey(t), session.PathTCP)
	var hello api.Hello
	alice.call("GET", "/v1/hello", nil, &hello)
	if hello.Pairing.Open || hello.ID != d.ID() || hello.Protocol != api.Version {
		t.Fatalf("before the press: %+v", hello)
	}
	_, _, err := alice.begin("Alice")
	wantCode(t, "begin before the press", err, api.CodeClosed)

	press := func() {
		t.Helper()
		if err := d.Press(context.Background(), hal.ButtonPair); err != nil {
			t.Fatal(err)
		}
	}
	press()
	alice.call("GET", "/v1/hello", nil, &hello)
	if !hello.Pairing.Open || len(hello.Pairing.Modes) != 1 || hello.Pairing.Modes[0] != pairing.ModeButton {
		t.Fatalf("after the press: %+v", hello)
	}
	if left := d.Status().Pairing.SecondsLeft; left < 170 || left > 180 {
		t.Errorf("the window has %d s left, want nearly 180", left)
	}
	check, reveal, err := alice.begin("Alice")
	if err != nil {
		t.Fatal(err)
	}
	done := d.reveal(alice, reveal)
	status, err := d.control().Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	asking := status.Pairing.Asking
	if asking == nil || asking.Check != string(check) || asking.Fingerprint != alice.key.Fingerprint() || asking.Name != "Alice's laptop" {
		t.Fatalf("status shows %+v, the client %s", asking, check)
	}
	if !strings.Contains(status.Board.Light, "fast") {
		t.Errorf("the light is %q while somebody asks", status.Board.Light)
	}
	press()
	r := <-done
	if r.err != nil || r.paired.Role != acl.RoleOwner || r.paired.User != "Alice" || r.paired.Device.ID != d.ID() {
		t.Fatalf("paired: %+v", r)
	}
	if d.Status().Pairing.Open {
		t.Error("the window is open after a success")
	}
	var me api.Me
	alice.call("GET", "/v1/me", nil, &me)
	if me.User != "Alice" || me.Role != "owner" || me.KeyName != "Alice's laptop" || me.Path != "tcp" {
		t.Errorf("me: %+v", me)
	}

	second(t, d)
}

// second pairs whoever comes after the owner.
func second(t *testing.T, d *device) {
	bob := d.dial(t, newKey(t), session.PathTCP)
	if err := d.window.Open(); err != nil {
		t.Fatal(err)
	}
	_, reveal, err := bob.begin("alice")
	if err != nil {
		t.Fatal(err)
	}
	done := d.reveal(bob, reveal)
	d.window.Accept(bob.key.Fingerprint())
	taken := <-done
	wantCode(t, "the owner's name", taken.err, api.CodeNameTaken)
	problem, ok := taken.err.(*api.Problem)
	if !ok || problem.Suggestion == "" {
		t.Fatalf("no suggestion: %+v", taken.err)
	}
	if got := d.pair(bob, problem.Suggestion); got.Role != acl.RoleViewer {
		t.Errorf("the second user is %q, want viewer", got.Role)
	}
	_, _, err = bob.begin("again")
	wantCode(t, "who is paired asks", err, api.CodeConflict)
	if bob.tryCall("GET", "/v1/roles", nil, nil) == nil {
		t.Error("a viewer may manage users")
	}
}

func TestPairingNotOverQUIC(t *testing.T) {
	d := startDevice(t, "")
	p := d.dial(t, newKey(t), session.PathQUIC)
	if err := d.window.Open(); err != nil {
		t.Fatal(err)
	}
	var hello api.Hello
	p.call("GET", "/v1/hello", nil, &hello)
	if hello.Pairing.Open || len(hello.Pairing.Modes) != 0 {
		t.Errorf("over QUIC the device offers %+v", hello.Pairing)
	}
	_, _, err := p.begin("Eve")
	wantCode(t, "begin over QUIC", err, api.CodeClosed)
}

func TestTwoAskersCloseTheWindow(t *testing.T) {
	d := startDevice(t, "")
	one, two := d.dial(t, newKey(t), session.PathTCP), d.dial(t, newKey(t), session.PathTCP)
	if err := d.window.Open(); err != nil {
		t.Fatal(err)
	}
	_, reveal, err := one.begin("One")
	if err != nil {
		t.Fatal(err)
	}
	done := d.reveal(one, reveal)
	_, _, err = two.begin("Two")
	wantCode(t, "the second", err, api.CodeAborted)
	wantCode(t, "the first", (<-done).err, api.CodeAborted)
	if d.Status().Pairing.Open || d.Status().Users != 0 {
		t.Errorf("after that: %+v", d.Status())
	}
	d.wantAudit(t, acl.WhatPairingFailed, string(pairing.CodeOverlap))
}

// wantAudit looks for a line of a kind that gives a reason.
func (d *device) wantAudit(t *testing.T, what acl.What, why string) {
	t.Helper()
	entries, err := d.store.Audit(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.What == what && e.Why == why {
			return
		}
	}
	t.Errorf("the audit log has no %s because of %q", what, why)
}

// A man in the middle who gives up when the digits differ has used a try, also
// when the device is restarted.
func TestAbandonedExchangesCountOverRestarts(t *testing.T) {
	dir := shortDir(t)
	for n := 1; n <= 3; n++ {
		d := startIn(t, dir, text(dir, ""))
		p := d.dial(t, newKey(t), session.PathTCP)
		if err := d.window.Open(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.begin("Eve"); err != nil {
			t.Fatal(err)
		}
		p.Close()
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		got, err := tryCounter(filepath.Join(dir, "identity", "pairing-tries")).Load()
		if err != nil || got != n {
			t.Errorf("after %d: counted %d, %v", n, got, err)
		}
	}
}

func TestTryCounterRefusesWhatItDidNotWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tries")
	for _, bad := range []string{"", "x", "1 2", "99999999999999999999"} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := tryCounter(file).Load(); err == nil {
			t.Errorf("%q counts as %d tries", bad, n)
		}
	}
}

// Nobody is half paired where the list cannot be written.
func TestGrantThatCannotBeStored(t *testing.T) {
	d := startDevice(t, "")
	p := d.dial(t, newKey(t), session.PathTCP)
	if err := d.window.Open(); err != nil {
		t.Fatal(err)
	}
	_, reveal, err := p.begin("Alice")
	if err != nil {
		t.Fatal(err)
	}
	done := d.reveal(p, reveal)
	if err := d.store.Close(); err != nil {
		t.Fatal(err)
	}
	d.window.Accept(p.key.Fingerprint())
	wantCode(t, "the client", (<-done).err, api.CodeUnavailable)
	if n := len(d.store.Users()); n != 0 {
		t.Errorf("%d users exist", n)
	}
	wantCode(t, "device", p.tryCall("GET", "/v1/device", nil, nil), api.CodeForbidden)
}

// Who asks while nobody may ask has tried nothing. All strangers together are one
// line, with a number at the end of its window.
func TestStrangersFillNoLog(t *testing.T) {
	d := startDevice(t, "")
	p := d.dial(t, newKey(t), session.PathTCP)
	before := d.lines(t)
	for range 50 {
		_, _, err := p.begin("Eve")
		wantCode(t, "closed", err, api.CodeClosed)
	}
	for range 10 {
		d.dial(t, newKey(t), session.PathQUIC).wantStranger("GET", "/v1/users")
	}
	if after := d.lines(t); after > before+1 {
		t.Errorf("refused strangers wrote %d lines into the audit log", after-before)
	}
}

// lines is the number of the last line of the audit log.
func (d *device) lines(t testing.TB) uint64 {
	t.Helper()
	entries, err := d.store.Audit(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return entries[len(entries)-1].Number
}
