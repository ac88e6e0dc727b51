package natsstore_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/basestation/natsstore"
	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/internal/testnet"
)

func open(t *testing.T, dir string) (*natsstore.Store, error) {
	return natsstore.Open(t.Context(), natsstore.Config{Dir: dir, Log: words(t)})
}

func mustOpen(t *testing.T, dir string) *natsstore.Store {
	t.Helper()
	s, err := open(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConfig(t *testing.T) {
	for _, c := range []natsstore.Config{
		{}, {Dir: "x", URL: "nats://127.0.0.1:4222"}, {Dir: "x", Name: "a.b"},
		{URL: "http//"}, {URL: "nats://127.0.0.1:1", CA: "missing.pem"},
		{URL: "nats://127.0.0.1:1", Certificate: "only.pem"},
		{URL: "nats://127.0.0.1:1", Credentials: "missing.creds"},
	} {
		if s, err := natsstore.Open(t.Context(), c); err == nil {
			t.Errorf("%+v was taken", c)
			s.Close()
		}
	}
}

// TestReopen: records, log and the places of consumers are there after a close.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	revision, err := s.Put(t.Context(), "a/b", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.PutSoon("a/soon", []byte("2")), s.Log(t.Context(), "e", []byte("3")), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir)
	defer s.Close()
	value, again, err := s.Get(t.Context(), "a/b")
	if err != nil || string(value) != "1" || again != revision {
		t.Errorf("got %q, %d, %v, want 1, %d", value, again, err, revision)
	}
	if value, _, err := s.Get(t.Context(), "a/soon"); err != nil || string(value) != "2" {
		t.Errorf("put soon before close: got %q, %v", value, err)
	}
	entry := make(chan string, 1)
	go s.Consume(t.Context(), "n", "e", func(_ string, data []byte) error { entry <- string(data); return nil })
	if got := <-entry; got != "3" {
		t.Errorf("log: got %q", got)
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	if _, err := open(t, dir); !errors.Is(err, natsstore.ErrLocked) {
		t.Errorf("second open: got %v, want ErrLocked", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := mustOpen(t, dir).Close(); err != nil {
		t.Errorf("open after close: %v", err)
	}
}

// TestDamage: a store that lost something says so instead of going on with the
// rest.
func TestDamage(t *testing.T) {
	const (
		stream = "jetstream/$G/streams/KV_keyhole/"
		block  = stream + "msgs/1.blk"
	)
	for _, c := range []struct {
		name string
		harm func(t *testing.T, dir string)
	}{
		{"everything gone", func(t *testing.T, dir string) { remove(t, dir, "jetstream") }},
		{"a stream gone", func(t *testing.T, dir string) { remove(t, dir, stream) }},
		{"no block", func(t *testing.T, dir string) { remove(t, dir, block) }},
		{"half a block", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, block), 100*196/2); err != nil {
				t.Fatal(err)
			}
		}},
		{"no description", func(t *testing.T, dir string) { remove(t, dir, stream+"meta.inf") }},
		{"bytes flipped in the description", func(t *testing.T, dir string) { flip(t, filepath.Join(dir, stream+"meta.inf")) }},
		{"bytes flipped", func(t *testing.T, dir string) { flip(t, filepath.Join(dir, block)) }},
		{"bytes flipped, no index", func(t *testing.T, dir string) {
			flip(t, filepath.Join(dir, block))
			remove(t, dir, stream+"msgs/index.db")
		}},
		{"bytes flipped in our mark", func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "laid")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filled(t, 100)
			c.harm(t, dir)
			s, err := open(t, dir)
			if !errors.Is(err, natsstore.ErrDamaged) {
				t.Errorf("got %v, want ErrDamaged", err)
			}
			if err == nil {
				s.Close()
				return
			}
			t.Log(err)
			// The operator's way on with what is left.
			remove(t, dir, "laid")
			s = mustOpen(t, dir)
			if _, err := s.Put(t.Context(), "new", nil); err != nil {
				t.Errorf("put after all: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFlippedBits: whichever bit of a block flips, a store that opens has every
// record as it was.
func TestFlippedBits(t *testing.T) {
	const block = "jetstream/$G/streams/KV_keyhole/msgs/1.blk"
	good := filled(t, 3)
	data, err := os.ReadFile(filepath.Join(good, block))
	if err != nil {
		t.Fatal(err)
	}
	damaged := 0
	for at := 3; at < len(data); at += 13 {
		dir := filepath.Join(t.TempDir(), "store")
		if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(data)
		bad[at] ^= 1 << (at % 8)
		if err := os.WriteFile(filepath.Join(dir, block), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := open(t, dir)
		if errors.Is(err, natsstore.ErrDamaged) {
			damaged++
			continue
		}
		if err != nil {
			t.Fatalf("a bit of byte %d: %v", at, err)
		}
		for i := range 3 {
			if value, _, err := s.Get(t.Context(), fmt.Sprintf("k/%d", i)); err != nil || !bytes.Equal(value, make([]byte, 150)) {
				t.Errorf("a bit of byte %d: record %d is %x, %v", at, i, value, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d of %d found", damaged, len(data)/13)
}

// TestExamine: bytes that were flipped under a server that had read them before are
// found by the look through all records.
func TestExamine(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	for i := range 300 { // more than a block of NATS: it looks at the last itself
		if err := s.PutSoon(fmt.Sprintf("k/%d", i), make([]byte, 32<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Examine(t.Context()); err != nil {
		t.Errorf("a good store: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir)
	defer s.Close()
	flip(t, filepath.Join(dir, "jetstream/$G/streams/KV_keyhole/msgs/1.blk"))
	if err := s.Examine(t.Context()); !errors.Is(err, natsstore.ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	} else {
		t.Log(err)
	}
}

// TestDeletionsAreNoDamage: fewer messages than before are not always a loss.
func TestDeletionsAreNoDamage(t *testing.T) {
	dir := filled(t, 50)
	s := mustOpen(t, dir)
	for i := range 50 {
		if err := s.Delete(t.Context(), fmt.Sprintf("k/%d", i), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := mustOpen(t, dir).Close(); err != nil {
		t.Error(err)
	}
}

func filled(t *testing.T, records int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	s := mustOpen(t, dir)
	for i := range records {
		if err := s.PutSoon(fmt.Sprintf("k/%d", i), make([]byte, 150)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(data) / 2; i < min(len(data)/2+16, len(data)); i++ {
		data[i] ^= 0xff
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk fills a small file system: writes are refused with words, what was
// acknowledged stays, and with room again the store goes on, at the latest after
// a restart.
func TestFullDisk(t *testing.T) {
	testnet.Root(t)
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	data := filepath.Join(dir, "data")
	s := mustOpen(t, data)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	value := bytes.Repeat([]byte("v"), 32<<10)
	kept := 0
	var full error
	for ; full == nil && kept < 2000; kept++ {
		_, full = s.Put(t.Context(), fmt.Sprintf("k/%d", kept), value)
	}
	kept--
	t.Logf("after %d records: %v", kept, full)
	if !errors.Is(full, store.ErrUnavailable) || !strings.Contains(full.Error(), "no space left") {
		t.Errorf("full disk: got %v, want ErrUnavailable and why", full)
	}
	if err := s.Check(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("check on a full disk: got %v, want ErrUnavailable", err)
	}
	began := time.Now()
	t.Logf("close: %v", s.Close())
	if took := time.Since(began); took > 2*store.CloseTimeout {
		t.Errorf("close on a full disk took %v", took)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, data)
	defer s.Close()
	for i := range kept {
		if got, _, err := s.Get(t.Context(), fmt.Sprintf("k/%d", i)); err != nil || !bytes.Equal(got, value) {
			t.Fatalf("k/%d was acknowledged: %d bytes, %v", i, len(got), err)
		}
	}
	if _, err := s.Put(t.Context(), "room/again", value); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// TestListensOnNothing: with an embedded store at work the process has no socket
// but what it had before, of no kind.
func TestListensOnNothing(t *testing.T) {
	before := sockets(t)
	s := embedded(t)
	if _, err := s.Put(t.Context(), "k", nil); err != nil {
		t.Fatal(err)
	}
	stop, err := s.Subscribe("a", func(string, []byte, func([]byte)) {})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if after := sockets(t); after != before {
		t.Errorf("the process has %d sockets, and had %d before the store was opened", after, before)
	}
}

// sockets counts those of this process.
func sockets(t *testing.T) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// TestCrash kills a process in the middle of writing: what it had said to be
// written is there, and the directory is free.
func TestCrash(t *testing.T) {
	if dir := os.Getenv("KEYHOLE_CRASH_DIR"); dir != "" {
		writeUntilKilled(t, dir)
	}
	dir := t.TempDir()
	rounds := 2
	if os.Getenv("KEYHOLE_FULL") != "" {
		rounds = 20
	}
	acknowledged := map[string]bool{}
	for round := range rounds {
		child := exec.Command(os.Args[0], "-test.run=^TestCrash$")
		child.Env = append(os.Environ(), "KEYHOLE_CRASH_DIR="+dir, fmt.Sprintf("KEYHOLE_CRASH_ROUND=%d", round))
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		child.Stderr = os.Stderr
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for i := 0; i < 100+50*round && lines.Scan(); i++ {
			if key, ok := strings.CutPrefix(lines.Text(), "wrote "); ok {
				acknowledged[key] = true
			}
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // it was killed
		s := mustOpen(t, dir)
		for key := range acknowledged {
			if value, _, err := s.Get(t.Context(), key); err != nil || string(value) != key {
				t.Errorf("round %d: %s was acknowledged: got %q, %v", round, key, value, err)
			}
		}
		if err := s.Examine(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(acknowledged) == 0 {
		t.Error("the child wrote nothing")
	}
	t.Logf("%d acknowledged writes, none lost in %d crashes", len(acknowledged), rounds)
}

// writeUntilKilled is the process that TestCrash kills.
func writeUntilKilled(t *testing.T, dir string) {
	s, err := natsstore.Open(t.Context(), natsstore.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		key := fmt.Sprintf("crash/%s/%d", os.Getenv("KEYHOLE_CRASH_ROUND"), i)
		if _, err := s.Put(t.Context(), key, []byte(key)); err != nil {
			t.Fatal(err)
		}
		fmt.Println("wrote " + key)
	}
}

func openBench(b *testing.B) (*natsstore.Store, error) {
	s, err := natsstore.Open(b.Context(), natsstore.Config{Dir: b.TempDir()})
	if err == nil {
		b.Cleanup(func() { s.Close() })
	}
	return s, err
}
