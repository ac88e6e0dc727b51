package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyholed/keyhole/basestation/store"
)

type heard struct{ subject, data string }

func subscribe(t *testing.T, s store.Store, pattern string) (<-chan heard, func()) {
	t.Helper()
	messages := make(chan heard, 4096)
	stop, err := s.Subscribe(pattern, func(subject string, data []byte, reply func([]byte)) {
		reply([]byte("to nobody")) // must do nothing to what was published
		if string(data) != probe {
			messages <- heard{subject, string(data)}
		}
	})
	if err != nil {
		t.Fatalf("subscribe %s: %v", pattern, err)
	}
	return messages, stop
}

const probe = "is anybody there?"

// known waits until a sender's messages of a subject find their subscribers, who
// must answer a probe: in a cluster that takes a moment.
func known(t *testing.T, sender store.Store, subject string) {
	t.Helper()
	eventually(t, "subscription to "+subject+" is known", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := sender.Request(ctx, subject, []byte(probe))
		return err == nil
	})
}

func testPublishSubscribe(t *testing.T, b *bench) {
	s, other := b.open(), b.open()
	all, stopAll := subscribe(t, s, "p.>")
	defer stopAll()
	const many = 200
	sender := b.open()
	known(t, sender, "p.a.no")
	one, stopOne := subscribe(t, other, "p.*.yes")
	defer stopOne()
	extra, stopExtra := subscribe(t, other, "q") // the same way, asked for later
	defer stopExtra()
	known(t, sender, "q")
	if len(extra) != 0 {
		t.Error("a probe was heard as a message")
	}
	for i := range many {
		for _, subject := range []string{"p.a.yes", "p.a.no", "elsewhere"} {
			if err := sender.Publish(subject, []byte(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range many {
		for _, subject := range []string{"p.a.yes", "p.a.no"} {
			if got, want := next(t, "all", all), (heard{subject, fmt.Sprint(i)}); got != want {
				t.Fatalf("all: got %v, want %v", got, want)
			}
		}
		if got, want := next(t, "one", one), (heard{"p.a.yes", fmt.Sprint(i)}); got != want {
			t.Fatalf("one: got %v, want %v", got, want)
		}
	}
}

// testSubscribeStop holds that nothing is heard after stop, and that a message
// sent right after Subscribe has returned is heard.
func testSubscribeStop(t *testing.T, b *bench) {
	s, sender := b.open(), b.open()
	var after atomic.Bool
	got := make(chan struct{}, 64)
	for range 10 {
		stop, err := s.Subscribe("stop", func(_ string, data []byte, reply func([]byte)) {
			if reply(nil); string(data) == probe {
				return
			}
			if after.Load() {
				t.Error("heard after stop")
			}
			got <- struct{}{}
		})
		if err != nil {
			t.Fatal(err)
		}
		known(t, sender, "stop")
		if err := sender.Publish("stop", nil); err != nil {
			t.Fatal(err)
		}
		next(t, "message right after subscribing", got)
		stop()
		stop() // twice does no harm
		after.Store(true)
		if err := sender.Publish("stop", nil); err != nil {
			t.Fatal(err)
		}
		answer, closing := subscribe(t, s, "fence") // what came before it has been handled
		known(t, sender, "fence")
		if err := sender.Publish("fence", nil); err != nil {
			t.Fatal(err)
		}
		next(t, "fence", answer)
		closing()
		after.Store(false)
	}
}

func testRequest(t *testing.T, b *bench) {
	ctx := limited(t)
	asker, responder := b.open(), b.open()
	var late sync.WaitGroup
	stop, err := responder.Subscribe("ask.*", func(subject string, data []byte, reply func([]byte)) {
		word := "answer to " + subject + " " + string(data)
		late.Go(func() { // from another goroutine, and twice
			reply([]byte(word))
			reply([]byte("once more"))
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	known(t, asker, "ask.first")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			got, err := asker.Request(ctx, fmt.Sprintf("ask.%d", i), []byte("x"))
			if want := fmt.Sprintf("answer to ask.%d x", i); err != nil || string(got) != want {
				t.Errorf("request: got %q, %v, want %q", got, err, want)
			}
		})
	}
	all.Wait()
	late.Wait()
}

func testRequestUnanswered(t *testing.T, b *bench) {
	s, silent := b.open(), b.open()
	began := time.Now()
	if _, err := s.Request(limited(t), "nobody", nil); !errors.Is(err, store.ErrNoResponder) {
		t.Errorf("request to nobody: got %v, want ErrNoResponder", err)
	}
	if took := time.Since(began); took >= store.RequestTimeout {
		t.Errorf("request to nobody: took %v, wants to be told at once", took)
	}
	stop, err := silent.Subscribe("silent", func(string, []byte, func([]byte)) {})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	eventually(t, "the silent one is known", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := s.Request(ctx, "silent", nil)
		if !errors.Is(err, store.ErrNoResponder) && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("request to a silent one: got %v, want DeadlineExceeded", err)
		}
		return errors.Is(err, context.DeadlineExceeded)
	})
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() {
		_, err := s.Request(ctx, "silent", nil)
		asked <- err
	}()
	cancel()
	if err := next(t, "cancelled request", asked); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled request: got %v, want Canceled", err)
	}
}
