package acl

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyholed/keyhole/internal/testnet"
)

// smallDisks are file systems of a few megabytes to fill.
var smallDisks = map[string]func(t *testing.T, at string){
	"tmpfs": func(t *testing.T, at string) {
		if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatalf("tmpfs: %v", err)
		}
	},
	"ext4": func(t *testing.T, at string) {
		image := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(image, 8<<20); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"mkfs.ext4", "-q", "-m", "0", image}, {"mount", "-o", "loop", image, at}} {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v: %s", args, err, out)
			}
		}
	},
}

func TestFullDisk(t *testing.T) {
	testnet.Root(t)
	for kind, mount := range smallDisks {
		t.Run(kind, func(t *testing.T) {
			b := benchOn(t, mount)
			b.enter(1, "Alice", "")
			for i := 2; i < 12; i++ {
				b.enter(i, fmt.Sprintf("User %d", i), RoleAdmin)
			}
			for i := 2; i < 12; i++ {
				fillDisk(t, b.dir)
				who := fmt.Sprintf("User %d", i)
				if _, err := b.Revoke(who, testBy); err != nil {
					t.Fatalf("revoke %d on a full disk: %v", i, err)
				}
				if b.Known(fp(i)) || b.Degraded() != 0 {
					t.Fatalf("after revoking %s: known %v, %d copies out of use", who, b.Known(fp(i)), b.Degraded())
				}
				fillDisk(t, b.dir)
				// Who comes in is refused, or was let in with what the disk had: never half.
				before := len(b.Users())
				_, err := b.Enter(Newcomer{Fingerprint: fp(50 + i), User: fmt.Sprintf("New %d", i), Role: RoleViewer}, testBy)
				if err != nil && (!errors.Is(err, unix.ENOSPC) || len(b.Users()) != before) {
					t.Fatalf("enter on a full disk: %v, %d users", err, len(b.Users()))
				}
				b.reopen()
				b.sound()
				if b.Known(fp(i)) {
					t.Fatalf("%s is back", who)
				}
				if i%4 == 0 { // else the next one begins with what the last one left
					empty(t, b.dir)
					b.enter(100+i, fmt.Sprintf("Later %d", i), RoleViewer)
				}
			}
		})
	}
}

// benchOn makes a bench on a mounted disk.
func benchOn(t *testing.T, mount func(*testing.T, string)) *bench {
	t.Helper()
	b := newBench(t)
	if err := b.Store.Close(); err != nil {
		t.Fatal(err)
	}
	b.dir = t.TempDir()
	mount(t, b.dir)
	t.Cleanup(func() {
		_ = b.Store.Close()
		if err := unix.Unmount(b.dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	b.opts.StateDir, b.opts.IdentityDir = filepath.Join(b.dir, "state"), filepath.Join(b.dir, "identity")
	b.open()
	return b
}

// fillDisk leaves not a byte.
func fillDisk(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "filler"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil && errors.Is(err, unix.ENOSPC) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for size := 64 << 10; size > 0; size /= 2 {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
	_ = f.Sync()
	_ = f.Close()
	unix.Sync()
}

func empty(t *testing.T, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	unix.Sync()
}

func TestReadOnlyState(t *testing.T) {
	testnet.Root(t)
	b := benchOn(t, smallDisks["tmpfs"])
	b.enter(1, "Alice", "")
	b.enter(2, "Bob", RoleViewer)
	if err := b.Store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", b.dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatalf("remount: %v", err)
	}
	b.open()
	if d := b.Decide(Principal{Fingerprint: fp(2)}, ActionTunnel, Service{Name: "cam", Type: "rtsp"}); !d.Allow {
		t.Errorf("a viewer: %+v", d)
	}
	_, err := b.Revoke("Bob", testBy)
	want(t, err, ErrReadOnly)
	want(t, b.Record(Event{What: WhatSessionStarted}), ErrReadOnly)
	if v, err := b.Verify(); err != nil || v.Bad != nil || v.Lines != 4 {
		t.Errorf("verify: %+v, %v", v, err)
	}
	if err := b.Store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", b.dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	b.open()
	if _, err := b.Revoke("Bob", testBy); err != nil {
		t.Error(err)
	}
}

// TestMergeOnFullDisk: on a full disk a version of the vendor's list takes away, and
// brings nobody.
func TestMergeOnFullDisk(t *testing.T) {
	testnet.Root(t)
	for kind, mount := range smallDisks {
		t.Run(kind, func(t *testing.T) {
			b := benchOn(t, mount)
			b.enter(1, "Alice", "")
			b.merge(listed("Bob", 10), listed("Carol", 11, 12), listed("Dan", 13))
			fillDisk(t, b.dir)
			people := []CentralUser{listed("Bob", 10), listed("Carol", 11)}
			for i := range 800 {
				people = append(people, listed(fmt.Sprintf("New %d", i), 100+i))
			}
			m, err := b.MergeCentral(people, "version 2", testBy)
			if !errors.Is(err, unix.ENOSPC) || m.Removed != 1 || m.Added != 0 {
				t.Errorf("merged %+v, %v", m, err)
			}
			for range 2 {
				for n, who := range map[int]string{1: "Alice owner", 10: "Bob viewer", 11: "Carol viewer", 12: "", 13: "", 100: ""} {
					if got := b.whoHas(n); got != who {
						t.Errorf("key %d is %q, want %q", n, got, who)
					}
				}
				b.reopen()
				b.sound()
			}
			empty(t, b.dir)
			if m, err := b.MergeCentral(people, "version 2", testBy); err != nil || m.Added != 800 {
				t.Errorf("with room: %+v, %v", m, err)
			}
		})
	}
}
