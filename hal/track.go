package hal

import "time"

// phase is where a button stands in a gesture; the drawing is at Recogniser.
type phase uint8

const (
	idle         phase = iota // released, nothing under way
	held                      // down since track.since
	between                   // released at track.since after a short press
	second                    // down for the second time
	confirming                // released at track.since after ConfirmHold
	confirmPress              // down once more
	spent                     // down, and counts for nothing until released
)

// half reports whether something is under way that another press would cancel.
func (p phase) half() bool { return p != idle && p != spent }

// A track is one button: its line and how far its gesture is.
type track struct {
	name  string
	rule  Rule
	known bool // the line's level was told
	line  line

	phase phase
	since time.Time     // when the phase began
	first time.Duration // between, second: length of the first press
	ticks int           // whole seconds of the phase that were told
}

func (t *track) enter(p phase, at time.Time) { t.phase, t.since, t.ticks = p, at, 0 }

// next returns when fire has something to do for t. While the line is restless
// nothing else is decided: the press or release that decides it may be under way.
func (t *track) next() (time.Time, bool) {
	switch {
	case t.line.restless:
		return t.line.next(), true
	case t.phase == between:
		return t.since.Add(DoubleWindow + 1), true // a press at its very end still counts
	case t.phase == confirming && t.ticks == int(ConfirmWithin/time.Second)-1:
		return t.since.Add(ConfirmWithin + 1), true
	case t.phase.half():
		return t.since.Add(time.Duration(t.ticks+1) * time.Second), true
	}
	return time.Time{}, false
}

// tick tells that another second of the phase has passed, or its time is over.
func (r *Recogniser) tick(t *track) {
	t.ticks++
	passed := time.Duration(t.ticks) * time.Second
	switch t.phase {
	case held, second:
		r.holding(t, passed)
	case between:
		r.lapse(t)
	case confirming:
		if passed < ConfirmWithin {
			r.emit(Event{Kind: Waiting, Button: t.name, Left: ConfirmWithin - passed})
		} else {
			r.lapse(t)
		}
	case confirmPress:
		if passed >= ShortPress {
			r.cancel(t, TooLong)
		}
	}
}

func (r *Recogniser) holding(t *track, passed time.Duration) {
	e := Event{Kind: Holding, Button: t.name, Held: passed}
	switch {
	case passed >= StuckAfter:
		r.cancel(t, TooLong)
		return
	case t.rule.Confirm && passed == ConfirmHold:
		e.Kind = Armed
	case t.rule.Confirm && passed > ConfirmHold:
		return
	case t.rule.Confirm:
		e.Left = ConfirmHold - passed
	}
	r.emit(e)
}

// lapse ends a phase that waited for a press which did not come.
func (r *Recogniser) lapse(t *track) {
	if t.phase == between {
		r.emit(Event{Kind: Press, Button: t.name, Held: t.first})
		t.phase = idle
		return
	}
	r.cancel(t, TooLate)
	t.phase = idle // the line may be down by now: that press is a new one
}

// pressed: t went down at the given time.
func (r *Recogniser) pressed(t *track, at time.Time) {
	if r.disturbs(t) {
		t.phase = spent
		return
	}
	waited := at.Sub(t.since)
	if t.phase == between && waited > DoubleWindow || t.phase == confirming && waited > ConfirmWithin {
		r.lapse(t)
	}
	switch {
	case t.phase == between:
		t.enter(second, at)
	case t.phase == confirming && waited < ConfirmPause:
		r.cancel(t, TooSoon)
	case t.phase == confirming:
		t.enter(confirmPress, at)
	default:
		t.enter(held, at)
	}
}

// disturbs cancels what is half done on other buttons and reports whether there
// was anything: then the press that did it means no more than that.
func (r *Recogniser) disturbs(t *track) bool {
	any := false
	for _, other := range r.tracks {
		if other != t && other.phase.half() {
			r.cancel(other, OtherButton)
			any = true
		}
	}
	return any
}

// released: t went up at the given time.
func (r *Recogniser) released(t *track, at time.Time) {
	was, length := t.phase, at.Sub(t.since)
	t.phase = idle
	switch {
	case was == spent:
	case was == confirmPress && length < ShortPress:
		r.emit(Event{Kind: Confirmed, Button: t.name})
	case was == confirmPress, length >= StuckAfter:
		r.emit(Event{Kind: Cancelled, Button: t.name, Why: TooLong})
	case was == second && length < ShortPress:
		r.emit(Event{Kind: Double, Button: t.name})
	case t.rule.Confirm && length >= ConfirmHold:
		t.enter(confirming, at)
		r.emit(Event{Kind: Waiting, Button: t.name, Left: ConfirmWithin})
	case t.rule.Double && length < ShortPress:
		t.enter(between, at)
		t.first = length
	default:
		// A long hold begun as the second press swallows the first: it was a fumble.
		r.emit(Event{Kind: Press, Button: t.name, Held: length})
	}
}
