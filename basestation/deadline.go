package basestation

import "time"

// deadlines is a queue of indices that all wait equally long, so that the oldest is
// always first.
type deadlines struct {
	waiting []deadline
	first   int
}

type deadline struct {
	at    time.Duration
	index uint64
}

func (d *deadlines) push(at time.Duration, index uint64) {
	if d.first > 0 && d.first >= len(d.waiting)/2 {
		d.waiting = append(d.waiting[:0], d.waiting[d.first:]...)
		d.first = 0
	}
	d.waiting = append(d.waiting, deadline{at, index})
}

func (d *deadlines) next() (time.Duration, bool) {
	if d.first == len(d.waiting) {
		return 0, false
	}
	return d.waiting[d.first].at, true
}

// pop returns the first index whose time has come.
func (d *deadlines) pop(now time.Duration) (uint64, bool) {
	if at, ok := d.next(); !ok || now < at {
		return 0, false
	}
	d.first++
	return d.waiting[d.first-1].index, true
}
