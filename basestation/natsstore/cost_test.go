package natsstore_test

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMemory prints what a record of presence costs in resident memory, with a
// million of them only when asked: it takes a minute.
func TestMemory(t *testing.T) {
	counts := []int{10_000}
	if os.Getenv("KEYHOLE_FULL") != "" {
		counts = []int{10_000, 100_000, 1_000_000}
	}
	dir := t.TempDir()
	s := mustOpen(t, dir)
	defer func() { s.Close() }()
	base, done := resident(t), 0
	report := func(when string) {
		memory := resident(t) - base
		t.Logf("%9d records, %-18s %6.1f MB, %4d bytes a record", done, when, float64(memory)/1e6, memory/done)
	}
	value := make([]byte, 150)
	_, _ = rand.Read(value) // never fails
	for _, count := range counts {
		began, added := time.Now(), count-done
		for ; done < count; done++ {
			if err := s.PutSoon("presence/"+deviceID(), value); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Logf("%9d written: %v each", added, time.Since(began)/time.Duration(added))
		report("just written:")
		if os.Getenv("KEYHOLE_FULL") != "" {
			time.Sleep(130 * time.Second) // what NATS remembers of blocks it has just used is gone after two minutes
			report("two minutes later:")
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s = mustOpen(t, dir)
	t.Logf("opened again in %v", time.Since(began).Round(time.Millisecond))
	report("opened again:")
	began = time.Now()
	listed := 0
	if err := s.List(t.Context(), "", func(string, []byte, uint64) error { listed++; return nil }); err != nil || listed != done {
		t.Errorf("list: %d, %v", listed, err)
	}
	t.Logf("listed in %v", time.Since(began).Round(time.Millisecond))
	report("listed:")
}

func deviceID() string {
	var id [20]byte
	_, _ = rand.Read(id[:]) // never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(id[:]))
}

// resident is the memory of this process that is its own, after a collection.
func resident(t *testing.T) int {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if after, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kilobytes, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(after), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return kilobytes << 10
		}
	}
	t.Fatal("no RssAnon in /proc/self/status")
	return 0
}

// BenchmarkPut is an acknowledged write, synced to the disk below the temporary
// directory.
func BenchmarkPut(b *testing.B) {
	s, err := openBench(b)
	if err != nil {
		b.Fatal(err)
	}
	value := make([]byte, 150)
	for i := 0; b.Loop(); i++ {
		if _, err := s.Put(b.Context(), fmt.Sprintf("k/%d", i%1000), value); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPutSoon is a write of presence, until all are synced.
func BenchmarkPutSoon(b *testing.B) {
	s, err := openBench(b)
	if err != nil {
		b.Fatal(err)
	}
	value := make([]byte, 150)
	i := 0
	for ; b.Loop(); i++ {
		if err := s.PutSoon(fmt.Sprintf("k/%d", i), value); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkGet reads one of a thousand records.
func BenchmarkGet(b *testing.B) {
	s, err := openBench(b)
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		if err := s.PutSoon(fmt.Sprintf("k/%d", i), make([]byte, 150)); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if _, _, err := s.Get(b.Context(), fmt.Sprintf("k/%d", i%1000)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRequest is a question to another node and its answer.
func BenchmarkRequest(b *testing.B) {
	s, err := openBench(b)
	if err != nil {
		b.Fatal(err)
	}
	stop, err := s.Subscribe("q", func(_ string, _ []byte, reply func([]byte)) { reply([]byte("a")) })
	if err != nil {
		b.Fatal(err)
	}
	defer stop()
	for b.Loop() {
		if _, err := s.Request(b.Context(), "q", []byte("q")); err != nil {
			b.Fatal(err)
		}
	}
}
