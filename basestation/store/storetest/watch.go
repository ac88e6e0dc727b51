package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/keyholed/keyhole/basestation/store"
)

// watching starts a Watch; the channel has room for all that a test changes.
func watching(t *testing.T, s store.Store, prefix string) (changes chan store.Change, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	changes = make(chan store.Change, 4096)
	ended := make(chan error, 1)
	go func() { ended <- s.Watch(ctx, prefix, func(c store.Change) { changes <- c }) }()
	return changes, func() {
		t.Helper()
		cancel()
		if err := next(t, "end of watch", ended); err != nil {
			t.Errorf("watch: %v", err)
		}
	}
}

func testWatch(t *testing.T, b *bench) {
	ctx := limited(t)
	s, other := b.open(), b.open()
	first := must[uint64](t, "put")(s.Put(ctx, "w/a", []byte("1")))
	must[uint64](t, "put")(s.Put(ctx, "v/a", []byte("elsewhere")))
	must[uint64](t, "put")(s.Put(ctx, "w/gone", []byte("1")))
	if err := s.Delete(ctx, "w/gone", 0); err != nil {
		t.Fatal(err)
	}
	changes, stop := watching(t, other, "w/")
	if c := next(t, "existing", changes); c.Key != "w/a" || string(c.Value) != "1" || c.Revision != first || c.Deleted {
		t.Errorf("existing: got %+v", c)
	}
	if c := next(t, "marker", changes); c.Key != "" {
		t.Errorf("marker: got %+v", c)
	}
	second := must[uint64](t, "create")(s.Create(ctx, "w/b", []byte("2")))
	if c := next(t, "create", changes); c.Key != "w/b" || string(c.Value) != "2" || c.Revision != second {
		t.Errorf("create: got %+v", c)
	}
	must[uint64](t, "update")(s.Update(ctx, "w/b", []byte("3"), second))
	if c := next(t, "update", changes); c.Key != "w/b" || string(c.Value) != "3" || c.Revision <= second {
		t.Errorf("update: got %+v", c)
	}
	if err := s.Delete(ctx, "w/a", 0); err != nil {
		t.Fatal(err)
	}
	if c := next(t, "delete", changes); c.Key != "w/a" || !c.Deleted || c.Value != nil || c.Revision <= first {
		t.Errorf("delete: got %+v", c)
	}
	must[uint64](t, "elsewhere")(s.Put(ctx, "w", []byte("no segment below")))
	must[uint64](t, "again")(s.Create(ctx, "w/a", []byte("4")))
	if c := next(t, "again", changes); c.Key != "w/a" || string(c.Value) != "4" || c.Deleted {
		t.Errorf("created again: got %+v", c)
	}
	stop()

	changes, stop = watching(t, s, "nothing/")
	if c := next(t, "marker of nothing", changes); c.Key != "" {
		t.Errorf("watch of nothing: got %+v", c)
	}
	stop()
}

// testWatchSlowly has a watcher that sleeps on its first change while a thousand
// come: it may miss some, never the last, and never sees one go back.
func testWatchSlowly(t *testing.T, b *bench) {
	ctx := limited(t)
	s := b.open()
	const keys, rounds = 20, 50
	awake, done := make(chan struct{}), make(chan struct{})
	last := make(map[string]uint64)
	values := make(map[string]string)
	watch, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		finished := 0
		ended <- s.Watch(watch, "slow/", func(c store.Change) {
			<-awake
			if c.Key == "" {
				return
			}
			if c.Revision <= last[c.Key] {
				t.Errorf("%s went back from %d to %d", c.Key, last[c.Key], c.Revision)
			}
			last[c.Key], values[c.Key] = c.Revision, string(c.Value)
			if values[c.Key] == fmt.Sprint(rounds-1) {
				if finished++; finished == keys {
					close(done)
				}
			}
		})
	}()
	for round := range rounds {
		for key := range keys {
			must[uint64](t, "put")(s.Put(ctx, fmt.Sprintf("slow/%d", key), []byte(fmt.Sprint(round))))
		}
	}
	close(awake)
	next(t, "last value of each key", done)
	cancel()
	if err := next(t, "end of watch", ended); err != nil {
		t.Error(err)
	}
}

func testPutSoon(t *testing.T, b *bench) {
	ctx := limited(t)
	s, other := b.open(), b.open()
	changes, stop := watching(t, other, "soon/")
	next(t, "marker", changes)
	const keys, rounds = 40, 50
	value := make([]byte, 1)
	for round := range 3 { // the node itself sees at once what it wrote
		value[0] = byte(round)
		if err := s.PutSoon("own/soon", value); err != nil {
			t.Fatal(err)
		}
		if got := must2(t, s, "own/soon"); got[0] != byte(round) {
			t.Errorf("own/soon: got %d, want %d", got[0], round)
		}
	}
	for round := range rounds {
		for key := range keys {
			value[0] = byte(round) // the slice is used again: PutSoon must copy
			if err := s.PutSoon(fmt.Sprintf("soon/%d", key), value); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Flush(ctx); err != nil {
		t.Fatalf("flush: %v", err)
	}
	for key := range keys {
		if got := must2(t, other, fmt.Sprintf("soon/%d", key)); got[0] != rounds-1 {
			t.Errorf("soon/%d after flush: got %d, want %d", key, got[0], rounds-1)
		}
	}
	last, finished := make(map[string]byte), 0
	for finished < keys {
		c := next(t, "change", changes)
		if before, seen := last[c.Key]; seen && c.Value[0] <= before {
			t.Errorf("%s: %d after %d", c.Key, c.Value[0], before)
		}
		if last[c.Key] = c.Value[0]; c.Value[0] == rounds-1 {
			finished++
		}
	}
	stop()

	// Without Flush it comes by itself.
	if err := s.PutSoon("soon/alone", []byte("x")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a value that waits is written", func() bool {
		_, _, err := other.Get(ctx, "soon/alone")
		return err == nil
	})
	if err := s.Flush(ctx); err != nil {
		t.Errorf("flush of nothing: %v", err)
	}
}

// testPutSoonOrder mixes both kinds of writes to one key: the last one stays.
func testPutSoonOrder(t *testing.T, b *bench) {
	ctx := limited(t)
	s := b.open()
	for round := range 20 {
		key := fmt.Sprintf("mixed/%d", round)
		for range 3 {
			if err := s.PutSoon(key, []byte("early")); err != nil {
				t.Fatal(err)
			}
		}
		must[uint64](t, "put")(s.Put(ctx, key, []byte("late")))
		if round%2 == 0 {
			if err := s.PutSoon(key, []byte("latest")); err != nil {
				t.Fatal(err)
			}
		}
		if round%3 == 0 {
			if err := s.PutSoon(key, []byte("lost")); err != nil {
				t.Fatal(err)
			}
			if err := s.Delete(ctx, key, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	for round := range 20 {
		key, want := fmt.Sprintf("mixed/%d", round), "late"
		if round%2 == 0 {
			want = "latest"
		}
		value, _, err := s.Get(ctx, key)
		if round%3 == 0 {
			if err == nil {
				t.Errorf("%s was deleted last: got %q", key, value)
			}
			continue
		}
		if err != nil || string(value) != want {
			t.Errorf("%s: got %q, %v, want %q", key, value, err, want)
		}
	}
}
