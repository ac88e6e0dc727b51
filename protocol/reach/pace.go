package reach

import "time"

// perSecond is what all punching of one socket sends on its own account.
const perSecond = 10

// A pace lets perSecond things happen in any second.
type pace struct {
	times [perSecond]time.Time // a ring; the oldest is at next
	next  int
}

// free is how many may happen now.
func (p *pace) free(now time.Time) (n int) {
	for _, at := range p.times {
		if now.Sub(at) >= time.Second {
			n++
		}
	}
	return n
}

// take returns 0 and counts one, or returns how long to wait.
func (p *pace) take(now time.Time) time.Duration {
	if oldest := p.times[p.next]; !oldest.IsZero() {
		if wait := oldest.Add(time.Second).Sub(now); wait > 0 {
			return wait
		}
	}
	p.times[p.next] = now
	p.next = (p.next + 1) % perSecond
	return 0
}
