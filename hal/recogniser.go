package hal

import (
	"maps"
	"slices"
	"time"
)

// A Recogniser turns edges into gestures. It is a pure state machine: time is
// passed in, nothing runs by itself. One goroutine owns it; Watcher is that
// goroutine for a real board.
//
//	          press          release, short and Double          press in time
//	idle ------------> held -----------------------> between ---------------> second
//	 ^                  |  \ release                    | DoubleWindow          |
//	 |<--- Press -------|---'                           '---> Press             '---> Double
//	 |                  | release after ConfirmHold
//	 |                  v            press in time                 release, short
//	 |              confirming ---------------------> confirmPress ---------------> Confirmed
//	 '--- Cancelled ----'
//
// Whatever is half done ends in spent (until released) or idle when another
// button is pressed, the time is over, the line is lost or does not come to rest.
type Recogniser struct {
	tracks []*track // in order of name, so that ties are decided the same way each time
	events []Event  // of the call under way
}

// NewRecogniser returns one for the buttons named by rules. Until a button's
// first edge arrives it counts as unknown, and that edge as a Resync.
func NewRecogniser(rules map[string]Rule) *Recogniser {
	r := &Recogniser{}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		r.tracks = append(r.tracks, &track{name: name, rule: rules[name]})
	}
	return r
}

// Edge takes one edge of the named button and returns what follows from it and
// from the time that passed until it. An edge older than the one before it
// counts as simultaneous with that one. An unknown name is ignored.
func (r *Recogniser) Edge(button string, e Edge) []Event {
	for _, t := range r.tracks {
		if t.name != button {
			continue
		}
		if e.At.Before(t.line.moved) {
			e.At = t.line.moved
		}
		r.pass(e.At)
		if e.Resync || !t.known {
			r.found(t, e)
		} else {
			t.line.edge(e.Down, e.At)
		}
	}
	return r.told()
}

// Lost says that the named button is gone: what was half done is cancelled.
func (r *Recogniser) Lost(button string, at time.Time) []Event {
	return r.Edge(button, Edge{At: at, Resync: true})
}

// Advance tells the time and returns what follows from it.
func (r *Recogniser) Advance(now time.Time) []Event {
	r.pass(now)
	return r.told()
}

// Next returns when Advance has something to decide if no edge comes before;
// ok is false when nothing is under way.
func (r *Recogniser) Next() (at time.Time, ok bool) {
	if t, due := r.earliest(); t != nil {
		return due, true
	}
	return time.Time{}, false
}

func (r *Recogniser) told() []Event {
	events := r.events
	r.events = nil
	return events
}

// pass carries out, in order, everything that was due until now.
func (r *Recogniser) pass(now time.Time) {
	for {
		t, due := r.earliest()
		if t == nil || due.After(now) {
			return
		}
		r.fire(t, due)
	}
}

func (r *Recogniser) earliest() (first *track, due time.Time) {
	for _, t := range r.tracks {
		if at, ok := t.next(); ok && (first == nil || at.Before(due)) {
			first, due = t, at
		}
	}
	return first, due
}

func (r *Recogniser) fire(t *track, due time.Time) {
	if !t.line.restless {
		r.tick(t)
		return
	}
	changed, chatter := t.line.rest(due)
	switch {
	case chatter:
		r.cancel(t, Chatter)
	case changed && t.line.down:
		r.pressed(t, t.line.moved)
	case changed:
		r.released(t, t.line.moved)
	}
	// A line that came back to rest after chatter may be down with nothing
	// counting: it counts again once it was released.
	if !t.line.restless && t.line.down && t.phase == idle {
		t.phase = spent
	}
}

// found takes the level of a line as it is, without having seen it change.
func (r *Recogniser) found(t *track, e Edge) {
	r.cancel(t, Lost)
	t.known = true
	t.line.set(e.Down, e.At)
	t.phase = idle
	if e.Down {
		t.phase = spent
	}
}

func (r *Recogniser) emit(e Event) { r.events = append(r.events, e) }

// cancel ends what is half done on t, if anything is.
func (r *Recogniser) cancel(t *track, why Reason) {
	if t.phase.half() {
		r.emit(Event{Kind: Cancelled, Button: t.name, Why: why})
	}
	t.phase = idle
	if t.line.down {
		t.phase = spent
	}
}
