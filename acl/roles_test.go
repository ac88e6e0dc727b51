package acl

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/keyholed/keyhole/protocol/identity"
)

var someTypes = []string{"rtsp", "http", "ssh", "tcp"}

func TestCheckRoles(t *testing.T) {
	good := []Role{
		{Name: "installer", Actions: []Action{ActionTunnel, ActionSettings}, Types: []string{"http", "ssh"}},
		{Name: "steward", Actions: []Action{ActionUsers}},
		{Name: "nothing"},
		{Name: "all-doors", Actions: []Action{ActionTunnel}, Types: []string{AnyType}},
	}
	if err := CheckRoles(good, someTypes); err != nil {
		t.Error(err)
	}
	tunnel := []Action{ActionTunnel}
	for _, row := range []struct {
		role  Role
		field string
		place int
	}{
		{Role{Name: ""}, "name", -1},
		{Role{Name: "Installer"}, "name", -1},
		{Role{Name: RoleOwner}, "name", -1},
		{Role{Name: RoleViewer}, "name", -1},
		{Role{Name: "nothing"}, "name", -1},
		{Role{Name: "x", Actions: []Action{ActionUsers, "fly"}}, "actions", 1},
		{Role{Name: "x", Actions: []Action{ActionUsers, ActionEvents, ActionUsers}}, "actions", 2},
		{Role{Name: "x", Actions: tunnel}, "types", -1},
		{Role{Name: "x", Types: []string{"http"}}, "types", -1},
		{Role{Name: "x", Actions: tunnel, Types: []string{"http", "gopher"}}, "types", 1},
		{Role{Name: "x", Actions: tunnel, Types: []string{"http", "http"}}, "types", 1},
		{Role{Name: "x", Actions: tunnel, Types: []string{"http", AnyType}}, "types", 0},
	} {
		err := CheckRoles(append(slices.Clone(good), row.role), someTypes)
		var fault *RoleFault
		if !errors.As(err, &fault) || fault.Index != len(good) || fault.Field != row.field || fault.Place != row.place {
			t.Errorf("%+v: %v %+v, want a fault of %s, place %d", row.role, err, fault, row.field, row.place)
		}
	}
	var many []Role
	for i := range maxRoles + 1 {
		many = append(many, Role{Name: fmt.Sprint("r", i)})
	}
	if CheckRoles(many, someTypes) == nil {
		t.Errorf("%d roles are taken", len(many))
	}
}

// A role that is taken away, or may do less, puts out those who have it; one that may
// do more disturbs nobody.
func TestSetRoles(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	wide := Role{Name: "porter", Actions: []Action{ActionMe, ActionTunnel}, Types: []string{"http", "ssh"}}
	if err := b.SetRoles([]Role{wide}); err != nil {
		t.Fatal(err)
	}
	b.enter(2, "Bob", "porter")
	b.enter(3, "Carol", RoleViewer)
	var told []identity.Fingerprint
	b.OnRevoke(func(keys []identity.Fingerprint) { told = keys })
	ssh := Service{Name: "shell", Type: "ssh"}
	for _, row := range []struct {
		roles []Role
		told  []identity.Fingerprint
		may   bool
	}{
		{[]Role{{Name: "porter", Actions: []Action{ActionMe, ActionTunnel}, Types: []string{AnyType}}}, nil, true},
		{[]Role{wide}, []identity.Fingerprint{fp(2)}, true},
		{[]Role{{Name: "porter", Actions: wide.Actions, Types: []string{"http"}}}, []identity.Fingerprint{fp(2)}, false},
		{nil, []identity.Fingerprint{fp(2)}, false},
		{[]Role{wide}, nil, true},
	} {
		told = nil
		if err := b.SetRoles(row.roles); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(told, row.told) {
			t.Errorf("%+v: told %v, want %v", row.roles, told, row.told)
		}
		if d := b.Decide(Principal{Fingerprint: fp(2)}, ActionTunnel, ssh); d.Allow != row.may {
			t.Errorf("%+v: %+v", row.roles, d)
		}
	}
	if err := b.SetRoles([]Role{{Name: "Bad"}}); err == nil || !b.Includes("porter", "porter") || len(b.Roles()) != len(BuiltinRoles)+1 {
		t.Errorf("a bad list is in force: %v, %v", err, b.Roles())
	}
	if r := b.Roles()[len(BuiltinRoles)]; r.Name != "porter" || !slices.Equal(r.Actions, wide.Actions) || !slices.Equal(r.Types, wide.Types) {
		t.Errorf("roles: %+v", r)
	}
}
