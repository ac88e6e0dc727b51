package acl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// vouched is a principal that somebody vouches for as an admin.
func vouched(kind Kind, n int, name string) Principal {
	return Principal{Kind: kind, Fingerprint: fp(n), Name: name, Roles: []string{RoleAdmin}}
}

func (b *bench) refuses(t *testing.T, p Principal, why string) {
	t.Helper()
	if d := b.Decide(p, ActionMe, Service{}); d.Allow != (why == "") || why != "" && d.Why != why {
		t.Errorf("%s: got %+v, want %q", p, d, why)
	}
}

// What the owner revoked stays refused, whoever vouches for it, until it is paired
// again; over a restart, and from each copy and the log alone.
func TestRevokedStaysOut(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	b.enter(2, "Bob", RoleViewer)
	b.enter(3, "Carol", RoleViewer)
	if _, err := b.AddKey("Bob", fp(22), "laptop", testBy); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AddKey("Carol", fp(33), "laptop", testBy); err != nil {
		t.Fatal(err)
	}
	b.refuses(t, vouched(KindCentral, 2, "bob"), "")
	if _, err := b.Revoke("Bob", testBy); err != nil {
		t.Fatal(err)
	}
	if err := b.RemoveKey(fp(3), testBy); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		for _, kind := range []Kind{KindCentral, KindAuthority, KindSupport} {
			for _, n := range []int{2, 22, 3} {
				b.refuses(t, vouched(kind, n, "bob"), whyRevoked)
			}
			b.refuses(t, vouched(kind, 33, "carol"), "") // her other key
			b.refuses(t, vouched(kind, 4, "bob"), "")    // a name is not what was revoked
		}
		if all := b.Blocked(); len(all) != 1 || all[0].Name != "Bob" || len(all[0].Keys) != 2 {
			t.Errorf("%s: blocked: %+v, want Bob", when, all)
		}
	}
	check("now")
	for _, without := range [][]string{nil, {"access.a.db"}, {"access.b.db"}, {"access.a.db", "access.b.db"}, {"audit/checkpoint"}} {
		b.mustClose(t)
		for _, name := range without {
			if err := os.Remove(filepath.Join(b.opts.StateDir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		b.open()
		check(fmt.Sprint("without ", without))
	}
	// Paired again: for each key by itself.
	b.enter(2, "Bob", RoleViewer)
	if _, err := b.AddKey("Carol", fp(3), "phone", testBy); err != nil {
		t.Fatal(err)
	}
	b.refuses(t, vouched(KindCentral, 2, "bob"), "")
	b.refuses(t, vouched(KindCentral, 3, "carol"), "")
	b.refuses(t, vouched(KindCentral, 22, "bob"), whyRevoked)
	if _, err := b.Revoke("Bob", testBy); err != nil {
		t.Fatal(err)
	}
	b.refuses(t, vouched(KindCentral, 2, "bob"), whyRevoked)
}

func TestBlockNames(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	var told []string
	b.OnBlock(func(kind Kind, name string) { told = append(told, kind.String()+" "+name) })
	if err := b.Block(KindAuthority, "acme/Alice@example.net", testBy); err != nil {
		t.Fatal(err)
	}
	if err := b.Block(KindAuthority, "acme/alice@EXAMPLE.net", testBy); err != nil { // is so already
		t.Fatal(err)
	}
	keys, err := b.Revoke("central:x", testBy)
	if err != nil || keys != nil {
		t.Errorf("revoke central:x: %v, %v", keys, err)
	}
	if want := []string{"authority acme/Alice@example.net", "central x"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	b.mustClose(t)
	b.open()
	b.refuses(t, vouched(KindAuthority, 9, "acme/ALICE@example.net"), whyBlocked)
	b.refuses(t, vouched(KindAuthority, 9, "other/alice@example.net"), "")
	b.refuses(t, vouched(KindCentral, 9, "acme/alice@example.net"), "") // another kind
	b.refuses(t, vouched(KindCentral, 9, "x"), whyBlocked)
	b.refuses(t, vouched(KindCentral, 9, strings.Repeat("x", maxPrincipalName+1)), whyBlocked)
	want(t, b.Unblock(KindCentral, "y", testBy), ErrNotBlocked)
	if err := b.Unblock(KindAuthority, "ACME/alice@example.net", testBy); err != nil {
		t.Fatal(err)
	}
	b.refuses(t, vouched(KindAuthority, 9, "acme/alice@example.net"), "")
	for _, bad := range []string{"", strings.Repeat("x", maxPrincipalName+1), "a\nb", "a\xff"} {
		want(t, b.Block(KindCentral, bad, testBy), ErrBlockName)
	}
	want(t, b.Block(KindKey, "x", testBy), ErrBlockName)
	want(t, b.Block(KindAnonymous, "x", testBy), ErrBlockName)
	for _, name := range []string{"ca:acme/alice", "Central:x", "SUPPORT:x"} {
		_, err := b.Enter(Newcomer{Fingerprint: fp(7), User: name, Role: RoleViewer}, testBy)
		if e := new(NameError); !errors.As(err, &e) {
			t.Errorf("a user named %q: %v", name, err)
		}
	}
}

// Nobody who is let in again and again pushes out what the owner revoked before, but
// with hundreds of other people; and names never push out anything.
func TestBlocksAreBounded(t *testing.T) {
	b := newBench(t)
	l := emptyList(1)
	l.Sequence = 1
	if err := l.add(&User{ID: 1, Name: "Alice", Role: RoleOwner, Keys: []Key{{Fingerprint: fp(1)}}}, 1); err != nil {
		t.Fatal(err)
	}
	if err := l.add(&User{ID: 2, Name: "Bob", Role: RoleViewer, Keys: []Key{{Fingerprint: fp(2)}, {Fingerprint: fp(3)}}}, 1); err != nil {
		t.Fatal(err)
	}
	fillBlocks(t, l, maxBlockedNames)
	b.current.Store(l)
	for _, c := range b.copies {
		if err := c.rebuild(l); err != nil {
			t.Fatal(err)
		}
	}
	b.mustClose(t)
	if err := os.RemoveAll(b.state(auditName)); err != nil {
		t.Fatal(err)
	}
	b.open() // the log begins anew, with a checkpoint of all that
	want(t, b.Block(KindCentral, "one more", testBy), ErrFull)
	for i := range 2 * maxFormer {
		if _, err := b.AddKey("Bob", fp(900+i), "", testBy); err != nil {
			t.Fatal(err)
		}
		if err := b.RemoveKey(fp(900+i), testBy); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Revoke("Bob", testBy); err != nil {
		t.Fatal(err)
	}
	after := b.current.Load().blocks
	users, names := after.count()
	if users != maxBlockedUsers || names != maxBlockedNames || after.byKey[fp(1_000_000)] != 0 || after.byKey[fp(1_000_001)] == 0 {
		t.Errorf("%d users and %d names; the oldest is there: %v, the next: %v", users, names, after.byKey[fp(1_000_000)] != 0, after.byKey[fp(1_000_001)] != 0)
	}
	if k := after.byID[2].Keys; len(k) != maxFormer || !slices.Contains(k, fp(2)) || !slices.Contains(k, fp(3)) {
		t.Errorf("Bob's keys that stay out: %v", k)
	}
	b.mustClose(t)
	b.open() // 1,000 blocks fit in a copy and in a checkpoint
	if n := len(b.Blocked()); n != maxBlockedUsers+maxBlockedNames {
		t.Errorf("%d are blocked after a restart", n)
	}
}

func TestParseBlock(t *testing.T) {
	for _, row := range []struct {
		who, name string
		kind      Kind
		ok        bool
	}{
		{"ca:acme/alice@example.net", "acme/alice@example.net", KindAuthority, true},
		{"CENTRAL:x", "x", KindCentral, true},
		{"support:hotline", "hotline", KindSupport, true},
		{"ca:", "", 0, false}, {"Alice", "", 0, false}, {"central", "", 0, false}, {"key:x", "", 0, false},
	} {
		kind, name, ok := ParseBlock(row.who)
		if kind != row.kind || name != row.name || ok != row.ok {
			t.Errorf("%q: %v %q %v", row.who, kind, name, ok)
		}
		if ok && !strings.EqualFold((Block{Kind: kind, Name: name}).String(), row.who) {
			t.Errorf("%q prints as %q", row.who, Block{Kind: kind, Name: name})
		}
	}
}

// fillBlocks puts as many former users and names in a list as there may be.
func fillBlocks(t testing.TB, l *list, names int) {
	t.Helper()
	for i := range maxBlockedUsers {
		b := &Block{ID: uint64(10_000 + i), Kind: KindKey, Name: fmt.Sprint("Former ", i)}
		for k := range maxFormer {
			b.Keys = append(b.Keys, fp(1_000_000+1000*k+i))
		}
		if err := l.blocks.add(b, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range names {
		name := fmt.Sprintf("%s%d@example.net", strings.Repeat("x", 200), i)
		if err := l.blocks.add(&Block{ID: uint64(11_000 + i), Kind: KindCentral, Name: name}, 1); err != nil {
			t.Fatal(err)
		}
	}
	l.nextID = 20_000
}

func (b *bench) mustClose(t *testing.T) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
