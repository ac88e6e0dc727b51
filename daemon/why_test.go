package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
)

// What is explained is what would be decided, with what there is to know about it.
func TestWhy(t *testing.T) {
	d := startDevice(t, serviceTOML("pour", "tcp", "127.0.0.1:9")+serviceTOML("web", "http", "127.0.0.1:9"))
	c := &clockOf{d: d}
	owner := d.owner(t)
	at := time.Date(2030, 6, 1, 0, 0, 0, 0, time.UTC)
	c.set(at, true)
	d.enter(t, "Bob", acl.RoleViewer)
	gone := d.enter(t, "Carol", acl.RoleViewer)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := d.store.Grant("Bob", acl.Grant{Service: "pour", Limits: acl.Limits{Until: at}}, acl.By{})
	must(err)
	_, err = d.store.Revoke("Carol", acl.By{})
	must(err)
	must(d.store.Block(acl.KindCentral, "x", acl.By{}))
	guest := newKey(t)
	mustEnter(t, d.guests, guestOfKey(guest.Fingerprint(), acl.KindCentral, "y", acl.RoleAdmin))
	for _, row := range []struct {
		who, action, service string
		allow                bool
		reason, note         string
	}{
		{"Alice", "reset", "", true, "role owner may", ""},
		{owner.key.Fingerprint().String(), "reset", "", true, "role owner may", ""},
		{owner.key.Fingerprint().Short(), "users", "", true, "role owner may", ""},
		{"Bob", "tunnel", "web", true, "role viewer may", ""},
		{"Bob", "users", "", false, "role viewer may not manage users", ""},
		{"Bob", "tunnel", "pour", false, "ended", "granted this service until 2030-06-01T00:00:00Z: ended"},
		{newKey(t).Fingerprint().String(), "me", "", false, "not paired", "no user has this key"},
		{gone.Fingerprint().String(), "me", "", false, "not paired", "is revoked"},
		{"central:x", "me", "", false, "the owner has blocked this name", "nobody of that name is here now"},
		{"central:y", "users", "", true, "role admin may", ""},
		{guest.Fingerprint().String(), "users", "", true, "role admin may", ""},
		{"y (central)", "reset", "", false, "role admin may not reset the device", ""},
		{"ca:nobody", "me", "", false, "", "nobody of that name is here now"},
	} {
		out, err := d.why(row.who, acl.Action(row.action), row.service)
		if err != nil || out.Allow != row.allow || row.reason != "" && out.Reason != row.reason || !strings.Contains(strings.Join(out.Notes, "\n"), row.note) {
			t.Errorf("%s %s %s: %+v, %v; want %v %q, note %q", row.who, row.action, row.service, out, err, row.allow, row.reason, row.note)
		}
	}
	c.set(at, false)
	out, err := d.why("Bob", acl.ActionTunnel, "pour")
	if err != nil || !strings.Contains(strings.Join(out.Notes, "\n"), "clock is not set") {
		t.Errorf("with an unknown clock: %+v, %v", out, err)
	}
	for _, bad := range [][3]string{{"", "me", ""}, {"Bob", "fly", ""}, {"Bob", "tunnel", ""}, {"Bob", "me", "web"}, {strings.Repeat("x", maxWhoBytes+1), "me", ""}} {
		_, err := d.why(bad[0], acl.Action(bad[1]), bad[2])
		wantCode(t, strings.Join(bad[:], " "), err, api.CodeMalformed)
	}
	_, err = d.why("Bob", acl.ActionTunnel, "nothing")
	wantCode(t, "no service", err, api.CodeNotFound)
	if _, err := d.why("Nobody", acl.ActionMe, ""); err == nil {
		t.Error("nobody is somebody")
	}
}
