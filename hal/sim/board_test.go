package sim_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/hal/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// desk is a board with a watcher on it, inside a synctest bubble.
type desk struct {
	*sim.Board
	events []hal.Event
	stop   func()
}

func watched(t *testing.T, o sim.Options) *desk {
	t.Helper()
	d := &desk{Board: sim.New(o)}
	w := hal.NewWatcher(d.HAL(), func(e hal.Event) { d.events = append(d.events, e) }, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	<-w.Ready()
	d.stop = func() {
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("watcher: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	return d
}

func (d *desk) gestures() []string {
	var told []string
	for _, e := range d.events {
		switch {
		case e.Short():
			told = append(told, e.Button+" short")
		case e.Kind == hal.Press:
			told = append(told, e.Button+" held "+e.Held.Round(100*time.Millisecond).String())
		case e.Kind.Gesture():
			told = append(told, e.Button+" "+e.Kind.String())
		}
	}
	return told
}

// The gestures that `keyholed press` makes, with bounce, through the same path
// as those of real buttons.
func TestNominalPresses(t *testing.T) {
	type press struct {
		button string
		hold   time.Duration
	}
	for _, c := range []struct {
		name    string
		options sim.Options
		presses []press
		want    []string
	}{
		{"pair", sim.Options{}, []press{{"pair", 200 * time.Millisecond}}, []string{"pair short"}},
		{"pair twice", sim.Options{}, []press{{"pair", 200 * time.Millisecond}, {"pair", 200 * time.Millisecond}}, []string{"pair short", "pair short"}},
		{"support", sim.Options{}, []press{{"support", 1500 * time.Millisecond}}, []string{"support short"}},
		{"support held", sim.Options{}, []press{{"support", 3 * time.Second}}, []string{"support held 3s"}},
		{"pair held", sim.Options{}, []press{{"pair", 10 * time.Second}}, []string{"pair held 10s"}},
		{"reset", sim.Options{}, []press{{"reset", 10 * time.Second}, {"reset", 200 * time.Millisecond}}, []string{"reset confirmed hold"}},
		{"reset cancelled by pair", sim.Options{}, []press{{"reset", 10 * time.Second}, {"pair", 200 * time.Millisecond}, {"reset", 200 * time.Millisecond}}, []string{"reset short"}},
		{"one button, short", sim.Options{Buttons: []string{"pair"}}, []press{{"pair", 200 * time.Millisecond}}, []string{"pair short"}},
		{"one button, double", sim.Options{Buttons: []string{"pair"}}, []press{{"pair", 200 * time.Millisecond}, {"pair", 200 * time.Millisecond}}, []string{"pair double press"}},
		{"one button, reset", sim.Options{Buttons: []string{"pair"}}, []press{{"pair", 10 * time.Second}, {"pair", 200 * time.Millisecond}}, []string{"pair confirmed hold"}},
		{"one button, no display", sim.Options{Buttons: []string{"pair"}, NoDisplay: true}, []press{{"pair", 200 * time.Millisecond}, {"pair", 200 * time.Millisecond}}, []string{"pair short", "pair short"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := watched(t, c.options)
				for _, p := range c.presses {
					if err := d.Press(t.Context(), p.button, p.hold); err != nil {
						t.Fatalf("press %s %v: %v", p.button, p.hold, err)
					}
				}
				time.Sleep(hal.ConfirmWithin + time.Second)
				d.stop()
				if got := d.gestures(); !slices.Equal(got, c.want) {
					t.Errorf("got %q, want %q (events %v)", got, c.want, d.events)
				}
			})
		})
	}
}

func TestPressRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New(sim.Options{})
		if err := b.Press(t.Context(), "power", time.Second); !errors.Is(err, sim.ErrNoButton) {
			t.Errorf("unknown button: %v, want ErrNoButton", err)
		}
		for _, hold := range []time.Duration{0, -1, sim.MaxHold + 1} {
			if err := b.Press(t.Context(), "pair", hold); err == nil {
				t.Errorf("hold %v: accepted", hold)
			}
		}
		hand, err := b.Hold("pair")
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Press(t.Context(), "pair", time.Second); !errors.Is(err, sim.ErrHeld) {
			t.Errorf("held button: %v, want ErrHeld", err)
		}
		if got := b.State().Down; !slices.Equal(got, []string{"pair"}) {
			t.Errorf("down = %v, want [pair]", got)
		}
		time.Sleep(sim.MaxHold + time.Second)
		if got := b.State().Down; len(got) != 0 {
			t.Errorf("down = %v after MaxHold, want none", got)
		}
		hand.Release() // too late, and harmless
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Press(ctx, "pair", 10*time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cancelled press: %v, want its context's error", err)
		}
		if got := b.State().Down; len(got) != 0 {
			t.Errorf("down = %v after a cancelled press, want none", got)
		}
		if err := errors.Join(b.Close(), b.Close()); err != nil {
			t.Errorf("close twice: %v", err)
		}
		if err := b.Press(t.Context(), "pair", time.Second); !errors.Is(err, sim.ErrClosed) {
			t.Errorf("closed board: %v, want ErrClosed", err)
		}
	})
}

func TestStateAndChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New(sim.Options{})
		changed, stop := b.Changed()
		defer stop()
		for range 3 { // coalesced
			if err := b.HAL().Display.Show(hal.Page(hal.Line{Text: "123 456", Scale: 2})); err != nil {
				t.Fatal(err)
			}
		}
		<-changed
		select {
		case <-changed:
			t.Error("a second notification without a second change")
		default:
		}
		if got := b.State().Picture.Words; !slices.Equal(got, []string{"123 456"}) {
			t.Errorf("words = %q", got)
		}
		if err := b.HAL().Light.Set(hal.SlowBlink); err != nil {
			t.Fatal(err)
		}
		var seen []bool
		for range 4 {
			synctest.Wait()
			seen = append(seen, b.State().Lit)
			time.Sleep(500 * time.Millisecond)
		}
		if !slices.Equal(seen, []bool{true, false, true, false}) {
			t.Errorf("slow blink seen as %v", seen)
		}
		if got := b.State().Pattern; got != hal.SlowBlink {
			t.Errorf("pattern = %v", got)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if s := b.State(); s.Lit || s.Pattern != hal.Off || !s.Picture.Equal(&hal.Picture{}) {
			t.Errorf("after close: lit %v, pattern %v, words %v", s.Lit, s.Pattern, s.Picture.Words)
		}
		if err := b.HAL().Display.Show(&hal.Picture{}); !errors.Is(err, sim.ErrClosed) {
			t.Errorf("show after close: %v, want ErrClosed", err)
		}
	})
}
