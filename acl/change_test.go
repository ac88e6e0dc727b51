package acl

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/names"
	"github.com/keyholed/keyhole/protocol/identity"
)

func TestEnter(t *testing.T) {
	b := newBench(t)
	if !b.Empty() {
		t.Fatal("a new list is not empty")
	}
	enter := func(n Newcomer) (User, error) { return b.Enter(n, testBy) }
	u, err := enter(Newcomer{Fingerprint: fp(1), User: "Zoe\u0308", Role: RoleGuest, Limits: Limits{Until: time.Unix(1, 0)}})
	if err != nil || u.Role != RoleOwner || u.Name != "Zo\u00eb" || !u.Limits.Always() {
		t.Fatalf("the first: %+v, %v", u, err)
	}
	again, err := enter(Newcomer{Fingerprint: fp(1), User: "Somebody else", Role: RoleAdmin})
	if err != nil || !reflect.DeepEqual(again, u) {
		t.Fatalf("the same key again: %+v, %v, want %+v", again, err, u)
	}
	if _, sequence := b.Position(); sequence != 1 {
		t.Fatalf("the same key again made a change: %d", sequence)
	}
	var taken *NameTakenError
	if _, err = enter(Newcomer{Fingerprint: fp(2), User: "ZOË", Role: RoleViewer}); !errors.As(err, &taken) || taken.Suggestion != "ZOË 2" {
		t.Fatalf("a taken name: %v", err)
	}
	want(t, err, ErrNameTaken)
	long := strings.Repeat("x", names.MaxRunes)
	if _, err := enter(Newcomer{Fingerprint: fp(2), User: long, Role: RoleViewer}); err != nil {
		t.Fatal(err)
	}
	if _, err = enter(Newcomer{Fingerprint: fp(3), User: long, Role: RoleViewer}); !errors.As(err, &taken) || taken.Suggestion != long[:62]+" 2" {
		t.Fatalf("a long taken name: %v", err)
	}
	for _, c := range []struct {
		n    Newcomer
		want error
	}{
		{Newcomer{Fingerprint: fp(3), User: "Eve", Role: "king"}, ErrRole},
		{Newcomer{Fingerprint: fp(3), User: "Eve", Role: RoleOwner}, ErrOwner},
		{Newcomer{Fingerprint: fp(3), User: "Eve", Role: RoleViewer, Limits: Limits{Hours: []Window{{}}}}, ErrLimits},
		{Newcomer{User: "Eve", Role: RoleViewer}, identity.ErrNotFingerprint},
	} {
		_, err := enter(c.n)
		want(t, err, c.want)
	}
	for _, name := range []string{"", "a\u202eb", "ca:acme/alice", "CA:x", "deadbeef", "DEADBEEF00", fp(1).String()} {
		var bad *NameError
		if _, err := enter(Newcomer{Fingerprint: fp(3), User: name, Role: RoleViewer}); !errors.As(err, &bad) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	if len(b.Users()) != 2 {
		t.Fatalf("users: %+v", b.Users())
	}
	b.sound()
}

func TestLastOwnerStays(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	b.enter(2, "Bob", RoleViewer)
	_, err := b.SetRole("Alice", RoleViewer, testBy)
	want(t, err, ErrLastOwner)
	for _, who := range []string{"alice", fp(1).String(), fp(1).Short()} {
		_, err = b.Revoke(who, testBy)
		want(t, err, ErrLastOwner)
	}
	_, err = b.SetLimits("Alice", Limits{Until: time.Unix(1, 0)}, testBy)
	want(t, err, ErrOwnerLimits)
	want(t, b.RemoveKey(fp(1), testBy), ErrLastKey)
	if _, err := b.SetLimits("Bob", Limits{Until: time.Unix(1, 0)}, testBy); err != nil {
		t.Fatal(err)
	}
	if u, err := b.SetRole("Bob", RoleOwner, testBy); err != nil || !u.Limits.Always() {
		t.Fatalf("a second owner: %+v, %v", u, err)
	}
	if _, err := b.SetRole("Alice", RoleViewer, testBy); err != nil {
		t.Fatal(err)
	}
	_, err = b.Revoke("Bob", testBy)
	want(t, err, ErrLastOwner)
}

func TestKeys(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	b.enter(2, "Bob", RoleViewer)
	for i := 1; i < MaxKeys; i++ {
		if _, err := b.AddKey("Alice", fp(100+i), fmt.Sprintf("key %d", i), testBy); err != nil {
			t.Fatal(err)
		}
	}
	_, err := b.AddKey("Alice", fp(200), "", testBy)
	want(t, err, ErrTooMany)
	_, err = b.AddKey("Alice", fp(2), "", testBy)
	want(t, err, ErrKeyTaken)
	_, err = b.AddKey("Nobody", fp(200), "", testBy)
	want(t, err, ErrNoUser)
	_, err = b.AddKey("Bob", identity.Fingerprint{}, "", testBy)
	want(t, err, identity.ErrNotFingerprint)
	if _, err := b.User(fp(101).String()[:8]); err != nil {
		t.Fatalf("by a prefix: %v", err)
	}
	if out, err := b.Revoke(fp(103).String(), testBy); err != nil || len(out) != 1 || out[0] != fp(103) {
		t.Fatalf("revoke a key: %v, %v", out, err)
	}
	if u, ok := b.UserOf(fp(1)); !ok || len(u.Keys) != MaxKeys-1 {
		t.Fatalf("%+v", u)
	}
	if b.Known(fp(103)) || !b.Known(fp(104)) {
		t.Fatal("the wrong key is out")
	}
	if _, err := b.User("0000"); !errors.Is(err, ErrNoUser) {
		t.Fatalf("a short prefix: %v", err)
	}
}

func TestAmbiguousPrefix(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	f, g := fp(9), fp(9)
	f[30], g[30] = 1, 2
	for i, x := range []identity.Fingerprint{f, g} {
		if _, err := b.Enter(Newcomer{Fingerprint: x, User: fmt.Sprint("Twin ", i), Role: RoleViewer}, testBy); err != nil {
			t.Fatal(err)
		}
	}
	_, err := b.Revoke(f.Short(), testBy)
	want(t, err, ErrAmbiguous)
}

func TestWhoIsTold(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	b.enter(2, "Bob", RoleViewer)
	var told []identity.Fingerprint
	var changes atomic.Int32
	b.OnRevoke(func(keys []identity.Fingerprint) {
		for _, k := range keys {
			if d := b.Decide(Principal{Fingerprint: k}, ActionUsers, Service{}); d.Allow {
				t.Errorf("told of %s while it is still allowed", k.Short())
			}
		}
		told = append(told, keys...)
	})
	b.OnChange(func() { changes.Add(1) })
	steps := []struct {
		do   func() error
		told int
	}{
		{func() error { _, err := b.AddKey("Bob", fp(22), "tablet", testBy); return err }, 0},
		{func() error { _, err := b.Rename("Bob", "Robert", testBy); return err }, 0},
		{func() error { _, err := b.Grant("Robert", Grant{Service: "shell"}, testBy); return err }, 0},
		{func() error { _, err := b.RevokeGrant("Robert", "shell", testBy); return err }, 2},
		{func() error { _, err := b.SetRole("Robert", RoleGuest, testBy); return err }, 2},
		{func() error { return b.RemoveKey(fp(22), testBy) }, 1},
		{func() error { _, err := b.Revoke("Robert", testBy); return err }, 1},
	}
	for i, s := range steps {
		told = nil
		if err := s.do(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if len(told) != s.told {
			t.Errorf("step %d: told of %d keys, want %d", i, len(told), s.told)
		}
	}
	if n := changes.Load(); int(n) != len(steps) {
		t.Errorf("%d changes told, want %d", n, len(steps))
	}
	if _, err := b.Rename("Alice", "Alice", testBy); err != nil || int(changes.Load()) != len(steps) {
		t.Errorf("no change was told as one: %v", err)
	}
}

func TestUsersAreCopies(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	b.enter(2, "Bob", RoleViewer)
	if _, err := b.Grant("Bob", Grant{Service: "cam"}, testBy); err != nil {
		t.Fatal(err)
	}
	u := b.Users()[1]
	u.Role, u.Keys[0].Fingerprint, u.Grants[0].Service = RoleOwner, fp(66), "shell"
	if again := b.Users()[1]; again.Role != RoleViewer || again.Keys[0].Fingerprint != fp(2) || again.Grants[0].Service != "cam" {
		t.Fatalf("the list was changed from outside: %+v", again)
	}
}

func TestClosedAndInUse(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	_, err := Open(b.opts)
	want(t, err, ErrInUse)
	if err := b.Store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Store.Close(); err != nil {
		t.Fatalf("close again: %v", err)
	}
	_, err = b.Rename("Alice", "Alicia", testBy)
	want(t, err, ErrClosed)
	if d := b.Decide(Principal{Fingerprint: fp(1)}, ActionReset, Service{}); !d.Allow {
		t.Fatalf("after closing: %+v", d)
	}
	b.open()
}

func TestFullList(t *testing.T) {
	b := newBench(t)
	b.current.Store(bigList(t, MaxUsers))
	_, err := b.Enter(Newcomer{Fingerprint: fp(5000), User: "One more", Role: RoleViewer}, testBy)
	want(t, err, ErrFull)
	l := bigList(t, 2)
	l.bytes = MaxListBytes
	b.current.Store(l)
	_, err = b.Enter(Newcomer{Fingerprint: fp(5000), User: "One more", Role: RoleViewer}, testBy)
	want(t, err, ErrFull)
}
