package daemon

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// Who may not manage users sees and changes himself alone, and learns nothing about
// who else there is.
func TestAUserSeesOnlyHimself(t *testing.T) {
	d := startDevice(t, serviceTOML("shell", "ssh", "127.0.0.1:9"))
	owner := d.owner(t)
	bob := d.member(t, "Bob", acl.RoleViewer, session.PathTCP)
	var list api.Users
	bob.call("GET", "/v1/users", nil, &list)
	if len(list.Users) != 1 || list.Users[0].Name != "Bob" || list.Blocked != nil {
		t.Errorf("Bob sees %+v", list)
	}
	first := bob.tryCall("GET", "/v1/users/Alice", nil, nil)
	for _, one := range []struct {
		method, path string
		body         any
	}{
		{"GET", "/v1/users/Nobody", nil}, {"GET", "/v1/users/" + owner.key.Fingerprint().Short(), nil}, {"GET", "/v1/users/deadbeef", nil},
		{"PATCH", "/v1/users/Alice", map[string]any{"name": "Al"}}, {"PATCH", "/v1/users/Nobody", map[string]any{"name": "Al"}},
		{"PATCH", "/v1/users/Bob", map[string]any{"role": "admin"}}, {"PATCH", "/v1/users/Bob", map[string]any{"limits": map[string]any{}}},
		{"DELETE", "/v1/users/Alice", nil}, {"DELETE", "/v1/users/Nobody", nil}, {"DELETE", "/v1/users/central:x", nil},
		{"PUT", "/v1/users/Bob/grants/shell", map[string]any{}}, {"DELETE", "/v1/users/Bob/grants/shell", nil},
		{"DELETE", "/v1/blocked/central:x", nil}, {"GET", "/v1/roles", nil},
		{"POST", "/v1/users/Alice/keys", api.NewKey{Fingerprint: newKey(t).Fingerprint()}},
	} {
		err := bob.tryCall(one.method, one.path, one.body, nil)
		if wantCode(t, one.method+" "+one.path, err, api.CodeForbidden); err.Error() != first.Error() {
			t.Errorf("%s %s: %q, elsewhere %q", one.method, one.path, err, first)
		}
	}
	// Himself: name and keys.
	var u api.User
	bob.call("PATCH", "/v1/users/Bob", map[string]any{"name": "Rob"}, &u)
	if u.Name != "Rob" || u.Role != acl.RoleViewer {
		t.Errorf("renamed: %+v", u)
	}
	laptop := newKey(t)
	bob.call("POST", "/v1/users/Rob/keys", api.NewKey{Fingerprint: laptop.Fingerprint(), Name: "laptop"}, &u)
	if len(u.Keys) != 2 {
		t.Errorf("keys: %+v", u.Keys)
	}
	wantCode(t, "the owner's key", bob.tryCall("POST", "/v1/users/Rob/keys", api.NewKey{Fingerprint: owner.key.Fingerprint()}, nil), api.CodeConflict)
	wantCode(t, "no key", bob.tryCall("POST", "/v1/users/Rob/keys", map[string]any{"name": "x"}, nil), api.CodeMalformed)
	second := d.dial(t, laptop, session.PathTCP)
	var me api.Me
	if second.call("GET", "/v1/me", nil, &me); me.User != "Rob" || me.KeyName != "laptop" {
		t.Errorf("the laptop: %+v", me)
	}
	wantCode(t, "the owner adds a key to Bob", owner.tryCall("POST", "/v1/users/Rob/keys", api.NewKey{Fingerprint: newKey(t).Fingerprint()}, nil), api.CodeForbidden)
	var gone api.Revoked
	second.call("DELETE", "/v1/users/"+bob.key.Fingerprint().String(), nil, &gone)
	<-bob.Done()
	if len(gone.Keys) != 1 || gone.SessionsClosed != 1 {
		t.Errorf("the phone that was lost: %+v", gone)
	}
}

// Ends, hours and grants are given and taken over the API; what is limited away is
// cut at once.
func TestLimitsAndGrants(t *testing.T) {
	e := pouring(t)
	d := startDevice(t, serviceTOML("pour", "tcp", e.address))
	owner := d.owner(t)
	key := d.enter(t, "Bob", acl.RoleGuest)
	bob := d.dial(t, key, session.PathTCP)
	if _, err := bob.Connect(context.Background(), "pour", false); err == nil {
		t.Error("a guest without a grant is let through")
	}
	var u api.User
	owner.call("PUT", "/v1/users/Bob/grants/pour", map[string]any{}, &u)
	if len(u.Grants) != 1 || u.Grants[0].Service != "pour" {
		t.Errorf("granted: %+v", u)
	}
	stream := open(t, bob, false)
	u = api.User{}
	owner.call("DELETE", "/v1/users/Bob/grants/pour", nil, &u)
	drainUntilEnd(stream)
	if len(u.Grants) != 0 {
		t.Errorf("taken back: %+v", u)
	}
	wantCode(t, "taken back twice", owner.tryCall("DELETE", "/v1/users/Bob/grants/pour", nil, nil), api.CodeNotFound)
	wantCode(t, "no such service", owner.tryCall("PUT", "/v1/users/Bob/grants/fly", map[string]any{}, nil), api.CodeNotFound)
	work := api.Hours{Days: []int{1, 2, 3, 4, 5}, From: 480, To: 1050}
	past := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	owner.call("PATCH", "/v1/users/Bob", api.UserPatch{Limits: &api.Limits{Until: &past, Hours: []api.Hours{work}}}, &u)
	if u.Until == nil || !u.Until.Equal(past) || len(u.Hours) != 1 || !slices.Equal(u.Hours[0].Days, work.Days) || u.Hours[0].To != work.To || u.Refused == "" {
		t.Errorf("limited: %+v", u)
	}
	bob = d.dial(t, key, session.PathTCP)
	err := bob.tryCall("GET", "/v1/me", nil, nil)
	if wantCode(t, "after the end", err, api.CodeForbidden); !strings.Contains(err.Error(), u.Refused) {
		t.Errorf("he is told %v, want %q", err, u.Refused)
	}
	u = api.User{}
	owner.call("PATCH", "/v1/users/Bob", api.UserPatch{Limits: &api.Limits{}}, &u)
	if u.Until != nil || u.Hours != nil || u.Refused != "" {
		t.Errorf("no limits: %+v", u)
	}
	d.dial(t, key, session.PathTCP).call("GET", "/v1/me", nil, nil)
	for what, body := range map[string]any{
		"hours":   map[string]any{"limits": map[string]any{"hours": []api.Hours{{Days: []int{7}, From: 1, To: 2}}}},
		"date":    map[string]any{"limits": map[string]any{"until": "tomorrow"}},
		"year 1":  map[string]any{"limits": map[string]any{"until": "0001-01-01T00:00:00Z"}},
		"unknown": map[string]any{"limits": map[string]any{"from": "2020-01-01T00:00:00Z"}},
		"two":     map[string]any{"limits": map[string]any{}, "role": "guest"},
	} {
		wantCode(t, what, owner.tryCall("PATCH", "/v1/users/Bob", body, nil), api.CodeMalformed)
	}
	wantCode(t, "an owner has no end", owner.tryCall("PATCH", "/v1/users/Alice", api.UserPatch{Limits: &api.Limits{Until: &past}}, nil), api.CodeConflict)
}

// Nobody gives what he has for a while for longer than that, himself included.
func TestNobodyGivesLongerThanHeHas(t *testing.T) {
	d := startDevice(t, serviceTOML("shell", "ssh", "127.0.0.1:9")+roleTOML("steward", `"users"`, ""))
	d.setKernelClock(func() (time.Time, bool) { return time.Now(), true })
	d.owner(t)
	sam := d.member(t, "Sam", "steward", session.PathTCP)
	d.enter(t, "Gus", acl.RoleGuest)
	soon := time.Now().Add(time.Hour).Truncate(time.Second)
	if _, err := d.store.Grant("Sam", acl.Grant{Service: "shell", Limits: acl.Limits{Until: soon}}, acl.By{}); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"Sam", "Gus"} {
		wantCode(t, "shell for good to "+who, sam.tryCall("PUT", "/v1/users/"+who+"/grants/shell", api.Limits{}, nil), api.CodeForbidden)
	}
	sam.call("PUT", "/v1/users/Gus/grants/shell", api.Limits{Until: &soon}, nil)

	// Who is an admin for an hour makes nobody one for longer, and himself nothing.
	bob := d.member(t, "Bob", acl.RoleViewer, session.PathTCP)
	d.enter(t, "Vic", acl.RoleViewer)
	for i, kind := range []acl.Kind{acl.KindCentral, acl.KindAuthority} {
		leave := mustEnter(t, d.guests, guest{
			principal:   acl.Principal{Kind: kind, Name: "bob", Roles: []string{acl.RoleAdmin}},
			fingerprint: bob.key.Fingerprint(), until: time.Now().Add(time.Hour),
		})
		admin := map[string]string{"role": acl.RoleAdmin}
		wantCode(t, "himself", bob.tryCall("PATCH", "/v1/users/Bob", admin, nil), api.CodeForbidden)
		wantCode(t, "shell to himself", bob.tryCall("PUT", "/v1/users/Bob/grants/shell", api.Limits{}, nil), api.CodeForbidden)
		if i == 0 {
			wantCode(t, "a friend", bob.tryCall("PATCH", "/v1/users/Vic", admin, nil), api.CodeForbidden)
			wantCode(t, "shell to a friend", bob.tryCall("PUT", "/v1/users/Vic/grants/shell", api.Limits{}, nil), api.CodeForbidden)
			until := time.Now().Add(time.Minute).Truncate(time.Second)
			bob.call("PUT", "/v1/users/Vic/grants/shell", api.Limits{Until: &until}, nil)
		}
		leave()
	}
}

// By the name of a principal nobody reaches further than by that of a user: who has more
// is neither put out nor let in again.
func TestPrincipalsOfMoreThanOneHas(t *testing.T) {
	c := newCompany(t, roleTOML("steward", `"users"`, ""))
	c.owner(t)
	sam := c.member(t, "Sam", "steward", session.PathTCP)
	boss := newKey(t).Fingerprint()
	vendor := []acl.CentralUser{{Name: "Vera", Role: acl.RoleAdmin, Keys: []identity.Fingerprint{boss}}}
	if _, err := c.store.MergeCentral(vendor, "test", acl.By{}); err != nil {
		t.Fatal(err)
	}
	mustEnter(t, c.guests, guestOf(7, acl.KindCentral, "gwen", acl.RoleViewer, acl.RoleAdmin))
	for _, who := range []string{"Vera", "central:Vera", "central:vera", "central:gwen", "central:GWEN", "gwen", "ca:adam@example.net"} {
		wantCode(t, who+" by a steward", sam.tryCall("DELETE", "/v1/users/"+escape(who), nil, nil), api.CodeForbidden)
	}
	if !c.store.Known(boss) || !c.guests.has(fingerprint(7)) {
		t.Error("who has more was put out")
	}
	for _, who := range []string{"adam@example.net", "alice@example.net"} {
		if err := c.store.Appoint(who, acl.RoleGuest, acl.By{}); err != nil {
			t.Fatal(err)
		}
	}
	none := map[string]string{"role": "none"}
	wantCode(t, "an admin of the configuration is one again", sam.tryCall("PATCH", "/v1/users/adam@example.net", none, nil), api.CodeForbidden)
	if err := c.store.Block(acl.KindAuthority, "adam@example.net", acl.By{}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "he is let in again", sam.tryCall("DELETE", "/v1/blocked/"+escape("ca:adam@example.net"), nil, nil), api.CodeForbidden)
	ann := c.member(t, "Ann", acl.RoleAdmin, session.PathTCP)
	ann.call("DELETE", "/v1/blocked/"+escape("ca:adam@example.net"), nil, nil)
	ann.call("PATCH", "/v1/users/alice@example.net", none, nil)
	ann.call("DELETE", "/v1/users/central:Vera", nil, nil)
	ann.call("DELETE", "/v1/users/central:gwen", nil, nil)
}

// Who is no user is revoked by name, seen, and let in again.
func TestRevokeWhoIsNoUser(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	admin := d.member(t, "Ann", acl.RoleAdmin, session.PathTCP)
	key := newKey(t)
	mustEnter(t, d.guests, guest{principal: acl.Principal{Kind: acl.KindCentral, Name: "x", Roles: []string{acl.RoleAdmin}}, fingerprint: key.Fingerprint()})
	p := d.dial(t, key, session.PathTCP)
	p.call("GET", "/v1/users", nil, nil)
	wantCode(t, "a guest blocks another", p.tryCall("DELETE", "/v1/users/central:y", nil, nil), api.CodeForbidden)
	var gone api.Revoked
	admin.call("DELETE", "/v1/users/"+escape("x (central)"), nil, &gone)
	<-p.Done()
	if gone.User != "central:x" {
		t.Errorf("revoked: %+v", gone)
	}
	var list api.Users
	owner.call("GET", "/v1/users", nil, &list)
	if len(list.Blocked) != 1 || list.Blocked[0].Name != "central:x" {
		t.Errorf("blocked: %+v", list.Blocked)
	}
	owner.call("DELETE", "/v1/blocked/central:x", nil, nil)
	wantCode(t, "twice", owner.tryCall("DELETE", "/v1/blocked/central:x", nil, nil), api.CodeNotFound)
	wantCode(t, "no such name", owner.tryCall("DELETE", "/v1/blocked/x", nil, nil), api.CodeNotFound)
}

// Ownership is handed over in two steps, and the last owner cannot forget the first.
func TestHandOver(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	bob := d.member(t, "Bob", acl.RoleViewer, session.PathTCP)
	role := func(name string) api.UserPatch { return api.UserPatch{Role: &name} }
	wantCode(t, "the last owner steps down", owner.tryCall("PATCH", "/v1/users/Alice", role("admin"), nil), api.CodeConflict)
	owner.call("PATCH", "/v1/users/Bob", role("owner"), nil)
	_ = owner.tryCall("PATCH", "/v1/users/Alice", role("viewer"), nil) // her own session is cut with that
	<-owner.Done()
	bob.call("PATCH", "/v1/users/Alice", role("guest"), nil)
	alice := d.dial(t, owner.key, session.PathTCP)
	wantCode(t, "Alice takes it back", alice.tryCall("PATCH", "/v1/users/Alice", role("owner"), nil), api.CodeForbidden)
}
