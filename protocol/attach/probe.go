package attach

import "time"

// When a second device proves the key of one that is attached, the first is
// asked whether it lives: three times in two seconds.
const (
	probeTries = 3
	probeTime  = 2 * time.Second
)

// A probe of the device that holds an id while another one wants it.
//
//	first answers      -> it stays; the second is told "duplicate"; an alarm
//	first stays silent -> the second takes its place: a restart
type probe struct {
	first uint64 // index of the one that is attached
	began time.Duration
	sent  int
	ping  uint16 // id of its PINGs
}

// tick reports whether a PING is to be sent now, and whether the time is over.
func (p *probe) tick(now time.Duration) (send, over bool) {
	since := now - p.began
	if since >= probeTime {
		return false, true
	}
	if p.sent < probeTries && since >= time.Duration(p.sent)*probeTime/probeTries {
		p.sent++
		return true, false
	}
	return false, false
}
