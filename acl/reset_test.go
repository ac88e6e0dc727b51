package acl

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyholed/keyhole/protocol/identity"
)

// resetDirs has a list with an owner in it.
func resetDirs(t *testing.T) (Options, identity.Fingerprint) {
	t.Helper()
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	o := Options{StateDir: filepath.Join(base, "state"), IdentityDir: filepath.Join(base, "identity"), Key: key}
	s := mustOpen(t, o)
	owner := identity.Fingerprint{1}
	if _, err := s.Enter(Newcomer{Fingerprint: owner, User: "Alice"}, By{}); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	return o, owner
}

func mustOpen(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// wantErased opens the list and wants it empty, of the given epoch, with a whole
// log that tells of the reset, and no intent left.
func wantErased(t *testing.T, o Options, owner identity.Fingerprint, epoch uint64) {
	t.Helper()
	s := mustOpen(t, o)
	defer mustClose(t, s)
	if got, _ := s.Position(); got != epoch || !s.Empty() || s.Known(owner) {
		t.Errorf("epoch %d, empty %v, owner known %v; want epoch %d, empty, unknown", got, s.Empty(), s.Known(owner), epoch)
	}
	if v, err := s.Verify(); err != nil || v.Bad != nil {
		t.Errorf("log: %v, %v", v.Bad, err)
	}
	entries, err := s.Audit(0, 10)
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, e := range entries {
		if e.What == WhatReset && e.Detail == "a test" {
			told++
		}
		if e.What == WhatPaired {
			t.Error("the log still tells of Alice")
		}
	}
	if told != 1 {
		t.Errorf("%d lines tell of the reset, want 1", told)
	}
	if _, err := os.Stat(filepath.Join(o.IdentityDir, intentName)); err == nil {
		t.Error("the intent is still there")
	}
}

func TestReset(t *testing.T) {
	o, owner := resetDirs(t)
	s := mustOpen(t, o)
	if err := s.BeginReset(o.IdentityDir, "a test"); err != nil {
		t.Fatal(err)
	}
	// From the intent on nobody enters, old or new.
	if d := s.Decide(Principal{Fingerprint: owner}, ActionMe, Service{}); d.Allow {
		t.Error("the owner is let in during the reset")
	}
	if _, err := s.Enter(Newcomer{Fingerprint: identity.Fingerprint{2}, User: "Eve"}, By{}); !errors.Is(err, ErrResetting) {
		t.Errorf("somebody enters during the reset: %v", err)
	}
	mustClose(t, s)
	oldKey, err := os.ReadFile(filepath.Join(o.IdentityDir, storeKeyName))
	if err != nil {
		t.Fatal(err)
	}
	wantErased(t, o, owner, 2)
	if newKey, _ := os.ReadFile(filepath.Join(o.IdentityDir, storeKeyName)); string(newKey) == string(oldKey) {
		t.Error("the store key is the old one")
	}
	// And once more: the epoch goes on rising.
	order(t, o)
	wantErased(t, o, owner, 3)
}

// A power cut may come between any two steps, and after the steps were done but
// before the intent was removed: the next start carries the reset to its end.
func TestResetCutShort(t *testing.T) {
	cuts := map[string]func(t *testing.T, o Options){
		"after the intent": func(*testing.T, Options) {},
		"key gone":         func(t *testing.T, o Options) { remove(t, o.IdentityDir, storeKeyName) },
		"key and a copy gone": func(t *testing.T, o Options) {
			remove(t, o.IdentityDir, storeKeyName)
			remove(t, o.StateDir, copyNames[0])
		},
		"key overwritten":      func(t *testing.T, o Options) { zero(t, filepath.Join(o.IdentityDir, storeKeyName)) },
		"state gone, key left": func(t *testing.T, o Options) { must(t, erase(o.StateDir)) },
		"all gone":             func(t *testing.T, o Options) { remove(t, o.IdentityDir, storeKeyName); must(t, erase(o.StateDir)) },
		"state directory gone": func(t *testing.T, o Options) { must(t, os.RemoveAll(o.StateDir)) },
		"corrupt store": func(t *testing.T, o Options) {
			zero(t, filepath.Join(o.StateDir, copyNames[0]))
			zero(t, filepath.Join(o.StateDir, copyNames[1]))
		},
		"done but for the intent": func(t *testing.T, o Options) {
			data, err := os.ReadFile(filepath.Join(o.IdentityDir, intentName))
			must(t, err)
			mustClose(t, mustOpen(t, o))
			must(t, os.Remove(filepath.Join(o.IdentityDir, epochName)))
			must(t, os.WriteFile(filepath.Join(o.IdentityDir, intentName), data, 0o600))
		},
	}
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			o, owner := resetDirs(t)
			order(t, o)
			cut(t, o)
			wantErased(t, o, owner, 2)
		})
	}
}

// An intent that cannot be read is an intent all the same.
func TestResetWithDamagedIntent(t *testing.T) {
	for _, content := range []string{"", "{", `{"epoch":0}`, string(make([]byte, maxIntentBytes+1))} {
		o, owner := resetDirs(t)
		must(t, os.WriteFile(filepath.Join(o.IdentityDir, intentName), []byte(content), 0o600))
		s := mustOpen(t, o)
		if epoch, _ := s.Position(); epoch != 2 || s.Known(owner) {
			t.Errorf("intent %.10q: epoch %d, owner known %v", content, epoch, s.Known(owner))
		}
		mustClose(t, s)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	must(t, os.Remove(filepath.Join(dir, name)))
}

func zero(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	must(t, os.WriteFile(path, make([]byte, info.Size()), 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func order(t *testing.T, o Options) {
	t.Helper()
	_, err := BeginReset(o.IdentityDir, "a test")
	must(t, err)
}
