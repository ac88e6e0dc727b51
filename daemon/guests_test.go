package daemon

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// parlour is a guests with what it told.
func parlour() (*guests, *[]identity.Fingerprint) {
	gone := new([]identity.Fingerprint)
	var mu sync.Mutex // two may end at one moment
	return newGuests(func(p acl.Principal) bool { return p.Name == "blocked" }, func(f identity.Fingerprint) {
		mu.Lock()
		defer mu.Unlock()
		*gone = append(*gone, f)
	}), gone
}

func guestOf(n uint64, kind acl.Kind, name string, roles ...string) guest {
	return guest{principal: acl.Principal{Kind: kind, Name: name, Roles: roles}, fingerprint: fingerprint(n)}
}

func mustEnter(t *testing.T, g *guests, who guest) func() {
	t.Helper()
	leave, err := g.enter(who)
	if err != nil {
		t.Fatal(err)
	}
	return leave
}

func TestGuestLeaves(t *testing.T) {
	g, gone := parlour()
	leave := mustEnter(t, g, guestOf(1, acl.KindSupport, "support", acl.RoleSupport))
	if p := g.principals(fingerprint(1)); len(p) != 1 || p[0].Fingerprint != fingerprint(1) || p[0].String() != "support" {
		t.Errorf("principals: %+v", p)
	}
	if g.has(fingerprint(2)) || g.principals(fingerprint(2)) != nil {
		t.Error("somebody else is a guest as well")
	}
	leave()
	leave()
	if g.has(fingerprint(1)) || len(g.list()) != 0 {
		t.Error("he is still here")
	}
	if want := []identity.Fingerprint{fingerprint(1)}; !slices.Equal(*gone, want) {
		t.Errorf("told of %v, want %v", *gone, want)
	}
}

// A guest who came by two doors stays until both are left; a grant that ends later,
// or gives other roles, counts.
func TestGuestComesTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, gone := parlour()
		who := guestOf(1, acl.KindCentral, "x", acl.RoleViewer)
		who.until = time.Now().Add(time.Minute)
		first := mustEnter(t, g, who)
		who.until = time.Now().Add(time.Hour)
		second := mustEnter(t, g, who)
		first()
		time.Sleep(59 * time.Minute)
		if !g.has(fingerprint(1)) || len(*gone) != 0 {
			t.Error("he left too early")
		}
		who.principal.Roles = []string{acl.RoleGuest}
		third := mustEnter(t, g, who)
		if len(*gone) != 1 {
			t.Error("what he had open by the role that is gone was not cut")
		}
		if p := g.principals(fingerprint(1)); len(p) != 1 || !slices.Equal(p[0].Roles, who.principal.Roles) {
			t.Errorf("principals: %+v", p)
		}
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if g.has(fingerprint(1)) || len(*gone) != 2 {
			t.Errorf("his time is up, but he is here: %v, told %d times", g.has(fingerprint(1)), len(*gone))
		}
		second()
		third()
		if len(*gone) != 2 {
			t.Error("told once more when he left after his time")
		}
	})
}

// A role that is given for a minute to who is here for an hour is not his for the hour.
func TestGuestIsGivenMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, gone := parlour()
		who := guestOf(1, acl.KindCentral, "x", acl.RoleViewer)
		who.until = time.Now().Add(time.Hour)
		mustEnter(t, g, who)
		who.principal.Roles, who.until = []string{acl.RoleAdmin}, time.Now().Add(time.Minute)
		mustEnter(t, g, who)
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if p := g.principals(fingerprint(1)); len(p) != 0 || len(*gone) == 0 {
			t.Errorf("after the minute he is %+v, told %d times", p, len(*gone))
		}
	})
}

func TestGuestsAreFew(t *testing.T) {
	g, _ := parlour()
	for i := range maxGuests {
		mustEnter(t, g, guestOf(uint64(i+1), acl.KindAuthority, "a"))
	}
	if _, err := g.enter(guestOf(9999, acl.KindAuthority, "a")); !errors.Is(err, errTooManyGuests) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := g.enter(guestOf(1, acl.KindAuthority, "blocked")); !errors.Is(err, errBlocked) {
		t.Errorf("one who is blocked: %v", err)
	}
	mustEnter(t, g, guestOf(1, acl.KindAuthority, "a")) // is here already
	if n := g.dismiss(func(p acl.Principal) bool { return p.Name == "a" }); n != maxGuests {
		t.Errorf("%d dismissed, want %d", n, maxGuests)
	}
}

// A guest may what his roles say, is named for what he is, and what he has open ends
// with him: session, tunnel and event stream.
func TestGuestOfADevice(t *testing.T) {
	e := pouring(t)
	d := startDevice(t, serviceTOML("pour", "tcp", e.address))
	d.owner(t)
	for _, path := range []session.Path{session.PathTCP, session.PathQUIC} {
		t.Run(string(path), func(t *testing.T) {
			key := newKey(t)
			p := d.dial(t, key, path)
			wantCode(t, "a stranger", p.tryCall("GET", "/v1/sessions", nil, nil), api.CodeForbidden)
			leave := mustEnter(t, d.guests, guest{
				principal:   acl.Principal{Kind: acl.KindCentral, Name: "x", Roles: []string{"nothing", acl.RoleOwner, acl.RoleAdmin}},
				fingerprint: key.Fingerprint(),
			})
			var live api.Sessions
			p.call("GET", "/v1/sessions", nil, &live)
			if !slices.ContainsFunc(live.Sessions, func(s api.Session) bool { return s.User == "x (central)" && s.Fingerprint == key.Fingerprint() }) {
				t.Errorf("he is not in %+v", live.Sessions)
			}
			var me api.Me
			p.call("GET", "/v1/me", nil, &me)
			if me.User != "x (central)" || me.Role != acl.RoleAdmin {
				t.Errorf("me: %+v", me)
			}
			wantCode(t, "reset is the owner's", p.tryCall("POST", "/v1/reset", api.Reset{Erase: api.EraseEverything}, nil), api.CodeForbidden)
			stream, events := open(t, p, false), p.follow(t)
			leave()
			left := time.Now()
			if at := drainUntilEnd(stream); at.Sub(left) > lastByte {
				t.Errorf("the last byte came %v after he left", at.Sub(left))
			}
			for range events.events {
			}
			<-p.Done()
			wantCode(t, "a stranger again", d.dial(t, key, path).tryCall("GET", "/v1/me", nil, nil), api.CodeForbidden)
		})
	}
}

// Who is on the list and a guest besides keeps his sessions when the guest goes, and
// loses the tunnels that only the guest could have.
func TestGuestWhoIsListed(t *testing.T) {
	pour, web := pouring(t), pouring(t)
	d := startDevice(t, serviceTOML("pour", "tcp", pour.address)+serviceTOML("web", "http", web.address))
	d.owner(t)
	key := d.enter(t, "Bob", acl.RoleViewer)
	p := d.dial(t, key, session.PathTCP)
	leave := mustEnter(t, d.guests, guest{principal: acl.Principal{Kind: acl.KindAuthority, Name: "bob", Roles: []string{acl.RoleAdmin}}, fingerprint: key.Fingerprint()})
	stream := open(t, p, false)
	kept, err := p.Connect(t.Context(), "web", false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = kept.Close() }()
	events := p.follow(t)
	leave()
	d.events.publish(api.Event{Kind: "test", What: "after he left"})
	for ev := range events.events {
		if ev.Kind == "test" {
			t.Error("he hears events that only the guest might")
			break
		}
	}
	drainUntilEnd(stream)
	testnet.Eventually(t, "one tunnel left", func() error {
		if n := d.Status().Tunnels; n != 1 {
			return fmt.Errorf("%d tunnels", n)
		}
		return nil
	})
	var me api.Me
	if p.call("GET", "/v1/me", nil, &me); me.User != "Bob" || me.Role != acl.RoleViewer {
		t.Errorf("me: %+v", me)
	}
}

// A hotline sees who is connected, and ends nobody's session.
func TestHotlineEndsNobodysSession(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	key := newKey(t)
	mustEnter(t, d.guests, guestOfKey(key.Fingerprint(), acl.KindSupport, supportName, acl.RoleSupport))
	p := d.dial(t, key, session.PathTCP)
	var live api.Sessions
	p.call("GET", "/v1/sessions", nil, &live)
	if !slices.ContainsFunc(live.Sessions, func(s api.Session) bool { return s.Fingerprint == owner.key.Fingerprint() }) {
		t.Fatalf("the hotline does not see the owner: %+v", live.Sessions)
	}
	for _, s := range live.Sessions {
		if s.Fingerprint == owner.key.Fingerprint() {
			wantCode(t, "the owner's session", p.tryCall("DELETE", fmt.Sprint("/v1/sessions/", s.Number), nil, nil), api.CodeNotFound)
		}
	}
	owner.call("GET", "/v1/me", nil, nil)
}

// A hotline does nothing that is not in the audit log, however much it asks for.
func TestHotlineDoesNothingUnrecorded(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	key := newKey(t)
	mustEnter(t, d.guests, guestOfKey(key.Fingerprint(), acl.KindSupport, supportName, acl.RoleSupport))
	p := d.dial(t, key, session.PathTCP)
	p.call("GET", "/v1/device", nil, nil)
	for d.record(acl.Event{What: acl.WhatSupportAction, User: supportName}) {
	}
	wantCode(t, "one too many", p.tryCall("GET", "/v1/device", nil, nil), api.CodeLimit)
	p.call("GET", "/v1/support", nil, nil)
	owner.call("GET", "/v1/device", nil, nil)
}

// Blocking a name, and revoking the key of a former user, end what a guest has open,
// and keep him from coming again.
func TestGuestIsBlocked(t *testing.T) {
	e := pouring(t)
	d := startDevice(t, serviceTOML("pour", "tcp", e.address))
	d.owner(t)
	who := func(key *identity.Key) guest {
		return guest{principal: acl.Principal{Kind: acl.KindCentral, Name: "x", Roles: []string{acl.RoleAdmin}}, fingerprint: key.Fingerprint()}
	}
	revoke := func(who string) {
		t.Helper()
		if _, err := d.store.Revoke(who, acl.By{}); err != nil {
			t.Fatal(err)
		}
	}
	gone := func(what string, key *identity.Key, p *peer, stream io.Reader) {
		t.Helper()
		drainUntilEnd(stream)
		<-p.Done()
		if _, err := d.guests.enter(who(key)); !errors.Is(err, errBlocked) {
			t.Errorf("%s: he comes again: %v", what, err)
		}
	}
	key := newKey(t)
	mustEnter(t, d.guests, who(key))
	p := d.dial(t, key, session.PathTCP)
	stream := open(t, p, false)
	revoke("central:X")
	gone("blocked by name", key, p, stream)
	if err := d.store.Unblock(acl.KindCentral, "x", acl.By{}); err != nil {
		t.Fatal(err)
	}
	key = d.enter(t, "Bob", acl.RoleViewer)
	mustEnter(t, d.guests, who(key))
	p = d.dial(t, key, session.PathTCP)
	stream = open(t, p, false)
	revoke("Bob")
	gone("a former user", key, p, stream)
}

func guestOfKey(f identity.Fingerprint, kind acl.Kind, name string, roles ...string) guest {
	return guest{principal: acl.Principal{Kind: kind, Name: name, Roles: roles}, fingerprint: f}
}
