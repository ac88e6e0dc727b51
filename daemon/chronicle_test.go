package daemon

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// entries are all lines of the log of one kind.
func (d *device) entries(t testing.TB, what acl.What) []acl.Entry {
	t.Helper()
	all, err := d.store.Audit(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(e acl.Entry) bool { return e.What != what })
}

// last waits for a line of that kind and returns the newest.
func (d *device) last(t testing.TB, what acl.What) acl.Entry {
	t.Helper()
	var found []acl.Entry
	testnet.Eventually(t, string(what), func() error {
		if found = d.entries(t, what); len(found) == 0 {
			return errors.New("no such line")
		}
		return nil
	})
	return found[len(found)-1]
}

// Who came, what was opened and how it ended are there with key and path.
func TestSessionsAndTunnelsAreRecorded(t *testing.T) {
	cam := echo(t)
	d := startDevice(t, serviceTOML("cam", "rtsp", cam.address)+serviceTOML("web", "http", cam.address))
	for _, path := range bothPaths {
		p := d.member(t, "Bob "+string(path), acl.RoleViewer, path)
		for _, service := range []string{"cam", "web"} {
			s := p.connect(service)
			if service == "cam" {
				e := d.last(t, acl.WhatTunnelStarted)
				if e.User != "Bob "+string(path) || e.Service != "cam" || e.Fingerprint != p.key.Fingerprint() || e.Path != string(path) || e.Source == "" || e.Session == 0 {
					t.Errorf("started: %+v", e.Event)
				}
			}
			_ = s.Close()
			testnet.Eventually(t, "the end of the tunnel", func() error {
				ended := d.entries(t, acl.WhatTunnelEnded)
				if len(ended) == 0 || ended[len(ended)-1].Service != service || ended[len(ended)-1].User != "Bob "+string(path) {
					return errors.New("not yet")
				}
				e := ended[len(ended)-1]
				if e.Fingerprint != p.key.Fingerprint() || e.Path != string(path) || e.Why == "" || e.Source == "" {
					t.Errorf("ended: %+v", e.Event)
				}
				return nil
			})
		}
		p.Close()
		testnet.Eventually(t, "the end of the session", func() error {
			for _, e := range d.entries(t, acl.WhatSessionEnded) {
				if e.User == "Bob "+string(path) && e.Fingerprint == p.key.Fingerprint() && e.Path == string(path) && e.Source != "" {
					return nil
				}
			}
			return errors.New("not yet")
		})
	}
	if n := len(d.entries(t, acl.WhatTunnelStarted)); n != 2 {
		t.Errorf("%d tunnels have a line for their beginning, want the 2 of media", n)
	}
	d.wantWholeLog(t)
}

// Every action that a role lacks is refused and recorded, once.
func TestRefusedActionsAreRecorded(t *testing.T) {
	cam := echo(t)
	d := startDevice(t, serviceTOML("cam", "rtsp", cam.address)+serviceTOML("shell", "ssh", cam.address))
	d.owner(t)
	p := d.member(t, "Bob", acl.RoleViewer, session.PathTCP)
	for range 3 {
		wantCode(t, "audit", p.tryCall("GET", "/v1/audit", nil, nil), api.CodeForbidden)
		wantCode(t, "reset", p.tryCall("POST", "/v1/reset", api.Reset{Erase: api.EraseEverything}, nil), api.CodeForbidden)
		if err := p.refused("shell"); err == nil {
			t.Fatal("a viewer reached ssh")
		}
	}
	got := map[string]int{}
	for _, e := range d.entries(t, acl.WhatRefused) {
		if e.User != "Bob" || e.Fingerprint != p.key.Fingerprint() || e.Why == "" || e.Path != "tcp" || e.Source == "" {
			t.Errorf("%+v", e.Event)
		}
		got[string(e.Action)+" "+e.Service]++
	}
	if want := (map[string]int{"audit ": 1, "reset ": 1, "tunnel shell": 1}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("recorded %v, want %v", got, want)
	}
}

// What may not be done to this one user is refused by the handler, and recorded.
func TestRefusalOfAHandlerIsRecorded(t *testing.T) {
	d := startDevice(t, "")
	d.owner(t)
	p := d.member(t, "Ann", acl.RoleAdmin, session.PathTCP)
	role := acl.RoleOwner
	wantCode(t, "an admin makes herself owner", p.tryCall("PATCH", "/v1/users/Ann", api.UserPatch{Role: &role}, nil), api.CodeForbidden)
	if e := d.last(t, acl.WhatRefused); e.User != "Ann" || e.Action != acl.ActionUsers || !strings.Contains(e.Why, "owner") {
		t.Errorf("%+v", e.Event)
	}
}

// Repeated refusals are counted: one line at once, one for each window in which it
// went on, one when the device stops.
func TestRefusalsAreFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var written []acl.Event
		r := newRefusals(func(e acl.Event) {
			mu.Lock()
			defer mu.Unlock()
			written = append(written, e)
		})
		look := func() (lines []acl.Event, open int) {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			r.mu.Lock()
			defer r.mu.Unlock()
			return slices.Clone(written), len(r.open)
		}
		bob := refusal{user: "Bob", action: acl.ActionUsers}
		for i := range 1000 {
			r.note(bob, acl.Event{User: "Bob"})
			if i == 0 {
				time.Sleep(time.Millisecond) // or the last of a window comes with its end
			}
			time.Sleep(time.Second)
		}
		lines, _ := look()
		if len(lines) != 2 || lines[0].Times != 0 || lines[1].Times != 599 {
			t.Fatalf("after 1,000 s: %+v", lines)
		}
		time.Sleep(3 * refusalWindow)
		lines, open := look()
		if len(lines) != 3 || lines[2].Times != 400 || open != 0 {
			t.Fatalf("then: %+v, %d open", lines, open)
		}
		for i := range 10 * maxRefusals {
			r.note(refusal{service: fmt.Sprint(i)}, acl.Event{Service: fmt.Sprint(i)})
		}
		if lines, open = look(); len(lines) != 3+maxRefusals+1 || open != maxRefusals+1 {
			t.Fatalf("%d lines, %d open", len(lines), open)
		}
		before := len(lines)
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
		if lines, _ = look(); len(lines) != before+1 || lines[before].Times != 9*maxRefusals-1 {
			t.Fatalf("at the end: %+v", lines[before:])
		}
		r.note(bob, acl.Event{})
		if lines, _ = look(); len(lines) != before+1 {
			t.Error("it goes on after its end")
		}
	})
}

// A day of a thousand strangers a second is a few lines.
func TestStrangersOfADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines, times := 0, uint64(0)
		var mu sync.Mutex
		r := newRefusals(func(e acl.Event) {
			mu.Lock()
			defer mu.Unlock()
			lines++
			times += max(e.Times, 1)
		})
		for range 24 * 3600 {
			for range 10 {
				r.note(refusal{kind: kindStranger}, acl.Event{})
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		_ = r.close()
		mu.Lock()
		defer mu.Unlock()
		if lines > 24*6+2 || times != 24*3600*10 {
			t.Errorf("%d lines tell of %d", lines, times)
		}
	})
}

// Who commands over the control socket is named as the kernel knows him, also
// where the command fails; whoever only looks is not.
func TestLocalCommandsAreRecorded(t *testing.T) {
	d := startDevice(t, "")
	d.owner(t)
	c := d.control()
	defer c.Close()
	before := d.lines(t)
	if _, err := c.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := d.lines(t); after != before {
		t.Errorf("looking wrote %d lines", after-before)
	}
	if err := c.Post(t.Context(), control.PairingRoute, control.PairingOrder{Do: "open"}, nil); err != nil {
		t.Fatal(err)
	}
	me := control.Peer{UID: uint32(os.Getuid())}.String()
	e := d.last(t, acl.WhatCommand)
	if e.By.User != me || e.By.Kind != kindLocal || e.By.Via != "control socket" || e.Detail != "pair open" || e.Result != "done" {
		t.Errorf("%+v", e.Event)
	}
	if err := c.Post(t.Context(), control.RevokeRoute, control.Revoke{Who: "Nobody"}, nil); err == nil {
		t.Fatal("nobody was revoked")
	}
	if e = d.last(t, acl.WhatCommand); e.Detail != "revoke Nobody" || e.Result != "failed" || e.Why != "there is no such user" {
		t.Errorf("%+v", e.Event)
	}
}

// A change over a session names user, key and the way it came.
func TestChangesNameWhoAndHow(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	d.enter(t, "Bob", acl.RoleViewer)
	role := acl.RoleAdmin
	owner.call("PATCH", "/v1/users/Bob", api.UserPatch{Role: &role}, nil)
	e := d.last(t, acl.WhatRoleChanged)
	if e.By.Fingerprint != owner.key.Fingerprint() || e.By.User == "" || e.By.Kind != "" || e.By.Source == "" || e.By.Way != "" {
		t.Errorf("%+v", e.By)
	}
}

// Guests have no key on the list; the log names them all the same.
func TestGuestsAreNamed(t *testing.T) {
	d := startDevice(t, "")
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	leave, err := d.guests.enter(guest{
		principal: acl.Principal{Kind: acl.KindAuthority, Name: "alice@example.net", Roles: []string{acl.RoleViewer}}, fingerprint: k.Fingerprint(),
	})
	if err != nil {
		t.Fatal(err)
	}
	p := d.dial(t, k, session.PathTCP)
	wantCode(t, "audit", p.tryCall("GET", "/v1/audit", nil, nil), api.CodeForbidden)
	for _, what := range []acl.What{acl.WhatSessionStarted, acl.WhatRefused} {
		if e := d.last(t, what); e.User != "alice@example.net (authority)" || e.Kind != "authority" || e.Fingerprint != k.Fingerprint() {
			t.Errorf("%s: %+v", what, e.Event)
		}
	}
	leave()
	if e := d.last(t, acl.WhatSessionEnded); e.User != "alice@example.net (authority)" || e.Kind != "authority" {
		t.Errorf("%+v", e.Event)
	}
}

// Whatever the absent are told, those who listen are told too, in the same words.
func TestSecurityEvents(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	s := owner.follow(t)
	heard := func(what string) {
		t.Helper()
		for ev := range s.events {
			if ev.Kind == "security" && ev.What == what {
				return
			}
		}
		t.Fatalf("the stream ended without %s", what)
	}
	d.enter(t, "Bob", acl.RoleViewer)
	heard("user.paired")
	role := acl.RoleOwner
	owner.call("PATCH", "/v1/users/Bob", api.UserPatch{Role: &role}, nil)
	heard("user.owner")
	for what := range alarmKinds {
		if err := d.store.Record(acl.Event{What: what}); errors.Is(err, acl.ErrWhat) {
			continue // a change of permission
		} else if err != nil {
			t.Fatal(err)
		}
		heard(alarmKinds[what])
	}
}

// Every failed try is in the log and on the event streams.
func TestFailedTriesAreTold(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	s := owner.follow(t)
	if err := d.window.Open(); err != nil {
		t.Fatal(err)
	}
	eve, mallory := d.dial(t, newKey(t), session.PathTCP), d.dial(t, newKey(t), session.PathTCP)
	if _, _, err := eve.begin("Eve"); err != nil {
		t.Fatal(err)
	}
	_, _, err := mallory.begin("Mallory")
	wantCode(t, "a second one", err, api.CodeAborted)
	e := d.last(t, acl.WhatPairingFailed)
	if e.Fingerprint.IsZero() || e.Source == "" || e.Why == "" {
		t.Errorf("%+v", e.Event)
	}
	s.want(t, "security", "pairing.failed", "")
}

// Who begins and goes away has failed, and is recorded like who is refused.
func TestAbandonedTriesAreRecorded(t *testing.T) {
	d := startDevice(t, "")
	if err := d.window.Open(); err != nil {
		t.Fatal(err)
	}
	eve := d.dial(t, newKey(t), session.PathTCP)
	_, reveal, err := eve.begin("Eve")
	if err != nil {
		t.Fatal(err)
	}
	d.reveal(eve, reveal)
	testnet.Eventually(t, "digits", func() error {
		if d.window.State().Asking == nil {
			return errors.New("none")
		}
		return nil
	})
	eve.Close()
	e := d.last(t, acl.WhatPairingFailed)
	if e.Fingerprint != eve.key.Fingerprint() || e.Why != "abandoned" || e.Detail != "button" || e.Source == "" || e.Path != "tcp" {
		t.Errorf("%+v", e.Event)
	}
}

// A request for what is not there is no refused action of a user.
func TestUnknownRoutesAreNoRefusals(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	for range 5 {
		answer, _ := owner.ask(http.MethodGet, "/v1/nothing", nil)
		if answer.StatusCode != http.StatusNotFound {
			t.Fatal(answer.Status)
		}
	}
	if n := len(d.entries(t, acl.WhatRefused)); n != 0 {
		t.Errorf("%d lines", n)
	}
}
