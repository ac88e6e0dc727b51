package acl

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// flip turns one bit of the file at path between from and to.
func flip(t testing.TB, path string, from, to int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := from; i < min(to, len(data)); i++ {
		data[i] ^= 1 << (i % 8)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// damage does to data one of the things that flash does.
func damage(data []byte, random *rand.Rand) (string, []byte) {
	used := min(len(data), 12*pageBytes) // the rest of a store file is a hole
	at := random.IntN(used)
	page := at / pageBytes * pageBytes
	switch random.IntN(8) {
	case 0:
		return fmt.Sprintf("cut to %d", at), data[:at]
	case 1:
		return "emptied", nil
	case 2:
		clear(data[page:min(page+pageBytes, used)])
		return fmt.Sprintf("zeroed page at %d", page), data
	case 3:
		for i := page; i < min(page+pageBytes, used); i++ {
			data[i] = byte(random.Uint32())
		}
		return fmt.Sprintf("garbage at %d", page), data
	case 4:
		other := random.IntN(used/pageBytes+1) * pageBytes
		copy(data[page:min(page+pageBytes, used)], data[other:min(other+pageBytes, used)])
		return fmt.Sprintf("page at %d is the one at %d", page, other), data
	case 5:
		// In a page header and the first elements, where the numbers are.
		at = page + random.IntN(96)
		fallthrough
	default:
		at = min(at, used-1)
		bit := byte(1) << random.IntN(8)
		data[at] ^= bit
		return fmt.Sprintf("bit %02x at %d", bit, at), data
	}
}

// One copy, or both, or the log with one of them are damaged. The list must be
// the one that was acknowledged, or none at all where nothing could prove it.
func TestCorruptImages(t *testing.T) {
	dir := memoryDir(t)
	prepareChild(t, dir)
	const changes = 60
	s, err := Open(childOptions(dir))
	if err != nil {
		t.Fatal(err)
	}
	for range changes {
		if _, err := nextChange(s); err != nil {
			t.Fatal(err)
		}
	}
	want := describe(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(5, 6))
	hits := [][]string{{"access.a.db"}, {"access.b.db"}, {"access.a.db", "access.b.db"},
		{"audit/000001.log"}, {"access.a.db", "audit/000001.log"}}
	slowest, mended := time.Duration(0), 0
	for i := range counts(150, 1_000) {
		what := ""
		root := memoryDir(t)
		if err := os.CopyFS(root, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		_ = os.Chmod(filepath.Join(root, "device.pem"), 0o600)
		_ = os.Chmod(filepath.Join(root, "identity", storeKeyName), 0o600)
		for _, name := range hits[i%len(hits)] {
			path := filepath.Join(root, "state", name)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			how, data := damage(data, random)
			what += name + " " + how + "; "
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		took, err := openDamaged(root, want)
		if err != nil {
			t.Errorf("image %d (%s): %v", i, what, err)
		} else {
			mended++
		}
		slowest = max(slowest, took)
		_ = os.RemoveAll(root)
	}
	t.Logf("%d opened with the right list, slowest %v", mended, slowest)
}

func openDamaged(root, want string) (time.Duration, error) {
	began := time.Now()
	s, err := Open(childOptions(root))
	took := time.Since(began)
	if err != nil {
		return took, err
	}
	defer func() { _ = s.Close() }()
	if got := describe(s); got != want {
		return took, fmt.Errorf("got %s, want %s", got, want)
	}
	if n := s.Degraded(); n != 0 {
		return took, fmt.Errorf("%d copies are out of use", n)
	}
	_, err = nextChange(s)
	return took, err
}

// Where neither copies nor log can prove a list there is an error that says what
// to do, never an empty list.
func TestLostListIsNeverAnEmptyOne(t *testing.T) {
	for _, c := range []struct {
		name string
		ruin func(b *bench) error
		hint string
	}{
		{"state gone", func(b *bench) error { return os.RemoveAll(b.opts.StateDir) }, "is it mounted?"},
		{"key gone", func(b *bench) error { return os.Remove(filepath.Join(b.opts.IdentityDir, storeKeyName)) }, "put it back"},
		{"key and log gone", func(b *bench) error {
			_ = os.RemoveAll(b.state(auditName))
			return os.Remove(filepath.Join(b.opts.IdentityDir, storeKeyName))
		}, "put it back"},
		{"another key", func(b *bench) error {
			return os.WriteFile(filepath.Join(b.opts.IdentityDir, storeKeyName), []byte(strings.Repeat("k", 32)), 0o600)
		}, "another store key"},
		{"copies and log gone", func(b *bench) error {
			_ = os.Remove(b.state("access.a.db"))
			_ = os.Remove(b.state("access.b.db"))
			return os.WriteFile(b.state("audit/000001.log"), nil, 0o600)
		}, "is it mounted?"},
		{"copies bad, log cut at its head", func(b *bench) error {
			flip(b.t, b.state("access.a.db"), 0, 8*pageBytes)
			flip(b.t, b.state("access.b.db"), 0, 8*pageBytes)
			flip(b.t, b.state("audit/000001.log"), 400, 500)
			return nil
		}, "back"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.enter(1, "Alice", RoleViewer)
			b.enter(2, "Bob", RoleViewer)
			if err := b.Store.Close(); err != nil {
				t.Fatal(err)
			}
			if err := c.ruin(b); err != nil {
				t.Fatal(err)
			}
			s, err := Open(b.opts)
			if err == nil {
				t.Fatalf("opened with %d users", len(s.Users()))
			}
			want(t, err, ErrLost)
			if !strings.Contains(err.Error(), c.hint) {
				t.Errorf("the error %q does not say %q", err, c.hint)
			}
		})
	}
}

// A file that gets shorter while it is mapped is a fault in memory; it must cost
// the copy and not the process.
func TestCopyTruncatedWhileOpen(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", RoleViewer)
	if err := os.Truncate(b.state("access.a.db"), 0); err != nil {
		t.Fatal(err)
	}
	b.enter(2, "Bob", RoleViewer)
	b.enter(3, "Carol", RoleViewer)
	b.reopen()
	if n := len(b.Users()); n != 3 {
		t.Fatalf("%d users, want 3", n)
	}
	b.sound()
}
