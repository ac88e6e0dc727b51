// Package storetest is the suite that every store must pass: it checks what the
// comments of basestation/store promise. A store's own test calls Run.
package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/keyholed/keyhole/basestation/store"
)

// Patience is how long a condition may take to come true before a test fails. It
// is long because test machines are busy, not because a store may be slow.
const Patience = 20 * time.Second

// Open makes a new, empty store and returns what opens handles to it: each call
// one more node of the same store. The suite closes the handles.
type Open func(t *testing.T) (join func() store.Store)

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *bench)
	}{
		{"Records", testRecords},
		{"Conflicts", testConflicts},
		{"Race", testRace},
		{"Delete", testDelete},
		{"KeysApart", testKeysApart},
		{"Copies", testCopies},
		{"Limits", testLimits},
		{"List", testList},
		{"ListStops", testListStops},
		{"Watch", testWatch},
		{"WatchSlowly", testWatchSlowly},
		{"PutSoon", testPutSoon},
		{"PutSoonOrder", testPutSoonOrder},
		{"PublishSubscribe", testPublishSubscribe},
		{"SubscribeStop", testSubscribeStop},
		{"Request", testRequest},
		{"RequestUnanswered", testRequestUnanswered},
		{"Log", testLog},
		{"LogShared", testLogShared},
		{"LogCrash", testLogCrash},
		{"Contexts", testContexts},
		{"Close", testClose},
		{"CloseOne", testCloseOne},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &bench{join: open(t)}
			t.Cleanup(func() { b.close(t) })
			c.test(t, b)
		})
	}
}

// bench is one test's store.
type bench struct {
	join    func() store.Store
	handles []store.Store
}

func (b *bench) open() store.Store {
	s := b.join()
	b.handles = append(b.handles, s)
	return s
}

func (b *bench) close(t *testing.T) {
	t.Helper()
	for _, s := range b.handles {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

// limited returns a context that ends a stuck test with words.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// must returns the value of a call that may not fail.
func must[T any](t *testing.T, what string) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return v
	}
}

// eventually waits for a condition, asking again each time something may have
// changed it.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(Patience)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, Patience)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// next waits for the next value of a channel.
func next[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(Patience):
		t.Fatalf("%s: nothing within %v", what, Patience)
		panic("unreachable")
	}
}
