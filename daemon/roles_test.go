package daemon

import (
	"slices"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

func roleTOML(name, actions, types string) string {
	text := "\n[[role]]\nname = \"" + name + "\"\nactions = [" + actions + "]\n"
	if types != "" {
		text += "types = [" + types + "]\n"
	}
	return text
}

// What makes no sense in a role is refused with its line before anything runs.
func TestRolesThatMakeNoSense(t *testing.T) {
	dir := t.TempDir()
	for more, want := range map[string]string{
		roleTOML("porter", `"fly"`, ""):                `keyholed.toml:11: role "porter": actions: "fly" is no action`,
		roleTOML("porter", `"tunnel"`, `"gopher"`):     `"gopher" is no type of service`,
		roleTOML("porter", `"tunnel"`, ""):             "types: has no value",
		roleTOML("porter", `"users"`, `"http"`):        "means nothing without",
		roleTOML("porter", `"users", "users"`, "")[1:]: "is listed twice",
	} {
		_, err := New(Options{Config: parse(t, dir, text(dir, more)), Quiet: true})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", more, err, want)
		}
	}
}

// A vendor's role is given, listed, and taken over by a reload: who may do less by it
// is put out.
func TestVendorRole(t *testing.T) {
	e := pouring(t)
	services := serviceTOML("pour", "tcp", e.address)
	d := startDevice(t, services+roleTOML("porter", `"tunnel"`, `"tcp"`)+roleTOML("steward", `"users"`, ""))
	owner := d.owner(t)
	key := d.enter(t, "Bob", "porter")
	steward := d.dial(t, d.enter(t, "Sue", "steward"), session.PathTCP)
	var roles api.Roles
	owner.call("GET", "/v1/roles", nil, &roles)
	i := slices.IndexFunc(roles.Roles, func(r api.Role) bool { return r.Name == "porter" })
	if i != len(acl.BuiltinRoles) || !slices.Equal(roles.Roles[i].Actions, []string{"hello", "device", "services", "me", "tunnel"}) {
		t.Errorf("roles: %+v", roles)
	}
	for _, r := range roles.Roles {
		if !r.MayGive {
			t.Errorf("the owner may not give %s", r.Name)
		}
	}
	steward.call("GET", "/v1/roles", nil, &roles)
	for _, r := range roles.Roles {
		if want := r.Name == acl.RoleGuest || r.Name == "steward"; r.MayGive != want {
			t.Errorf("a steward may give %s: %v", r.Name, r.MayGive)
		}
	}
	p := d.dial(t, key, session.PathTCP)
	stream := open(t, p, false)
	reload := func(more string) *config.Config {
		t.Helper()
		next := parse(t, d.dir, text(d.dir, services+more))
		if err := d.Reload(next); err != nil {
			t.Fatal(err)
		}
		return next
	}
	reload(roleTOML("porter", `"tunnel"`, `"http"`) + roleTOML("steward", `"users"`, ""))
	drainUntilEnd(stream)
	<-p.Done()
	p = d.dial(t, key, session.PathTCP)
	if _, err := p.Connect(t.Context(), "pour", false); err == nil {
		t.Error("he may still")
	}
	reload(roleTOML("steward", `"users"`, ""))
	p = d.dial(t, key, session.PathTCP)
	wantCode(t, "a role that is gone", p.tryCall("GET", "/v1/me", nil, nil), api.CodeForbidden)
	if err := d.Reload(parse(t, d.dir, text(d.dir, services+roleTOML("porter", `"fly"`, "")))); err == nil {
		t.Error("nonsense was taken over")
	}
}

// Nobody gives more than he has, and nobody touches who has more.
func TestNobodyGivesMoreThanHeHas(t *testing.T) {
	d := startDevice(t, serviceTOML("shell", "ssh", "127.0.0.1:9")+
		roleTOML("steward", `"users", "tunnel"`, `"http"`)+roleTOML("reader", `"audit"`, ""))
	d.owner(t)
	for name, role := range map[string]string{"Ann": "admin", "Vic": "viewer", "Gus": "guest", "Rea": "reader", "Sam": "steward", "Gil": "guest"} {
		d.enter(t, name, role)
	}
	if _, err := d.store.Grant("Gil", acl.Grant{Service: "shell"}, acl.By{}); err != nil {
		t.Fatal(err)
	}
	for role, may := range map[string]map[string]bool{
		acl.RoleAdmin: {"Gus→viewer": true, "Gus→admin": true, "Gus→reader": true, "Gus→owner": false, "Boss→viewer": false, "Boss": false, "Ann→guest": true, "Gil→viewer": true},
		"steward":     {"Gus→viewer": false, "Gus→admin": false, "Gus→reader": false, "Gus→steward": true, "Gus→owner": false, "Ann": false, "Vic": false, "Rea": false, "Boss": false, "Sam→guest": true, "Gil→steward": false, "Gil": false},
	} {
		key := d.enter(t, "Mel", role)
		c := caller{peer: key.Fingerprint(), principals: d.principalsOf(key.Fingerprint()), paired: true}
		for what, want := range may {
			who, to, give := strings.Cut(what, "→")
			if who == "Boss" {
				who = d.store.Users()[0].Name
			}
			target, err := d.store.User(who)
			if err != nil {
				t.Fatal(err)
			}
			var wanted *string
			if give {
				wanted = &to
			}
			if err := d.mayChange(c, target, wanted); (err == nil) != want {
				t.Errorf("%s: %s: %v, want allowed: %v", role, what, err, want)
			}
		}
		if _, err := d.store.Revoke("Mel", acl.By{}); err != nil {
			t.Fatal(err)
		}
	}
}
