package acl

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

func listed(name string, keys ...int) CentralUser {
	c := CentralUser{Name: name, Role: RoleViewer}
	for _, n := range keys {
		c.Keys = append(c.Keys, fp(n))
	}
	return c
}

func (b *bench) merge(people ...CentralUser) Merged {
	b.t.Helper()
	m, err := b.MergeCentral(people, "version 1", testBy)
	if err != nil {
		b.t.Fatalf("merge: %v", err)
	}
	return m
}

// whoHas names the user of a key, "" for nobody.
func (b *bench) whoHas(n int) string {
	u, ok := b.UserOf(fp(n))
	if !ok {
		return ""
	}
	return u.Name + " " + u.Role
}

// TestMergeCentral: a version of the vendor's list comes in, changes and goes in one
// change each, and survives a restart.
func TestMergeCentral(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	var cut []identity.Fingerprint
	b.OnRevoke(func(keys []identity.Fingerprint) { cut = append(cut, keys...) })
	_, before := b.Position()
	if m := b.merge(listed("Bob", 10, 11), listed("Carol", 12), listed("Dan", 13)); m.Added != 3 || len(m.Refused) != 0 {
		t.Errorf("merged: %+v", m)
	}
	if _, now := b.Position(); now != before+1 {
		t.Errorf("%d changes, want one", now-before)
	}
	if m := b.merge(listed("Bob", 10, 11), listed("Carol", 12), listed("Dan", 13)); !reflect.DeepEqual(m, Merged{}) {
		t.Errorf("the same again: %+v", m)
	}
	if _, now := b.Position(); now != before+1 || len(cut) != 0 {
		t.Errorf("the same again makes %d changes and cuts %v", now-before-1, cut)
	}
	bob, _ := b.User("Bob")
	if !bob.Central || bob.Role != RoleViewer || b.whoHas(11) != "Bob viewer" {
		t.Errorf("Bob is %+v", bob)
	}
	// Bob gives a key to Carol, who becomes admin and has an end; Dan goes, Erin comes.
	carol := listed("Carol", 11, 12)
	carol.Role, carol.Until = RoleAdmin, time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	if m := b.merge(listed("Bob", 10), carol, listed("Erin", 14)); m.Added != 1 || m.Changed != 2 || m.Removed != 1 {
		t.Errorf("merged: %+v", m)
	}
	for n, who := range map[int]string{10: "Bob viewer", 11: "Carol admin", 12: "Carol admin", 13: "", 14: "Erin viewer", 1: "Alice owner"} {
		if got := b.whoHas(n); got != who {
			t.Errorf("key %d is %q, want %q", n, got, who)
		}
	}
	for _, n := range []int{11, 12, 13} { // Bob's former, Carol's who has an end now, Dan's
		if !slices.Contains(cut, fp(n)) {
			t.Errorf("sessions of key %d were not cut", n)
		}
	}
	if slices.Contains(cut, fp(10)) || slices.Contains(cut, fp(1)) {
		t.Errorf("cut %v, who lost nothing", cut)
	}
	if again, _ := b.User("Bob"); again.ID != bob.ID || again.Since != bob.Since {
		t.Errorf("Bob is another one: %+v", again)
	}
	users := b.Users()
	b.reopen()
	b.sound()
	if got := b.Users(); !reflect.DeepEqual(got, users) {
		t.Errorf("after a restart: %+v, want %+v", got, users)
	}
	// Both copies gone, the log alone brings it back.
	b.mustClose(t)
	for _, name := range copyNames {
		if err := os.Remove(b.state(name)); err != nil {
			t.Fatal(err)
		}
	}
	b.open()
	if got := b.Users(); !reflect.DeepEqual(got, users) {
		t.Errorf("from the log: %+v, want %+v", got, users)
	}
	if m := b.merge(); m.Removed != 3 || len(b.Users()) != 1 {
		t.Errorf("an empty list: %+v, %d users", m, len(b.Users()))
	}
}

// TestMergeRefuses: what the vendor's list may not do, entry for entry; the others
// come in all the same.
func TestMergeRefuses(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	b.enter(2, "Bob", RoleViewer)
	owner, nobody := listed("Mallory", 20), listed("Nora", 21)
	owner.Role, nobody.Role = RoleOwner, "no-such-role"
	m := b.merge(
		owner, nobody, listed("BOB", 22), listed("Thief", 2), listed("Good", 23), listed("good", 24), listed("Twin", 23),
		listed("No keys"), listed(" bad name", 25), listed("central:x", 26), listed("Many", 30, 31, 32, 33, 34, 35, 36, 37, 38), listed("Last", 27),
	)
	if m.Added != 2 || len(m.Refused) != 10 || b.whoHas(23) != "Good viewer" || b.whoHas(27) != "Last viewer" {
		t.Errorf("merged: %+v", m)
	}
	if b.whoHas(2) != "Bob viewer" || len(b.Users()) != 4 {
		t.Errorf("users: %+v", b.Users())
	}
	for _, u := range b.Users() {
		if u.Central && u.Role == RoleOwner {
			t.Errorf("the vendor made an owner: %+v", u)
		}
	}
	for what, change := range map[string]func() error{
		"role":   func() error { _, err := b.SetRole("Good", RoleAdmin, testBy); return err },
		"owner":  func() error { _, err := b.SetRole("Good", RoleOwner, testBy); return err },
		"name":   func() error { _, err := b.Rename("Good", "Better", testBy); return err },
		"key":    func() error { _, err := b.AddKey("Good", fp(40), "", testBy); return err },
		"limits": func() error { _, err := b.SetLimits("Good", Limits{}, testBy); return err },
	} {
		if err := change(); !errors.Is(err, ErrCentral) {
			t.Errorf("%s of a user of the vendor's list: %v", what, err)
		}
	}
	if _, err := b.Grant("Good", Grant{Service: "ssh"}, testBy); err != nil {
		t.Errorf("the owner grants a service: %v", err)
	}
	admin := listed("Good", 23)
	admin.Role = RoleAdmin
	b.merge(admin, listed("Last", 27))
	if u, _ := b.User("Good"); u.Role != RoleAdmin || len(u.Grants) != 1 {
		t.Errorf("after a version: %+v", u)
	}
}

// TestLocalRevocationWins: whom the owner put out, by name, key or block, no version of
// the list brings back, until the owner says so.
func TestLocalRevocationWins(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	b.enter(2, "Former", RoleViewer)
	if _, err := b.Revoke("Former", testBy); err != nil {
		t.Fatal(err)
	}
	people := []CentralUser{listed("Bob", 10, 11), listed("Carol", 12), listed("Dan", 13, 14), listed("Revenant", 2)}
	if m := b.merge(people...); m.Added != 3 || len(m.Refused) != 1 {
		t.Errorf("merged: %+v", m)
	}
	var cut []identity.Fingerprint
	b.OnRevoke(func(keys []identity.Fingerprint) { cut = append(cut, keys...) })
	if _, err := b.Revoke("Bob", testBy); err != nil {
		t.Fatal(err)
	}
	if err := b.Block(KindCentral, "carol", testBy); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Revoke(fp(13).String(), testBy); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{10, 11, 12, 13} {
		if b.whoHas(n) != "" || !slices.Contains(cut, fp(n)) {
			t.Errorf("key %d is %q, cut %v", n, b.whoHas(n), cut)
		}
	}
	for range 2 {
		people[0] = listed("Bob", 10, 11, 15) // with a new phone
		b.merge(append(people, listed("Robert", 11))...)
		for n, who := range map[int]string{2: "", 10: "", 11: "", 12: "", 13: "", 14: "Dan viewer", 15: ""} {
			if got := b.whoHas(n); got != who {
				t.Errorf("key %d is %q, want %q", n, got, who)
			}
		}
		b.reopen()
		b.sound()
	}
	for _, n := range []int{10, 12} {
		if !b.IsBlocked(Principal{Kind: KindCentral, Fingerprint: fp(n), Name: "somebody else"}) {
			t.Errorf("a grant of the vendor would let key %d in", n)
		}
	}
	if err := b.Unblock(KindCentral, "Bob", testBy); err != nil {
		t.Fatal(err)
	}
	b.merge(people...)
	if b.whoHas(10) != "Bob viewer" || b.whoHas(15) != "Bob viewer" || b.whoHas(12) != "" {
		t.Errorf("after the owner took it back: %q, %q, %q", b.whoHas(10), b.whoHas(15), b.whoHas(12))
	}
}

// TestFirstOwnerBesideList: the list makes nobody owner and keeps nobody from it, also
// one whose key it has.
func TestFirstOwnerBesideList(t *testing.T) {
	for _, known := range []bool{false, true} {
		b := newBench(t)
		b.merge(listed("Technician", 10), listed("Alice", 1))
		if !b.Empty() {
			t.Error("with a list alone the device counts as owned")
		}
		key, name := 2, "Owner"
		if known {
			key, name = 1, "Alice"
		}
		u, err := b.Enter(Newcomer{Fingerprint: fp(key), User: name, Role: RoleViewer}, testBy)
		if err != nil || u.Role != RoleOwner || u.Central || b.Empty() {
			t.Fatalf("known %v: the first to pair is %+v, %v", known, u, err)
		}
		m := b.merge(listed("Technician", 10), listed("Alice", 1))
		if b.whoHas(key) != name+" owner" || known != (len(m.Refused) == 1) {
			t.Errorf("known %v: after the next version %q, %+v", known, b.whoHas(key), m)
		}
		if next := b.enter(5, "Bob", RoleViewer); next.Role != RoleViewer {
			t.Errorf("the second is %s", next.Role)
		}
		b.sound()
	}
}

// TestInviteMakesNoOwner: somebody whom the vendor lists can invite nobody into a device
// that has no owner, and gives himself no further key.
func TestInviteMakesNoOwner(t *testing.T) {
	b := newBench(t)
	admin := listed("Technician", 10)
	admin.Role = RoleAdmin
	b.merge(admin)
	by := By{User: "Technician", Fingerprint: fp(10), Via: "session"}
	for _, myself := range []bool{false, true} {
		i := testInvite(1, RoleViewer)
		i.Key, i.Myself = fp(10), myself
		if myself {
			i.Role = ""
		}
		made, err := b.Invite(i, time.Hour, by)
		if err != nil {
			t.Logf("myself %v: no invite is made: %v", myself, err)
			continue
		}
		u, err := b.Redeem(made.Name, Newcomer{Fingerprint: fp(50), User: "Mallory"}, by)
		if err == nil {
			t.Errorf("myself %v: let in as %+v", myself, u)
		}
	}
	if !b.Empty() || len(b.Users()) != 1 {
		t.Errorf("users: %+v", b.Users())
	}
	if u := b.enter(1, "Alice", ""); u.Role != RoleOwner {
		t.Errorf("the first to pair is %s", u.Role)
	}
}

// TestMergeThousand: a list as long as there may be, at once; the household's places
// stay free, and the next version that drops them all cuts them all.
func TestMergeThousand(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	var people []CentralUser
	for i := range MaxUsers {
		people = append(people, listed(fmt.Sprintf("Person %d", i), 1000+2*i, 1001+2*i))
	}
	began := time.Now()
	m := b.merge(people...)
	t.Logf("%d came in, in %v", m.Added, time.Since(began))
	if m.Added != maxCentral || len(m.Refused) != MaxUsers-maxCentral {
		t.Errorf("merged: %d in, %d refused", m.Added, len(m.Refused))
	}
	for i := range keptForLocal - 1 {
		b.enter(10+i, fmt.Sprintf("Local %d", i), RoleViewer)
	}
	if _, err := b.Enter(Newcomer{Fingerprint: fp(900), User: "Too many", Role: RoleViewer}, testBy); !errors.Is(err, ErrFull) {
		t.Errorf("one more than there is room for: %v", err)
	}
	b.reopen()
	b.sound()
	page, err := b.Audit(0, 0)
	if err != nil || !slices.ContainsFunc(page, func(e Entry) bool { return e.What == WhatCentralList && strings.Contains(e.Detail, "new Person 0") }) {
		t.Errorf("the log does not tell of it: %v", err)
	}
	b.mustClose(t)
	for _, name := range copyNames {
		if err := os.Remove(b.state(name)); err != nil {
			t.Fatal(err)
		}
	}
	b.open()
	if n := len(b.Users()); n != MaxUsers {
		t.Errorf("the log brings back %d users", n)
	}
	var cut []identity.Fingerprint
	b.OnRevoke(func(keys []identity.Fingerprint) { cut = append(cut, keys...) })
	if m := b.merge(); m.Removed != maxCentral || len(cut) != 2*maxCentral || len(b.Users()) != keptForLocal {
		t.Errorf("merged %+v, cut %d keys, %d users are left", m, len(cut), len(b.Users()))
	}
}

// TestMergeFails: when the log cannot be written nothing of a version is there.
func TestMergeFails(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	b.merge(listed("Bob", 10))
	b.mustClose(t)
	if m, err := b.MergeCentral([]CentralUser{listed("Carol", 11)}, "version 2", testBy); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %+v, %v", m, err)
	}
	b.open()
	if b.whoHas(10) != "Bob viewer" || b.whoHas(11) != "" {
		t.Errorf("users: %+v", b.Users())
	}
}

func FuzzMerge(f *testing.F) {
	f.Add([]byte("abcabcabc"))
	f.Add([]byte{1, 2, 3, 250, 9, 9, 9, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		l := emptyList(1)
		s := &Store{clock: func() Clock { return Clock{} }}
		roles := mustRoles(t)
		s.roles.Store(&roles)
		for _, u := range []*User{{ID: 1, Name: "P0", Role: RoleOwner, Keys: []Key{{Fingerprint: fp(1)}}}, {ID: 2, Name: "P1", Role: RoleViewer, Keys: []Key{{Fingerprint: fp(2)}}}} {
			if err := l.add(u, 0); err != nil {
				t.Fatal(err)
			}
		}
		for len(data) > 0 {
			n := min(int(data[0]%8), len(data)-1)
			var people []CentralUser
			for _, c := range data[1 : 1+n] {
				people = append(people, CentralUser{Name: fmt.Sprintf("P%d", c%7), Role: []string{RoleViewer, RoleAdmin, RoleOwner, "x"}[c>>3%4], Keys: []identity.Fingerprint{fp(int(c >> 5)), fp(int(c % 11))}})
			}
			data = data[1+n:]
			p := s.planMerge(l, people)
			if p.step("") == nil {
				continue
			}
			next, err := l.with(change{batch: &p.batch})
			if err != nil {
				t.Fatalf("a plan that cannot be carried out: %v", err)
			}
			if next.users[1].Role != RoleOwner || next.users[2].User == nil || next.owners() != 1 || next.bytes != bytesOf(next) {
				t.Fatalf("the list is %+v", next.users)
			}
			l = next
		}
	})
}

func mustRoles(t *testing.T) map[string]*role {
	roles, err := compileRoles(nil)
	if err != nil {
		t.Fatal(err)
	}
	return roles
}

func bytesOf(l *list) (n int) {
	for _, u := range l.users {
		n += u.bytes
	}
	return n
}
