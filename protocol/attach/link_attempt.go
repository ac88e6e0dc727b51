package attach

import "time"

// tickAttempt does what the attempt under way has to do now.
func (l *Link) tickAttempt(now time.Duration) {
	switch l.stage {
	case StateWaiting:
		l.begin(now)
	case StateLocating:
		if l.again(now, maxTries) {
			l.sendLocate(now)
			return
		}
		l.fail(now, l.lastErr, 0)
	case StateGreeting:
		limit := maxTries
		if l.remembered {
			limit = rememberedTries
		}
		if l.again(now, limit) {
			l.ask(now, l.node, l.packet)
			return
		}
		if l.remembered {
			l.locate(now)
			return
		}
		l.fail(now, ErrSilent, 0)
	case StateAttaching:
		if l.pushControl(now, l.next) || l.next.controlAt == 0 {
			// Unanswered; or acknowledged without an answer for so long.
			l.fail(now, ErrSilent, 0)
			return
		}
		l.due = l.next.controlAt
	}
}

// again counts a try and plans the next; false when there were enough.
func (l *Link) again(now time.Duration, limit int) bool {
	if l.tries == limit {
		return false
	}
	l.due = now + waitAfter(l.tries)
	l.tries++
	return true
}

// begin starts an attempt: with the remembered node if there is one.
func (l *Link) begin(now time.Duration) {
	l.next, l.retries, l.remembered = nil, 0, false
	if l.basestations != nil {
		l.c.Basestations, l.basestations, l.controller = l.basestations, nil, 0
	}
	var c cookie
	if len(l.known.Cookie) == cookieSize {
		if certificate, err := checkCertificate(l.roots, l.known.Certificate); err == nil {
			copy(c[:], l.known.Cookie)
			l.remembered = true
			l.greet(now, certificate, c)
			return
		}
	}
	l.locate(now)
}

func (l *Link) locate(now time.Duration) {
	l.known = Known{}
	l.remembered, l.lastErr = false, ErrSilent
	l.nonce = l.random() &^ 0xff
	l.enter(now, StateLocating)
}

// sendLocate asks one controller after the other, so that one that is gone costs a
// quarter of a second. The last byte of the nonce says which one answers.
func (l *Link) sendLocate(now time.Duration) {
	count := len(l.c.Basestations)
	asked := (l.controller + l.tries - 1) % count
	packet := locate{l.nonce&^0xff | uint64(asked), l.prefix}.append(make([]byte, 0, locateSize))
	l.ask(now, l.c.Basestations[asked], packet)
}

func (l *Link) enter(now time.Duration, s State) {
	l.stage, l.tries, l.due = s, 0, now
	l.tickAttempt(now)
}

func (l *Link) receiveLocated(now time.Duration, packet []byte) bool {
	p, err := parseLocated(packet)
	if err == nil && l.probe != 0 && p.nonce == l.probe {
		l.probe = 0
		return true
	}
	if err != nil || l.stage != StateLocating || p.nonce&^0xff != l.nonce {
		return false
	}
	certificate, err := checkCertificate(l.roots, p.certificate)
	if err != nil {
		l.lastErr = err // said if nothing better comes
		return false
	}
	l.waiting = false
	l.controller = int(p.nonce&0xff) % len(l.c.Basestations)
	l.known = Known{append([]byte(nil), p.certificate...), append([]byte(nil), p.cookie[:]...)}
	l.greet(now, certificate, p.cookie)
	return true
}

func (l *Link) greet(now time.Duration, certificate Certificate, c cookie) {
	l.certificate = certificate
	l.node = certificate.Address(l.c.Basestations[l.controller].Addr())
	l.hello(now, c)
}

// hello begins a handshake with a new ephemeral key.
func (l *Link) hello(now time.Duration, c cookie) {
	l.cookie, l.index = c, l.random()
	packet, state, err := greet(l.c.Random, l.certificate.Key, hello{version: version, index: l.index, cookie: c})
	if err != nil {
		l.fail(now, err, 0)
		return
	}
	l.packet, l.handshake = packet, state
	l.enter(now, StateGreeting)
}

func (l *Link) receiveRetry(now time.Duration, packet []byte) bool {
	p, err := parseRetry(packet)
	if err != nil || l.stage != StateGreeting || p.index != l.index {
		return false
	}
	l.waiting = false
	if p.version != version {
		l.fail(now, ErrVersion, 0)
		return true
	}
	if l.retries++; l.retries > maxRetries {
		return true
	}
	l.known.Cookie = append([]byte(nil), p.cookie[:]...)
	l.hello(now, p.cookie)
	return true
}

func (l *Link) receiveWelcome(now time.Duration, packet []byte) bool {
	p, err := parseWelcome(packet)
	if err != nil || l.stage != StateGreeting || p.index != l.index {
		return false
	}
	k, peer, err := welcomed(l.handshake, p.noise)
	if err != nil {
		return false // forged: the real one may still come
	}
	l.waiting = false
	l.handshake, l.packet = nil, nil
	l.next = newSession(k, l.index, peer, l.node, l.certificate)
	l.next.heard = now - aliveTime // WELCOME says nothing about what is sent from here on
	if err := l.prove(now); err != nil {
		l.fail(now, err, 0)
		return true
	}
	l.enter(now, StateAttaching)
	return true
}

// prove queues the first message of a session.
func (l *Link) prove(now time.Duration) error {
	kind, v := KindIntroduce, any(nil)
	if l.c.Find != nil {
		kind, v = KindFind, l.c.Find
	} else if l.c.Introduce != nil {
		i, err := proveClient(l.c.Key, l.next.hash, *l.c.Introduce)
		if err != nil {
			return err
		}
		v = i
	} else {
		a, err := proveDevice(l.c.Key, l.next.hash, l.c.Factory)
		if err != nil {
			return err
		}
		a.Firmware, a.Boots, a.Interval = l.c.Firmware, l.c.Boots, uint16((l.keep.interval()+answerGrace)/time.Second)
		if l.replaces {
			a.Previous = l.previous[:]
		}
		kind, v = KindAttach, a
	}
	body, err := Encode(v)
	if err != nil {
		return err
	}
	return l.next.sender.add(now, kind, body)
}

// fail ends an attempt; the next one asks the next controller, not before wait.
func (l *Link) fail(now time.Duration, err error, wait time.Duration) {
	l.next, l.handshake, l.packet = nil, nil, nil
	l.controller = (l.controller + 1) % len(l.c.Basestations)
	l.stage, l.due = StateWaiting, now+max(wait, l.backoff.fail(l.fraction))
	l.event(LinkEvent{Err: err})
}

// attached makes the next session the live one.
func (l *Link) attached(now time.Duration, a Attached) {
	if old := l.live; old != nil {
		l.transmit(now, old, []byte{frameClose, byte(CloseMoved)})
	}
	s := l.next
	if len(a.Token) == tokenSize {
		copy(s.token[:], a.Token)
		s.hasToken, l.previous, l.replaces = true, s.token, true
	}
	l.live, l.next, l.stage = s, nil, StateAttached
	l.backoff.reset()
	l.renewAt = now + renewAfter - time.Duration(l.fraction()*float64(renewAfter/8))
	l.event(LinkEvent{Controller: l.c.Basestations[l.controller], Observed: a.Observed.AddrPort, Unix: a.Unix})
	l.pingLater(now)
}

// relocate begins an attempt beside the live link, which asks a controller anew.
func (l *Link) relocate(now, wait time.Duration) {
	l.known = Known{}
	if l.stage == StateAttached {
		l.stage, l.due = StateWaiting, now+wait
	}
}
