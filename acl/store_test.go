package acl

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A bench is a store in a directory of its own that is checked after every
// commit.
type bench struct {
	t    testing.TB
	dir  string
	opts Options
	*Store
}

func newBench(t testing.TB) *bench {
	t.Helper()
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b := &bench{t: t, dir: dir, opts: Options{
		StateDir:    filepath.Join(dir, "state"),
		IdentityDir: filepath.Join(dir, "identity"),
		Key:         key,
	}}
	b.open()
	t.Cleanup(func() { _ = b.Store.Close() })
	return b
}

func (b *bench) state(name string) string { return filepath.Join(b.opts.StateDir, name) }

func (b *bench) open() {
	b.t.Helper()
	s, err := Open(b.opts)
	if err != nil {
		b.t.Fatalf("open: %v", err)
	}
	watch(b.t, s)
	b.Store = s
}

// watch makes every commit end with bbolt's consistency check.
func watch(t testing.TB, s *Store) {
	for _, c := range s.copies {
		c.checked = func(db *bbolt.DB) error {
			err := db.View(check)
			if err != nil {
				t.Errorf("after a commit: %v", err)
			}
			return err
		}
	}
}

func (b *bench) reopen() {
	b.t.Helper()
	if err := b.Store.Close(); err != nil {
		b.t.Fatalf("close: %v", err)
	}
	b.open()
}

func (b *bench) sound() {
	b.t.Helper()
	v, err := b.Verify()
	if err != nil || v.Bad != nil {
		b.t.Fatalf("verify: %+v, %v, %v", v, v.Bad, err)
	}
	if n := b.Degraded(); n != 0 {
		b.t.Fatalf("%d copies are out of use", n)
	}
}

// fp is the n-th invented fingerprint.
func fp(n int) identity.Fingerprint {
	var f identity.Fingerprint
	f[0], f[1], f[2], f[31] = byte(n>>16), byte(n>>8), byte(n), 1
	return f
}

func (b *bench) enter(n int, name, role string) User {
	b.t.Helper()
	u, err := b.Enter(Newcomer{Fingerprint: fp(n), User: name, KeyName: name + "'s phone", Role: role}, testBy)
	if err != nil {
		b.t.Fatalf("enter %q: %v", name, err)
	}
	return u
}

var testBy = By{User: "Alice", Fingerprint: fp(1), Via: "session"}

func want(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want %v", err, target)
	}
}

func TestListSurvivesRestart(t *testing.T) {
	b := newBench(t)
	if u := b.enter(1, "Alice", "viewer"); u.Role != RoleOwner {
		t.Fatalf("the first is %s, want owner", u.Role)
	}
	b.enter(2, "Bob", "viewer")
	b.enter(3, "Carol", "viewer")
	if _, err := b.AddKey("alice", fp(11), "Alice's laptop", testBy); err != nil {
		t.Fatal(err)
	}
	if _, err := b.SetRole("Bob", RoleAdmin, testBy); err != nil {
		t.Fatal(err)
	}
	if out, err := b.Revoke("Carol", testBy); err != nil || !reflect.DeepEqual(out, []identity.Fingerprint{fp(3)}) {
		t.Fatalf("revoke: %v, %v", out, err)
	}
	before := b.Users()
	b.reopen()
	if after := b.Users(); !reflect.DeepEqual(before, after) {
		t.Fatalf("after a restart: got %+v, want %+v", after, before)
	}
	b.sound()
	if d := b.Decide(Principal{Fingerprint: fp(11)}, ActionReset, Service{}); !d.Allow || d.User != "Alice" {
		t.Fatalf("the owner's laptop: %+v", d)
	}
	if d := b.Decide(Principal{Fingerprint: fp(3)}, ActionMe, Service{}); d.Allow {
		t.Fatalf("a revoked key: %+v", d)
	}
	if _, err := os.Stat(b.state("access.a.db.bad")); err == nil {
		t.Fatal("a good copy was set aside")
	}
}
