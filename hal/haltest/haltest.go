// Package haltest is the conformance suite of hal: what every driver of a
// button, a light or a display must do. A driver's tests call it with a way to
// move the line behind the button, simulated or by the kernel's gpio-sim.
package haltest

import (
	"sync"
	"testing"
	"time"

	"github.com/keyholed/keyhole/hal"
)

// patience is how long a driver may take to tell an edge before the suite calls
// it hung. No driver comes near it.
const patience = 10 * time.Second

// flood is more edges than any kernel keeps for a line.
const flood = 1000

// A Line is the far end of a button's wire.
type Line interface {
	Move(down bool) // sets the level; a level it has already is no edge
}

// A Plug is a Line that can be pulled out and put back, where the hardware can.
type Plug interface {
	Line
	Unplug()
	Replug()
}

// Buttons tries a driver of buttons. open returns a new button and its line,
// which is down or up when the button is opened.
func Buttons(t *testing.T, open func(t *testing.T, down bool) (hal.Button, Line)) {
	rig := func(t *testing.T, down bool) (hal.Button, Line) {
		button, line := open(t, down)
		t.Cleanup(func() {
			if err := button.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		return button, line
	}
	t.Run("first tells the level", func(t *testing.T) {
		for _, down := range []bool{false, true} {
			button, _ := rig(t, down)
			if e := next(t, button); !e.Resync || e.Down != down {
				t.Errorf("first edge of a line with down %v: %+v", down, e)
			}
			if button.String() == "" {
				t.Error("the button has no name for a log")
			}
		}
	})
	t.Run("hold", func(t *testing.T) { hold(t, rig) })
	t.Run("bounce", func(t *testing.T) { bounce(t, rig) })
	t.Run("nobody reads", func(t *testing.T) { unread(t, rig) })
	t.Run("unplug", func(t *testing.T) { unplug(t, rig) })
	t.Run("close while waiting", func(t *testing.T) { closeWhileWaiting(t, rig) })
}

type rigger func(t *testing.T, down bool) (hal.Button, Line)

func next(t *testing.T, button hal.Button) hal.Edge {
	t.Helper()
	select {
	case e, ok := <-button.Edges():
		if !ok {
			t.Fatal("the edges ended")
		}
		return e
	case <-time.After(patience):
		t.Fatal("no edge came")
	}
	return hal.Edge{}
}

// hold: an edge carries the time of the move, however late it is read.
func hold(t *testing.T, rig rigger) {
	button, line := rig(t, false)
	next(t, button)
	for _, down := range []bool{true, false, true} {
		before := time.Now()
		line.Move(down)
		after := time.Now()
		e := next(t, button)
		if e.Down != down || e.Resync {
			t.Fatalf("moved to down %v: got %+v", down, e)
		}
		// A kernel stamps an edge when its interrupt comes, a moment after a
		// simulated line was written to; it is read after that in any case.
		if late := time.Now(); e.At.Before(before) || e.At.After(late) {
			t.Errorf("edge at %v, moved between %v and %v, read at %v", e.At, before, after, late)
		}
	}
}

// bounce: quick edges come in order, alternating, and end at the right level.
func bounce(t *testing.T, rig rigger) {
	button, line := rig(t, false)
	last := next(t, button)
	for range 3 {
		line.Move(true)
		line.Move(false)
	}
	line.Move(true)
	for range 7 {
		e := next(t, button)
		if e.At.Before(last.At) {
			t.Errorf("edge at %v after one at %v", e.At, last.At)
		}
		if e.Down == last.Down && !e.Resync {
			t.Errorf("two edges to down %v without a resync between", e.Down)
		}
		last = e
	}
	if !last.Down {
		t.Error("the line is down, the edges end up")
	}
}

// unread: a flood that nobody reads blocks nobody, is told as a loss, and the
// last that is told is the level that stands.
func unread(t *testing.T, rig rigger) {
	button, line := rig(t, false)
	next(t, button)
	for i := range flood {
		line.Move(i%2 == 0)
	}
	line.Move(true)
	told, resync := 0, false
	for done := false; !done; told++ {
		e := next(t, button)
		resync = resync || e.Resync
		// Which edge is the last cannot be seen from the channel: move once
		// more when it is empty, and look for that.
		done = e.Down && len(button.Edges()) == 0
	}
	line.Move(false)
	for e := next(t, button); e.Down; e = next(t, button) {
		told++
	}
	if told < flood && !resync {
		t.Errorf("%d of %d edges were told, and no loss", told, flood)
	}
}

// unplug: it ends a press, and the button comes back as it stands.
func unplug(t *testing.T, rig rigger) {
	button, line := rig(t, false)
	plug, ok := line.(Plug)
	if !ok {
		t.Skip("this line cannot be unplugged")
	}
	next(t, button)
	plug.Move(true)
	next(t, button)
	plug.Unplug()
	if e := next(t, button); e.Down || !e.Resync {
		t.Errorf("unplugged: %+v, want a resync, up", e)
	}
	plug.Replug()
	if e := next(t, button); !e.Down || !e.Resync {
		t.Errorf("back, held: %+v, want a resync, down", e)
	}
	plug.Move(false)
	if e := next(t, button); e.Down || e.Resync {
		t.Errorf("released: %+v, want a plain edge, up", e)
	}
}

func closeWhileWaiting(t *testing.T, rig rigger) {
	button, line := rig(t, false)
	next(t, button)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range button.Edges() {
		}
	}()
	for range 2 {
		if err := button.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the reader still waits after Close")
	}
	line.Move(true) // nobody listens; nothing happens
}

// Light tries a light: every pattern, from several goroutines, and Close twice.
func Light(t *testing.T, light hal.Light) {
	together(func() {
		for _, p := range []hal.Pattern{hal.On, hal.SlowBlink, hal.FastBlink, hal.Flashes(3), hal.Off} {
			if err := light.Set(p); err != nil {
				t.Errorf("set %v: %v", p, err)
			}
		}
	})
	for range 2 {
		if err := light.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

// Display tries a display: pictures from several goroutines, which are theirs
// again afterwards, and Close twice.
func Display(t *testing.T, display hal.Display) {
	together(func() {
		p := hal.Page(hal.Line{Text: "conformance"})
		for range 3 {
			if err := display.Show(p); err != nil {
				t.Errorf("show: %v", err)
			}
			p.Invert(p.Bounds())
			p.Words[0] += "."
		}
	})
	for range 2 {
		if err := display.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

func together(do func()) {
	var all sync.WaitGroup
	for range 4 {
		all.Go(do)
	}
	all.Wait()
}
