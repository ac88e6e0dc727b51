package daemon

import (
	"context"
	"testing"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// The owner gives certified users roles and takes them back, as those of the list.
func TestOwnerOverCertifiedUsers(t *testing.T) {
	e := pouring(t)
	c := newCompany(t, serviceTOML("pour", "tcp", e.address))
	owner := c.owner(t)
	key := c.staff(t, "bob@example.net")
	isIn := func(what, role string) *peer {
		t.Helper()
		p := c.dial(t, key, session.PathTCP)
		me, err := p.me()
		if role == "" {
			wantCode(t, what, err, api.CodeForbidden)
		} else if err != nil || me.Role != role || me.Kind != "authority" {
			t.Errorf("%s: %+v, %v, want %s", what, me, err, role)
		}
		return p
	}
	give := func(p *peer, who, role string) (u api.User, err error) {
		return u, p.tryCall("PATCH", "/v1/users/"+escape(who), map[string]string{"role": role}, &u)
	}
	isIn("nobody gave a role", "")
	u, err := give(owner, "Bob@Example.NET", acl.RoleAdmin) // as it is typed
	if err != nil || u.Name != "bob@example.net" || u.Role != acl.RoleAdmin || u.Kind != "authority" {
		t.Fatalf("%+v, %v", u, err)
	}
	bob := isIn("an admin", acl.RoleAdmin)
	var list api.Users
	owner.call("GET", "/v1/users", nil, &list)
	if n := len(list.Users); n != 2 || list.Users[1].Name != "bob@example.net" || !list.Users[1].Online {
		t.Errorf("users %+v", list.Users)
	}

	// An admin gives what he has and no more, and touches nobody who has more.
	if _, err := give(bob, "carol@example.net", acl.RoleAdmin); err != nil {
		t.Errorf("an admin makes an admin: %v", err)
	}
	_, err = give(bob, "carol@example.net", acl.RoleOwner)
	wantCode(t, "an owner by certificate", err, api.CodeForbidden)
	_, err = give(owner, "carol@example.net", acl.RoleOwner)
	wantCode(t, "an owner by certificate", err, api.CodeForbidden)
	_, err = give(bob, "Alice", acl.RoleViewer)
	wantCode(t, "the owner by an admin", err, api.CodeForbidden)
	_, err = give(c.dial(t, c.staff(t, "alice@example.net"), session.PathTCP), "bob@example.net", acl.RoleViewer)
	wantCode(t, "by a viewer", err, api.CodeForbidden)
	_, err = give(owner, "bob@example.net", "nonsense")
	wantCode(t, "no role", err, api.CodeMalformed)
	_, err = give(owner, "ca:Nobody", "none")
	wantCode(t, "taking what was not given", err, api.CodeNotFound)
	if u, err := give(owner, "ca:Carol Example", acl.RoleViewer); err != nil || u.Name != "Carol Example" {
		t.Errorf("a common name: %+v, %v", u, err)
	}

	// A smaller role cuts what the greater one opened, and the session goes on.
	tunnel, err := bob.Connect(context.Background(), "pour", false)
	if err != nil {
		t.Fatal(err)
	}
	defer tunnel.Close()
	if _, err := give(owner, "bob@example.net", acl.RoleGuest); err != nil {
		t.Fatal(err)
	}
	drainUntilEnd(tunnel)
	guest := isIn("a guest", acl.RoleGuest)
	var gone api.Revoked
	owner.call("DELETE", "/v1/users/"+escape("bob@example.net"), nil, &gone)
	if gone.User != "bob@example.net" || gone.SessionsClosed == 0 {
		t.Errorf("revoked %+v", gone)
	}
	<-guest.Done()
	isIn("revoked", "")
	isIn("revoked, once more", "")
	if err := c.reload(t, c.toml); err != nil {
		t.Fatal(err)
	}
	isIn("revoked, after a reload", "")
	if _, err := give(owner, "bob@example.net", acl.RoleViewer); err != nil {
		t.Fatal(err)
	}
	isIn("let in again", acl.RoleViewer)
	if u, err := give(owner, "bob@example.net", "none"); err != nil || u.Role != "" {
		t.Errorf("%+v, %v", u, err)
	}
	isIn("the role taken back", "")

	// What the configuration gives is revoked as well, and kept so.
	alice := c.dial(t, c.staff(t, "alice@example.net"), session.PathQUIC)
	if _, err := alice.me(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.revoke("alice@example.net", acl.By{Via: "test"}, func(acl.User, bool) error { return nil }); err != nil {
		t.Fatal(err)
	}
	<-alice.Done()
	again := c.dial(t, c.staff(t, "alice@example.net"), session.PathTCP) // another key, another certificate
	_, err = again.me()
	wantCode(t, "a new certificate", err, api.CodeForbidden)
	c.wantWholeLog(t)
}
