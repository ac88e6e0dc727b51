package attach

import "time"

// answerWait is how long a node may think about an ATTACH that it has
// acknowledged: probing another device takes 2 s, asking a vendor's service more.
const answerWait = 20 * time.Second

// tickLive keeps the live link alive and its control messages moving.
func (l *Link) tickLive(now time.Duration) {
	s := l.live
	if s.controlAt != 0 && now >= s.controlAt && l.pushControl(now, s) {
		l.lost(now, CloseSilent, l.backoff.fail(l.fraction))
		return
	}
	if now >= s.beatAt {
		if s.tries == maxTries {
			l.lost(now, CloseSilent, l.backoff.fail(l.fraction))
			return
		}
		s.late = s.late || s.tries == 0
		l.ping(now, s.tries)
	}
	if l.stage == StateAttached && (now >= l.renewAt || s.worn()) {
		l.stage, l.due = StateWaiting, now
	}
}

// ping asks for an answer at once, as the n-th in a row.
func (l *Link) ping(now time.Duration, n int) {
	s := l.live
	s.tries = n + 1
	if !l.waiting {
		l.asked, l.waiting = now, true
	}
	l.sendBeat(now, 0)
	s.beatAt = now + waitAfter(n)
}

// pingLater asks for an answer after the interval: the usual keep-alive.
func (l *Link) pingLater(now time.Duration) {
	l.live.tries, l.live.late = 0, false
	l.sendBeat(now, l.keep.interval())
	l.live.beatAt = now + l.keep.interval() + answerGrace
}

func (l *Link) sendBeat(now, delay time.Duration) {
	s := l.live
	within := l.keep.interval() + answerGrace
	s.beat = beat{s.beat.id + 1, uint16(delay / time.Second), uint16(within / time.Second)}
	l.transmit(now, s, s.beat.append(nil, framePing))
}

func (l *Link) receiveSealed(now time.Duration, packet []byte) bool {
	h, err := parseHead(kindFromNode, packet)
	if err != nil {
		return false
	}
	for _, s := range []*session{l.live, l.next} {
		if s == nil || s.index != h.index {
			continue
		}
		frame := s.open(h, packet)
		if frame == nil {
			return false
		}
		silence := now - s.traffic
		s.traffic, s.heard = now, now
		l.waiting = false
		s.tries = min(s.tries, 1) // whoever is heard is not silent, whichever answer got lost
		l.receiveFrame(now, s, frame, silence)
		return true
	}
	return false
}

func (l *Link) receiveFrame(now time.Duration, s *session, frame []byte, silence time.Duration) {
	switch frame[0] {
	case framePing:
		// The node looks whether we are (still) here.
		if p, err := parseBeat(frame); err == nil {
			l.transmit(now, s, p.append(nil, framePong))
		}
	case framePong:
		if p, err := parseBeat(frame); err == nil && s == l.live && p == s.beat {
			l.answered(now, silence)
		}
	case frameControl:
		if c, err := parseControl(frame); err == nil {
			l.receiveControl(now, s, c)
		}
	case frameAck:
		if a, err := parseAck(frame); err == nil {
			l.acknowledged(now, s, a)
		}
	case frameClose:
		why, err := parseClose(frame)
		if err == nil && s == l.live {
			l.lost(now, why, l.backoff.fail(l.fraction))
		} else if err == nil {
			l.fail(now, &LostError{why}, 0)
		}
	}
}

// answered takes the PONG that was waited for.
func (l *Link) answered(now, silence time.Duration) {
	before := l.keep.interval()
	switch s := l.live; {
	case s.tries == 0:
		l.keep.survived(now, silence)
	case s.late:
		l.keep.closed(now)
	}
	if l.keep.interval() > before {
		// The node must know of the longer silence before it comes: were the one
		// packet that tells it lost, it would count us as gone.
		l.live.late = false
		l.ping(now, 0)
		return
	}
	l.pingLater(now)
}

func (l *Link) acknowledged(now time.Duration, s *session, a ack) {
	if !s.sender.acknowledged(a) {
		return
	}
	s.controlAt = 0
	if s != l.next {
		return
	}
	if l.c.client() {
		l.attached(now, Attached{}) // a client is done when its question has arrived
		return
	}
	// The node has our proof and thinks: it may have to ask, or to probe.
	l.due = now + answerWait
}

func (l *Link) receiveControl(now time.Duration, s *session, c control) {
	if s == l.next && c.kind >= firstOwned {
		if !l.c.client() {
			return // it has overtaken ATTACHED: not taken, so it comes again
		}
		l.attached(now, Attached{}) // it has overtaken the word that our question arrived
	}
	fresh, acknowledge := s.receiver.take(c.number)
	if acknowledge {
		l.transmit(now, s, s.receiver.ack().append(nil))
	}
	if !fresh {
		return
	}
	switch {
	case c.kind == KindAttached && s == l.next:
		var a Attached
		if Decode(c.body, &a) == nil && len(a.Token) == tokenSize {
			l.attached(now, a)
		}
	case c.kind == KindRefused:
		var r Refused
		if Decode(c.body, &r) == nil {
			l.refused(now, s, r)
		}
	case c.kind == KindObserved:
		var o Observed
		if Decode(c.body, &o) == nil {
			l.event(LinkEvent{Observed: o.Address.AddrPort})
		}
	case c.kind == KindRelocate && s == l.live:
		var r Relocate
		if Decode(c.body, &r) == nil {
			l.relocate(now, time.Duration(l.fraction()*float64(r.Spread))*time.Second)
		}
	case l.c.Message != nil && c.kind >= firstOwned:
		l.c.Message(c.kind, c.body)
	}
}

func (l *Link) refused(now time.Duration, s *session, r Refused) {
	wait := time.Duration(r.After) * time.Second
	if r.Code == CodeDuplicate {
		wait = max(wait, duplicateWait)
	}
	if s == l.live {
		l.live = nil
	}
	l.fail(now, &RefusedError{r.Code}, wait)
}
