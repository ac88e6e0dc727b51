package session

import (
	"slices"
	"sync"
)

// door counts the connections whose handshake is not finished. When all places
// are taken the oldest of the busiest source makes room, so that a flood from
// one place pushes itself out and not the owner.
type door struct {
	limit int

	mu      sync.Mutex
	waiting []*visitor // oldest first; short, so it is searched
}

// A visitor is a connection in its handshake.
type visitor struct {
	from   source
	cut    func() // nil where it cannot be evicted (QUIC)
	inside bool   // guarded by door.mu: still counted
}

func newDoor(limit int) *door { return &door{limit: limit} }

// enter counts v, evicting another if need be, and reports whether there is room.
func (d *door) enter(v *visitor) bool {
	d.mu.Lock()
	if v.cut == nil && !d.roomForQUICLocked(v.from) {
		d.mu.Unlock()
		return false
	}
	var out *visitor
	if len(d.waiting) >= d.limit {
		if out = d.oldestOfBusiestLocked(); out == nil {
			d.mu.Unlock()
			return false
		}
		d.removeLocked(out)
	}
	v.inside = true
	d.waiting = append(d.waiting, v)
	d.mu.Unlock()
	if out != nil {
		out.cut()
	}
	return true
}

// leave stops counting v and reports whether it was still counted: false means
// that it was evicted meanwhile.
func (d *door) leave(v *visitor) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	was := v.inside
	if was {
		d.removeLocked(v)
	}
	return was
}

func (d *door) roomForQUICLocked(from source) bool {
	all, same := 0, 0
	for _, w := range d.waiting {
		if w.cut == nil {
			all++
			if w.from == from {
				same++
			}
		}
	}
	return all < max(1, d.limit/quicShare) && same < max(1, d.limit/quicSourceShare)
}

func (d *door) oldestOfBusiestLocked() *visitor {
	counts := make(map[source]int)
	for _, w := range d.waiting {
		counts[w.from]++
	}
	var out *visitor
	for _, w := range d.waiting { // oldest first: on a tie the older one goes
		if w.cut != nil && (out == nil || counts[w.from] > counts[out.from]) {
			out = w
		}
	}
	return out
}

func (d *door) removeLocked(v *visitor) {
	for i, w := range d.waiting {
		if w == v {
			d.waiting = append(d.waiting[:i], d.waiting[i+1:]...)
			break
		}
	}
	v.inside = false
}

// evictAll cuts every visitor that can be cut.
func (d *door) evictAll() {
	d.mu.Lock()
	all := slices.Clone(d.waiting)
	d.mu.Unlock()
	for _, v := range all {
		if v.cut != nil && d.leave(v) {
			v.cut()
		}
	}
}

func (d *door) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.waiting)
}
