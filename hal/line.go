package hal

import "time"

// A line is the debounced level of one button: a level counts once it has
// lasted for Debounce, and then from the moment it began.
type line struct {
	raw      bool      // the level of the last edge
	moved    time.Time // when that was
	down     bool      // the level that counts
	restless bool      // an edge came less than Debounce ago
	since    time.Time // when it became restless
	chatter  bool      // restless for more than ChatterLimit
}

func (l *line) set(down bool, at time.Time) {
	*l = line{raw: down, down: down, moved: at}
}

func (l *line) edge(down bool, at time.Time) {
	l.raw, l.moved = down, at
	if !l.restless {
		l.restless, l.since = true, at
	}
}

// next returns when rest has something to decide; only asked while restless.
func (l *line) next() time.Time {
	settles := l.moved.Add(Debounce)
	if limit := l.since.Add(ChatterLimit); !l.chatter && limit.Before(settles) {
		return limit
	}
	return settles
}

// rest decides what was due at the time next named. A change that ends chatter
// is none: nobody knows how many presses it hides.
func (l *line) rest(due time.Time) (changed, chatter bool) {
	if due.Before(l.moved.Add(Debounce)) {
		l.chatter = true
		return false, true
	}
	changed = l.raw != l.down && !l.chatter
	l.down, l.restless, l.chatter = l.raw, false, false
	return changed, false
}
