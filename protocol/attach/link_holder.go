package attach

import (
	"net/netip"
	"slices"
	"time"
)

// What the holder of a link needs to choose among ways to the basestation, UDP and
// TCP, and among basestations.

// Waiting returns since when a packet waits for its answer; ok is false when none
// does. A keep-alive is asked to be answered late, and does not count until then.
func (l *Link) Waiting() (since time.Duration, ok bool) { return l.asked, l.waiting }

// ask sends a packet that is to be answered at once.
func (l *Link) ask(now time.Duration, to netip.AddrPort, packet []byte) {
	if !l.waiting {
		l.asked, l.waiting = now, true
	}
	l.c.Send(to, packet)
}

// Again sends at once, once more, what waits for an answer: for a way that has just
// opened.
func (l *Link) Again(now time.Duration) {
	if !l.waiting || l.stage == StateClosed {
		return
	}
	switch l.stage {
	case StateLocating, StateGreeting:
		l.tries = max(l.tries-1, 0)
		l.tickAttempt(now)
	case StateAttaching:
		l.next.sender.again(now)
		l.pushControl(now, l.next)
	}
	if s := l.live; s != nil {
		s.sender.again(now)
		l.pushControl(now, s)
		if s.tries > 0 {
			l.ping(now, s.tries-1)
		}
	}
}

// SetBasestations replaces the controllers, best first, for the attempts to come:
// the first 16 of them. An attempt that looks for a node asks new ones too, after
// those that it knew. An empty list changes nothing.
func (l *Link) SetBasestations(controllers []netip.AddrPort) {
	if len(controllers) == 0 {
		return
	}
	if l.stage == StateLocating {
		// At the end, since an answer under way names its controller by the place.
		known := slices.Clone(l.c.Basestations)
		for _, c := range controllers {
			if !slices.Contains(known, c) && len(known) < maxBasestations {
				known = append(known, c)
			}
		}
		l.c.Basestations = known
	}
	l.basestations = append([]netip.AddrPort(nil), controllers[:min(len(controllers), maxBasestations)]...)
}

// Check asks the node at once whether a live link is one.
func (l *Link) Check(now time.Duration) {
	if l.live != nil && l.stage != StateClosed {
		l.ping(now, 0)
	}
}

// Peer returns where packets under a key go: the node, once there is a key.
func (l *Link) Peer() (node netip.AddrPort, ok bool) {
	for _, s := range []*session{l.live, l.next} {
		if s != nil {
			return s.node, true
		}
	}
	return node, false
}

// Node returns the certificate of the node to which the link is attached.
func (l *Link) Node() (c Certificate, ok bool) {
	if l.live == nil {
		return c, false
	}
	return l.live.certificate, true
}

// Probe returns a LOCATE that asks whether there is another way to the basestation:
// send it there, and when Receive calls an answer genuine that came that way, it is open.
func (l *Link) Probe() []byte {
	l.probe = l.random() | 1
	return locate{l.probe, l.prefix}.append(make([]byte, 0, locateSize))
}
