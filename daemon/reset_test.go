package daemon

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// wantReset waits for the daemon to end for a reset, starts the next one in the
// same directories, and wants nobody on its list and the same key.
func wantReset(t *testing.T, d *device, more string, gone *peer) *device {
	t.Helper()
	<-d.erasing.Done()
	id := d.ID()
	if err := d.stop(); !errors.Is(err, ErrReset) {
		t.Fatalf("Run returned %v, want ErrReset", err)
	}
	next := startIn(t, d.dir, text(d.dir, more))
	if n := len(next.store.Users()); n != 0 || next.ID() != id {
		t.Errorf("%d users, id %s; want none and %s", n, next.ID(), id)
	}
	wantCode(t, "the old owner", next.dial(t, gone.key, session.PathTCP).tryCall("GET", "/v1/me", nil, nil), api.CodeForbidden)
	if words := next.panel.current().picture().Words; !slices.Contains(words, "RESET 1") || !slices.Contains(words, "0 users") {
		t.Errorf("the display says %q", words)
	}
	if v, err := next.store.Verify(); err != nil || v.Bad != nil {
		t.Errorf("the log: %v, %v", v.Bad, err)
	}
	return next
}

func TestResetByTheOwner(t *testing.T) {
	e := echo(t)
	more := serviceTOML("echo", "tcp", e.address)
	d := startDevice(t, more)
	owner := d.owner(t)
	admin := d.member(t, "Bob", acl.RoleAdmin, session.PathTCP)
	stream := admin.connect("echo")

	wantCode(t, "an admin", admin.tryCall("POST", "/v1/reset", api.Reset{Erase: api.EraseEverything}, nil), api.CodeForbidden)
	wantCode(t, "another word", owner.tryCall("POST", "/v1/reset", api.Reset{Erase: "all"}, nil), api.CodeMalformed)
	if n := len(d.store.Users()); n != 2 {
		t.Fatalf("%d users after refused resets", n)
	}
	var begun api.ResetBegun
	owner.call("POST", "/v1/reset", api.Reset{Erase: api.EraseEverything}, &begun)
	if begun.Reset != 1 {
		t.Errorf("reset number %d", begun.Reset)
	}
	if _, err := io.ReadAll(stream); err == nil {
		t.Error("the admin's tunnel ended as if the service had ended it")
	}
	wantReset(t, d, more, owner)
}

func TestResetByTheSocket(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	var begun api.ResetBegun
	if err := d.control().Post(context.Background(), control.ResetRoute, api.Reset{Erase: api.EraseEverything}, &begun); err != nil {
		t.Fatal(err)
	}
	wantReset(t, d, "", owner)
}

// Ten seconds, release, press: what a hand does, in as short a time as the
// gesture's own events allow.
func TestResetByTheButton(t *testing.T) {
	const board = "[board]\nprofile = \"simulated\"\n"
	d := startDevice(t, board)
	owner := d.owner(t)
	for _, harmless := range []hal.Event{
		{Kind: hal.Press, Button: hal.ButtonReset}, {Kind: hal.Armed, Button: hal.ButtonReset},
		{Kind: hal.Waiting, Button: hal.ButtonReset}, {Kind: hal.Cancelled, Button: hal.ButtonReset},
	} {
		d.gesture(harmless)
	}
	if d.erasing.Err() != nil {
		t.Fatal("reset without the whole gesture")
	}
	d.gesture(hal.Event{Kind: hal.Confirmed, Button: hal.ButtonReset})
	wantReset(t, d, board, owner)
}

// Nothing is erased when the order cannot be written.
func TestResetThatCannotBeOrdered(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	broken := *d.config()
	broken.Device.Identity = d.dir + "/nowhere"
	d.cfg.Store(&broken)
	wantCode(t, "reset", owner.tryCall("POST", "/v1/reset", api.Reset{Erase: api.EraseEverything}, nil), api.CodeUnavailable)
	owner.call("GET", "/v1/me", nil, nil)
}

// A key that is gone must not be replaced without a word: to everybody who knows
// the device the new one would be somebody else.
func TestMissingIdentityIsToldNotReplaced(t *testing.T) {
	d := startDevice(t, "")
	d.owner(t)
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(d.config().Device.Identity, "identity.pem")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := tryStart(t, d.dir, text(d.dir, "")); err == nil || !strings.Contains(err.Error(), "had a key") {
		t.Fatalf("start without the key: %v", err)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("a new key was made")
	}
	if _, err := OrderReset(d.config(), "a test"); err != nil {
		t.Fatal(err)
	}
	if next := startIn(t, d.dir, text(d.dir, "")); len(next.store.Users()) != 0 || next.ID() == d.ID() {
		t.Error("after the reset it is not a new device")
	}
}
