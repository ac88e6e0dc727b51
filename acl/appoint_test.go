package acl

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestAppoint(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	const name = "bob@example.net"
	for what, c := range map[string]struct {
		name, role string
		want       error
	}{
		"owner":       {name, RoleOwner, ErrRole},
		"no role":     {name, "nonsense", ErrRole},
		"nobody":      {"", RoleViewer, ErrBlockName},
		"not printed": {"a\n", RoleViewer, ErrBlockName},
		"not given":   {name, "", ErrNoUser},
	} {
		if err := b.Appoint(c.name, c.role, testBy); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(role string, blocked bool) {
		t.Helper()
		p := Principal{Kind: KindAuthority, Fingerprint: fp(7), Name: name, Roles: []string{RoleViewer}}
		if got := b.Appointed(name); got != role || b.IsBlocked(p) != blocked || len(b.Blocked()) == 0 == blocked {
			t.Errorf("role %q, blocked %v (%v), want %q, %v", got, b.IsBlocked(p), b.Blocked(), role, blocked)
		}
	}
	must(b.Appoint(name, RoleViewer, testBy))
	must(b.Appoint(name, RoleViewer, testBy))
	want(RoleViewer, false)
	if got := b.Appointed("BOB@example.net"); got != "" {
		t.Errorf("another spelling has the role %q", got)
	}
	if err := b.Unblock(KindAuthority, name, testBy); !errors.Is(err, ErrNotBlocked) {
		t.Errorf("unblock of who is not: %v", err)
	}
	told := 0
	b.OnBlock(func(Kind, string) { told++ })
	must(b.Block(KindAuthority, "Bob@example.net", testBy))
	want("", true)
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	must(b.Appoint(name, RoleAdmin, testBy)) // the owner lets him in again
	want(RoleAdmin, false)

	// It is kept, in each copy and in the log alone.
	for _, without := range [][]string{nil, {"access.a.db"}, {"access.b.db"}, {"access.a.db", "access.b.db"}} {
		b.mustClose(t)
		for _, file := range without {
			must(os.Remove(filepath.Join(b.opts.StateDir, file)))
		}
		b.open()
		want(RoleAdmin, false)
	}
	if all := b.Appointments(); len(all) != 1 || all[0].Name != name || all[0].Role != RoleAdmin {
		t.Errorf("appointments %+v", all)
	}
	must(b.Appoint(name, "", testBy))
	want("", false)
}
