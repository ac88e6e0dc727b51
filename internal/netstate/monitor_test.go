package netstate

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// The first change of a burst is told soon, the rest of it once a second, and
// nothing when all is quiet.
func TestCoalesce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		events := make(chan struct{}, 1)
		start := time.Now()
		var checks []time.Duration
		done := make(chan struct{})
		go func() {
			defer close(done)
			coalesce(ctx, events, func() { checks = append(checks, time.Since(start)) })
		}()
		for range 250 { // a burst of 2.5 s
			poke(events)
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Hour)
		cancel()
		<-done
		if len(checks) != 4 || checks[0] != settle || checks[1] != settle+quietPeriod || checks[3] > 4*time.Second {
			t.Errorf("looked at %v", checks)
		}
	})
}

func TestWatchCoalescesAndStops(t *testing.T) {
	m := NewMonitor(nil)
	changes, stop := m.Watch()
	m.notify()
	m.notify()
	<-changes
	select {
	case <-changes:
		t.Error("two tokens for a reader that was away")
	default:
	}
	stop()
	m.notify()
	select {
	case <-changes:
		t.Error("told after stop")
	default:
	}
}

// Only what consumers act on is news.
func TestDescribe(t *testing.T) {
	a, b := board(), board()
	b.routes = append(b.routes, route{link: 2, to: a.routes[3].to})
	if a.describe() != b.describe() {
		t.Error("a route that is no default route is news")
	}
	b.addresses = b.addresses[:len(b.addresses)-1]
	if a.describe() == b.describe() {
		t.Error("a lost address is no news")
	}
}
