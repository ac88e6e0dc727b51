package hal

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// wire is a button that a test feeds by hand.
type wire chan Edge

func (w wire) Edges() <-chan Edge { return w }
func (w wire) Close() error       { return errors.New("wire is cut") }
func (w wire) String() string     { return "wire" }

func TestWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pair, reset := make(wire, 8), make(wire, 8)
		board := &Board{Buttons: map[string]Button{"pair": pair, "reset": reset}}
		var told []Event
		w := NewWatcher(board, func(e Event) { told = append(told, e) }, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		ready := func() bool {
			synctest.Wait()
			select {
			case <-w.Ready():
				return true
			default:
				return false
			}
		}
		last := func() string {
			synctest.Wait()
			if len(told) == 0 {
				return ""
			}
			return told[len(told)-1].String()
		}
		now := time.Now
		pair <- Edge{At: now(), Resync: true}
		if ready() {
			t.Error("ready before every button told its level")
		}
		reset <- Edge{At: now(), Resync: true}
		if !ready() {
			t.Error("not ready though every button told its level")
		}

		time.Sleep(2 * time.Second)

		// Read late, but stamped in time; and a stamp from the future is now.
		pair <- Edge{Down: true, At: now().Add(-time.Second)}
		pair <- Edge{At: now().Add(time.Hour)}
		time.Sleep(time.Second)
		if got := last(); got != "pair: press 1s" {
			t.Errorf("told %q, want a press of 1 s", got)
		}

		// A button that goes takes its half gesture along; the other works on.
		reset <- Edge{Down: true, At: now()}
		time.Sleep(3 * time.Second)
		close(reset)
		if got := last(); got != "reset: cancelled, the button was lost" {
			t.Errorf("told %q", got)
		}
		pair <- Edge{Down: true, At: now()}
		time.Sleep(100 * ms)
		pair <- Edge{At: now()}
		time.Sleep(time.Second)
		if got := last(); got != "pair: press 100ms" {
			t.Errorf("told %q", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := board.Close(); err == nil {
			t.Error("the board's parts failed to close, and it did not")
		}
	})
}

// A board without buttons has a watcher that is ready and does nothing.
func TestWatcherOfNothing(t *testing.T) {
	w := NewWatcher(&Board{}, func(Event) {}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-w.Ready()
		cancel()
	}()
	if err := w.Run(ctx); err != nil {
		t.Errorf("run: %v", err)
	}
}
