package hal

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

var boot = time.Now()

// move is one edge at a time since boot; down is written as '+'.
type move struct {
	at     time.Duration
	button string
	down   bool
}

// press is a clean press of a button.
func press(button string, at, hold time.Duration) []move {
	return []move{{at, button, true}, {at + hold, button, false}}
}

func moves(lists ...[]move) []move {
	all := slices.Concat(lists...)
	slices.SortStableFunc(all, func(a, b move) int { return int(a.at - b.at) })
	return all
}

// timed is an event with the time at which it was told.
type timed struct {
	Event
	at time.Duration
}

// play feeds edges to a recogniser whose lines were up at boot. With fine, it
// is advanced whenever it asks to be, as Watcher does; else only by the edges.
func play(rules map[string]Rule, edges []move, fine bool) []timed {
	r := NewRecogniser(rules)
	var told []timed
	note := func(at time.Duration, events []Event) {
		for _, e := range events {
			told = append(told, timed{e, at})
		}
	}
	until := func(end time.Duration) {
		for {
			due, ok := r.Next()
			if !ok || due.Sub(boot) > end {
				return
			}
			note(due.Sub(boot), r.Advance(due))
		}
	}
	for name := range rules {
		r.Edge(name, Edge{At: boot, Resync: true})
	}
	for _, m := range edges {
		if fine {
			until(m.at)
		}
		note(m.at, r.Edge(m.button, Edge{Down: m.down, At: boot.Add(m.at)}))
	}
	until(edges[len(edges)-1].at + time.Hour)
	return told
}

func kinds(told []timed, all bool) string {
	var s []string
	for _, e := range told {
		if all || e.Kind.Gesture() || e.Kind == Cancelled {
			s = append(s, e.String())
		}
	}
	return strings.Join(s, "; ")
}

var (
	three = map[string]Rule{"pair": {}, "support": {}, "reset": {Confirm: true}}
	one   = map[string]Rule{"pair": {Double: true, Confirm: true}}
)

func TestGestures(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name  string
		rules map[string]Rule
		edges []move
		want  string
	}{
		{"short", three, press("pair", s, 200*ms), "pair: press 200ms"},
		{"support", three, press("support", s, 1500*ms), "support: press 1.5s"},
		{"shorter than the debounce", three, press("pair", s, 29*ms), ""},
		{"as long as the debounce", three, press("pair", s, 30*ms), "pair: press 30ms"},
		{"a gap shorter than the debounce is none", three, moves(press("pair", s, s), press("pair", 2*s+29*ms, s)), "pair: press 2.029s"},
		{"bounce at both ends", three, moves(press("pair", s, 2*ms), press("pair", s+5*ms, 100*ms), press("pair", s+110*ms, 1*ms)), "pair: press 106ms"},
		{"hold of 3 s", three, press("support", s, 3*s), "support: press 3s"},
		{"hold of 10 s on a plain button", three, press("pair", s, 10*s), "pair: press 10s"},
		{"reset", three, moves(press("reset", s, 10*s), press("reset", 13*s, 200*ms)), "reset: confirmed hold"},
		{"reset, hold too short", three, moves(press("reset", s, 10*s-1), press("reset", 13*s, 200*ms)), "reset: press 10s; reset: press 200ms"},
		{"reset, at the last moment", three, moves(press("reset", s, 10*s), press("reset", 16*s, 200*ms)), "reset: confirmed hold"},
		{"reset, too late", three, moves(press("reset", s, 10*s), press("reset", 16*s+1, 200*ms)), "reset: cancelled, not pressed in time; reset: press 200ms"},
		{"reset, the press before", three, moves(press("reset", s, 200*ms), press("reset", 2*s, 10*s)), "reset: press 200ms; reset: cancelled, not pressed in time"},
		{"reset, only held", three, press("reset", s, 10*s), "reset: cancelled, not pressed in time"},
		{"reset, a slip is no press", three, moves(press("reset", s, 11*s), press("reset", 12*s+199*ms, s)), "reset: cancelled, pressed again too soon"},
		{"reset, the pause a finger needs", three, moves(press("reset", s, 11*s), press("reset", 12*s+200*ms, s)), "reset: confirmed hold"},
		{"reset, confirming press held", three, moves(press("reset", s, 10*s), press("reset", 13*s, 2*s)), "reset: cancelled, held too long"},
		{"reset, another button instead", three, moves(press("reset", s, 10*s), press("pair", 13*s, s), press("reset", 15*s, 200*ms)), "reset: cancelled, another button was pressed; reset: press 200ms"},
		{"reset, another button during the hold", three, moves(press("reset", s, 10*s), press("pair", 5*s, s), press("reset", 13*s, 200*ms)), "reset: cancelled, another button was pressed; reset: press 200ms"},
		{"reset, another button during the press", three, moves(press("reset", s, 10*s), press("reset", 13*s, s), press("pair", 13*s+200*ms, s)), "reset: cancelled, another button was pressed"},
		{"two buttons at once", three, moves(press("pair", s, s), press("support", s+100*ms, s)), "pair: cancelled, another button was pressed"},
		{"a leaning box", three, moves(press("reset", s, 90*s), press("reset", 93*s, 200*ms)), "reset: cancelled, held too long; reset: press 200ms"},
		{"beside a leaning box", three, moves(press("reset", s, 90*s), press("pair", 80*s, 200*ms)), "reset: cancelled, held too long; pair: press 200ms"},
		{"one button, short", one, press("pair", s, 200*ms), "pair: press 200ms"},
		{"one button, double", one, moves(press("pair", s, 100*ms), press("pair", s+500*ms, 100*ms)), "pair: double press"},
		{"one button, two singles", one, moves(press("pair", s, 100*ms), press("pair", s+501*ms, 100*ms)), "pair: press 100ms; pair: press 100ms"},
		{"one button, three", one, moves(press("pair", s, 100*ms), press("pair", s+300*ms, 100*ms), press("pair", s+600*ms, 100*ms)), "pair: double press; pair: press 100ms"},
		{"one button, reset", one, moves(press("pair", s, 10*s), press("pair", 12*s, 100*ms)), "pair: confirmed hold"},
		{"one button, fumbled then held", one, moves(press("pair", s, 100*ms), press("pair", s+300*ms, 10*s), press("pair", 13*s, 100*ms)), "pair: confirmed hold"},
		{"several buttons pay no double window", three, moves(press("pair", s, 100*ms), press("pair", s+300*ms, 100*ms)), "pair: press 100ms; pair: press 100ms"},
	} {
		told := play(c.rules, c.edges, true)
		if got := kinds(told, false); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		if coarse := play(c.rules, c.edges, false); kinds(coarse, true) != kinds(told, true) {
			t.Errorf("%s: told %q late, %q in time", c.name, kinds(coarse, true), kinds(told, true))
		}
	}
}

func TestProgress(t *testing.T) {
	const s = time.Second
	told := play(three, moves(press("reset", 0, 11*s), press("reset", 13500*ms, 200*ms)), true)
	var got []string
	for _, e := range told {
		got = append(got, e.at.String()+" "+e.Kind.String()+" "+e.Held.String()+" "+e.Left.String())
	}
	want := []string{
		"1s holding 1s 9s", "2s holding 2s 8s", "3s holding 3s 7s", "4s holding 4s 6s", "5s holding 5s 5s",
		"6s holding 6s 4s", "7s holding 7s 3s", "8s holding 8s 2s", "9s holding 9s 1s", "10s armed 10s 0s",
		"11.03s waiting 0s 5s", "12s waiting 0s 4s", "13s waiting 0s 3s", "13.73s confirmed hold 0s 0s",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if got := kinds(play(three, press("pair", 0, 2500*ms), true), true); got != "pair: holding 1s; pair: holding 2s; pair: press 2.5s" {
		t.Errorf("plain button: %q", got)
	}
}

// A button down when its line was found counts after it was released, however
// it came to be so.
func TestFoundDown(t *testing.T) {
	at := func(d time.Duration) time.Time { return boot.Add(d) }
	for _, c := range []struct {
		name  string
		first []Edge
	}{
		{"held at boot", []Edge{{Down: true, At: at(0), Resync: true}}},
		{"held at boot, by a driver that forgets to say so", []Edge{{Down: true, At: at(0)}}},
		{"events lost", []Edge{{At: at(-time.Minute), Resync: true}, {Down: true, At: at(-time.Second)}, {Down: true, At: at(0), Resync: true}}},
		{"pulled out and back", []Edge{{At: at(-time.Minute), Resync: true}, {Down: true, At: at(-2 * time.Second)}, {At: at(-time.Second), Resync: true}, {Down: true, At: at(0), Resync: true}}},
	} {
		r := NewRecogniser(three)
		var told []Event
		for _, e := range c.first {
			told = append(told, r.Edge("reset", e)...)
		}
		told = append(told, r.Edge("reset", Edge{At: at(11 * time.Second)})...)
		told = append(told, r.Edge("reset", Edge{Down: true, At: at(13 * time.Second)})...)
		told = append(told, r.Edge("reset", Edge{At: at(13200 * ms)})...)
		told = append(told, r.Advance(at(time.Minute))...)
		var gestures []string
		for _, e := range told {
			if e.Kind.Gesture() {
				gestures = append(gestures, e.String())
			}
		}
		if want := []string{"reset: press 200ms"}; !slices.Equal(gestures, want) {
			t.Errorf("%s: got %q, want %q", c.name, gestures, want)
		}
	}
}

func TestLostEndsAHalfGesture(t *testing.T) {
	r := NewRecogniser(three)
	r.Edge("reset", Edge{At: boot, Resync: true})
	r.Edge("reset", Edge{Down: true, At: boot.Add(time.Second)})
	r.Edge("reset", Edge{At: boot.Add(12 * time.Second)})
	got := r.Lost("reset", boot.Add(13*time.Second))
	if want := (Event{Kind: Cancelled, Button: "reset", Why: Lost}); len(got) == 0 || got[len(got)-1] != want {
		t.Errorf("got %v, want %v last", got, want)
	}
	if at, ok := r.Next(); ok {
		t.Errorf("something is due at %v after the button was lost", at)
	}
	if got := r.Edge("power", Edge{Down: true, At: boot}); got != nil {
		t.Errorf("a button that is not there told %v", got)
	}
}

// A line that does not come to rest cancels, and its end is no press.
func TestChatterCancels(t *testing.T) {
	var edges []move
	edges = append(edges, move{time.Second, "reset", true})
	for i := range 60 { // 300 ms of it, ending down
		edges = append(edges, move{12*time.Second + time.Duration(i)*5*ms, "reset", i%2 == 1})
	}
	edges = append(edges, move{14 * time.Second, "reset", false})
	edges = append(edges, press("reset", 15*time.Second, 200*ms)...)
	want := "reset: cancelled, the contact does not come to rest; reset: press 200ms"
	if got := kinds(play(three, edges, true), false); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An edge whose time runs backwards does not shorten or lengthen anything.
func TestTimeNeverRunsBackwards(t *testing.T) {
	r := NewRecogniser(three)
	r.Edge("pair", Edge{At: boot, Resync: true})
	r.Edge("pair", Edge{Down: true, At: boot.Add(time.Second)})
	r.Edge("pair", Edge{At: boot.Add(-time.Hour)})
	if got := r.Advance(boot.Add(time.Minute)); len(got) != 0 {
		t.Errorf("told %v, want nothing: the press has no length", got)
	}
}

func TestRules(t *testing.T) {
	screen := struct{ Display }{}
	for _, c := range []struct {
		board Board
		want  map[string]Rule
	}{
		{Board{}, map[string]Rule{}},
		{Board{Buttons: map[string]Button{"pair": nil, "support": nil, "reset": nil}, Display: screen}, three},
		{Board{Buttons: map[string]Button{"pair": nil}, Display: screen}, one},
		{Board{Buttons: map[string]Button{"pair": nil}}, map[string]Rule{"pair": {Confirm: true}}},
		{Board{Buttons: map[string]Button{"pair": nil, "reset": nil}, Display: screen}, map[string]Rule{"pair": {}, "reset": {Confirm: true}}},
	} {
		got := c.board.Rules()
		if len(got) != len(c.want) {
			t.Errorf("%v: rules %v, want %v", c.board.Names(), got, c.want)
		}
		for name, want := range c.want {
			if got[name] != want {
				t.Errorf("%v: rule of %s = %+v, want %+v", c.board.Names(), name, got[name], want)
			}
		}
	}
	names := (&Board{Buttons: map[string]Button{"zoom": nil, "reset": nil, "pair": nil, "bell": nil}}).Names()
	if want := []string{"pair", "reset", "bell", "zoom"}; !slices.Equal(names, want) {
		t.Errorf("names = %v, want %v", names, want)
	}
}
