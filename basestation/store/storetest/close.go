package storetest

import (
	"context"
	"errors"
	"testing"

	"github.com/keyholed/keyhole/basestation/store"
)

func testContexts(t *testing.T, b *bench) {
	s := b.open()
	must[uint64](t, "put")(s.Put(limited(t), "k", nil))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for what, err := range afterEnd(ended, s) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context: got %v, want Canceled", what, err)
		}
	}
	if err := s.Watch(ended, "", func(store.Change) {}); err != nil {
		t.Errorf("watch with an ended context: got %v, want nil", err)
	}
	if err := s.Consume(ended, "n", "a", func(string, []byte) error { return nil }); err != nil {
		t.Errorf("consume with an ended context: got %v, want nil", err)
	}
}

// afterEnd calls everything that takes a context and returns an error for it.
func afterEnd(ctx context.Context, s store.Store) map[string]error {
	calls := make(map[string]error)
	_, _, calls["get"] = s.Get(ctx, "k")
	_, calls["create"] = s.Create(ctx, "new", nil)
	_, calls["update"] = s.Update(ctx, "k", nil, 1)
	_, calls["put"] = s.Put(ctx, "k", nil)
	calls["delete"] = s.Delete(ctx, "k", 0)
	calls["flush"] = s.Flush(ctx)
	calls["list"] = s.List(ctx, "", func(string, []byte, uint64) error { return nil })
	_, calls["request"] = s.Request(ctx, "a", nil)
	calls["log"] = s.Log(ctx, "a", nil)
	calls["check"] = s.Check(ctx)
	return calls
}

func testClose(t *testing.T, b *bench) {
	s := b.join()
	ctx := limited(t)
	must[uint64](t, "put")(s.Put(ctx, "k", nil))
	watched, consumed := make(chan error, 1), make(chan error, 1)
	marker := make(chan struct{}, 1)
	go func() { watched <- s.Watch(ctx, "", func(store.Change) { marker <- struct{}{} }) }()
	go func() { consumed <- s.Consume(ctx, "n", "a", func(string, []byte) error { return nil }) }()
	stop, err := s.Subscribe("a", func(string, []byte, func([]byte)) {})
	if err != nil {
		t.Fatal(err)
	}
	next(t, "watch", marker)
	next(t, "watch", marker)
	if err := s.PutSoon("k/soon", []byte("x")); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 3)
	for range 3 {
		go func() { closed <- s.Close() }()
	}
	for range 3 {
		if err := next(t, "close", closed); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if err := next(t, "end of watch", watched); !errors.Is(err, store.ErrClosed) {
		t.Errorf("watch: got %v, want ErrClosed", err)
	}
	if err := next(t, "end of consume", consumed); !errors.Is(err, store.ErrClosed) {
		t.Errorf("consume: got %v, want ErrClosed", err)
	}
	stop() // after Close it does no harm
	calls := afterEnd(ctx, s)
	calls["soon"] = s.PutSoon("k", nil)
	calls["publish"] = s.Publish("a", nil)
	_, calls["subscribe"] = s.Subscribe("a", nil)
	calls["watch"] = s.Watch(ctx, "", nil)
	calls["consume"] = s.Consume(ctx, "n", "a", nil)
	for what, err := range calls {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s after close: got %v, want ErrClosed", what, err)
		}
	}
}

// testCloseOne holds that a node that leaves takes nothing from the others, and
// that what it still had to write is written.
func testCloseOne(t *testing.T, b *bench) {
	ctx := limited(t)
	stays, leaves := b.open(), b.join()
	messages, stop := subscribe(t, stays, "m")
	defer stop()
	known(t, leaves, "m")
	changes, unwatch := watching(t, stays, "c/")
	next(t, "marker", changes)
	if err := leaves.PutSoon("c/last", []byte("words")); err != nil {
		t.Fatal(err)
	}
	if err := leaves.Publish("m", []byte("bye")); err != nil {
		t.Fatal(err)
	}
	if err := leaves.Close(); err != nil {
		t.Fatal(err)
	}
	if got := next(t, "last message", messages); got.data != "bye" {
		t.Errorf("last message: got %v", got)
	}
	if c := next(t, "last write", changes); c.Key != "c/last" || string(c.Value) != "words" {
		t.Errorf("last write: got %+v", c)
	}
	must[uint64](t, "put")(stays.Put(ctx, "c/more", nil))
	if c := next(t, "change", changes); c.Key != "c/more" {
		t.Errorf("change: got %+v", c)
	}
	unwatch()
}
