package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/keyholed/keyhole/basestation/store"
)

// consuming starts a Consume whose take asks answer what to say.
func consuming(t *testing.T, s store.Store, name, pattern string, answer func(heard) error) (messages <-chan heard, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	taken := make(chan heard, 4096)
	ended := make(chan error, 1)
	go func() {
		ended <- s.Consume(ctx, name, pattern, func(subject string, data []byte) error {
			m := heard{subject, string(data)}
			taken <- m
			return answer(m)
		})
	}()
	return taken, func() {
		t.Helper()
		cancel()
		if err := next(t, "end of consume", ended); err != nil {
			t.Errorf("consume: %v", err)
		}
	}
}

func yes(heard) error { return nil }

func testLog(t *testing.T, b *bench) {
	ctx := limited(t)
	s, other := b.open(), b.open()
	log := func(subject, data string) {
		t.Helper()
		if err := s.Log(ctx, subject, []byte(data)); err != nil {
			t.Fatalf("log: %v", err)
		}
	}
	for i := range 10 { // before anybody listens
		log("event.a", fmt.Sprint(i))
		log("other", "x")
	}
	messages, stop := consuming(t, other, "reader", "event.>", yes)
	for i := range 10 {
		if got, want := next(t, "old entry", messages), (heard{"event.a", fmt.Sprint(i)}); got != want {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	log("event.b", "new")
	if got := next(t, "new entry", messages); got != (heard{"event.b", "new"}) {
		t.Fatalf("new entry: got %v", got)
	}
	stop()

	// The place is kept, and every name has its own.
	log("event.c", "later")
	messages, stop = consuming(t, s, "reader", "event.>", yes)
	got := next(t, "entry after a pause", messages)
	for got == (heard{"event.b", "new"}) { // its acknowledgement may have been cut off
		got = next(t, "entry after a pause", messages)
	}
	if got != (heard{"event.c", "later"}) {
		t.Errorf("after a pause: got %v", got)
	}
	stop()
	messages, stop = consuming(t, s, "second", ">", yes)
	if got := next(t, "first entry of another name", messages); got != (heard{"event.a", "0"}) {
		t.Errorf("another name: got %v", got)
	}
	stop()

	// What is refused comes again, until it is taken.
	refused := 0
	messages, stop = consuming(t, s, "third", "event.b", func(heard) error {
		if refused++; refused <= 2 {
			return errors.New("not now")
		}
		return nil
	})
	for range 3 {
		if got := next(t, "refused entry", messages); got != (heard{"event.b", "new"}) {
			t.Errorf("refused entry: got %v", got)
		}
	}
	stop()
}

func testLogShared(t *testing.T, b *bench) {
	ctx := limited(t)
	const many, nodes = 60, 3
	var mu sync.Mutex
	times := make(map[string]int)
	done := make(chan struct{})
	var stops []func()
	for range nodes {
		_, stop := consuming(t, b.open(), "shared", "e", func(m heard) error {
			mu.Lock()
			defer mu.Unlock()
			if times[m.data]++; times[m.data] == 1 && len(times) == many {
				close(done)
			}
			return nil
		})
		stops = append(stops, stop)
	}
	s := b.open()
	for i := range many {
		if err := s.Log(ctx, "e", []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	next(t, "every entry taken", done)
	for _, stop := range stops {
		stop()
	}
	for data, n := range times {
		if n != 1 {
			t.Errorf("entry %s was taken %d times though nobody refused it", data, n)
		}
	}
}

// testLogCrash has a node die with an entry in hand: another one gets it.
func testLogCrash(t *testing.T, b *bench) {
	ctx := limited(t)
	s, dies := b.open(), b.join() // dies is closed here, not by the bench
	if err := s.Log(ctx, "e", []byte("precious")); err != nil {
		t.Fatal(err)
	}
	inHand, closed := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- dies.Consume(ctx, "worker", "e", func(string, []byte) error {
			close(inHand)
			<-closed
			return errors.New("died in the middle")
		})
	}()
	next(t, "entry in hand", inHand)
	gone := make(chan error, 1)
	go func() { gone <- dies.Close() }()
	eventually(t, "closed handle refuses", func() bool { return errors.Is(dies.Publish("x", nil), store.ErrClosed) })
	close(closed)
	if err := next(t, "end of consume", ended); !errors.Is(err, store.ErrClosed) {
		t.Errorf("consume after close: got %v, want ErrClosed", err)
	}
	if err := next(t, "close", gone); err != nil {
		t.Errorf("close: %v", err)
	}
	messages, stop := consuming(t, s, "worker", "e", yes)
	if got := next(t, "entry again", messages); got.data != "precious" {
		t.Errorf("got %v", got)
	}
	stop()
}
