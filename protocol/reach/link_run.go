package reach

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
)

// Run keeps the link until ctx ends, then says goodbye to the node, waits for what it
// started and returns nil. It may be called once.
func (l *Link) Run(ctx context.Context) error {
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer running.Wait()
	defer cancel()
	l.mu.Lock()
	l.running, l.ctx = &running, ctx
	l.mu.Unlock()
	close(l.ready)
	running.Go(func() { l.resolve(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			l.goodbye()
			return nil
		case a := <-l.packets:
			l.receive(a)
		case <-l.wake:
		case <-timer.C:
		}
		timer.Reset(l.tick())
		l.callBack()
	}
}

func (l *Link) goodbye() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.link != nil {
		l.link.Close(l.nowLocked())
	}
	l.running = nil
	for _, s := range l.streams {
		s.finish()
	}
	l.setLocked(Status{State: attach.StateClosed, Err: errStopped})
}

func (l *Link) receive(a arrived) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.link == nil {
		return
	}
	now := l.nowLocked()
	since, waiting := l.link.Waiting()
	late := l.ways.late(now, since, waiting)
	back := l.ways.arrive(a.way, late)
	if !l.link.Receive(now, a.packet) {
		l.ways.way = back
		return
	}
	l.ways.answered(now, a.way, late)
	if l.ways.way == back {
		return
	}
	l.log.Info("link to the basestation goes another way", "over", a.way)
	if a.way == overTCP {
		l.ways.fall(now)
		return
	}
	l.link.Check(now) // what answered was perhaps a question beside the link
}

// tick does what is due and returns how long nothing will be.
func (l *Link) tick() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.link == nil {
		return time.Hour // until a name is resolved
	}
	now := l.nowLocked()
	wake := l.link.Tick(now)
	node, keyed := l.link.Peer()
	if since, waiting := l.link.Waiting(); waiting && keyed {
		wake = min(wake, l.turnLocked(now, since, node))
	} else if waiting {
		wake = min(wake, l.widenLocked(now, since))
	}
	if l.ways.way == overTCP && l.link.State() == attach.StateAttached {
		if l.ways.look(now) {
			l.toUDPLocked(node, l.link.Probe())
		}
		wake = min(wake, l.ways.lookAt)
	}
	l.tidyLocked(now)
	l.reportLocked()
	return max(wake-now, 0)
}

// widenLocked sends what opens a link both ways as soon as UDP has had its time, and
// does not wait until it is sent again.
func (l *Link) widenLocked(now, since time.Duration) time.Duration {
	at := since + udpPatience
	if now >= at && l.widened != since {
		l.widened = since
		l.link.Again(now)
	}
	if now >= at || l.ways.knownBlocked() {
		return now + udpPatience
	}
	return at
}

// turnLocked tries the other way when this one is silent.
func (l *Link) turnLocked(now, since time.Duration, node netip.AddrPort) time.Duration {
	s := l.streams[node]
	next, m := l.ways.tick(now, since, s != nil && s.up && !s.dead)
	switch m {
	case open:
		l.streamLocked(node)
	case turned:
		if l.ways.way == overUDP && s != nil {
			s.cut() // as good as dead: the next turn dials anew
		}
		l.link.Again(now)
	}
	return next
}

// callBack calls Event and Message, outside of the lock.
func (l *Link) callBack() {
	l.mu.Lock()
	calls := l.calls
	l.calls = nil
	l.mu.Unlock()
	for _, call := range calls {
		call()
	}
}

// linkConfig is that of the link itself. Its functions are called with mu held.
func (l *Link) linkConfig(controllers []netip.AddrPort) attach.LinkConfig {
	return attach.LinkConfig{
		Key: l.c.Key, Roots: l.c.Roots, Basestations: controllers, Factory: l.c.Factory, Introduce: l.c.Introduce, Find: l.c.Find,
		Firmware: l.c.Firmware, Boots: l.c.Boots, Known: l.c.Known,
		Send: l.sendLocked, Event: l.eventLocked,
		Message: func(k attach.Kind, body []byte) {
			if l.c.Message != nil {
				l.calls = append(l.calls, func() { l.c.Message(k, body) })
			}
		},
	}
}

func (l *Link) eventLocked(e attach.LinkEvent) {
	switch {
	case e.Err != nil && e.State != attach.StateAttached:
		l.log.Debug("link to the basestation", "state", e.State, "error", e.Err)
		l.status.Err = e.Err
		poke(l.looking) // perhaps its name means another address by now
	case e.Controller.IsValid():
		l.status.Err = nil
		l.goodLocked(e.Controller)
	}
	if e.Observed.IsValid() {
		l.status.Observed = e.Observed // and none in TCP, see reportLocked
	}
	if l.c.Event != nil {
		l.calls = append(l.calls, func() { l.c.Event(e) })
	}
}

// sendLocked hands a packet to the way, or the ways, that it is to go.
func (l *Link) sendLocked(to netip.AddrPort, packet []byte) {
	var since time.Duration
	var waiting bool
	if l.link != nil {
		since, waiting = l.link.Waiting()
	}
	udp, tcp := l.ways.choose(l.nowLocked(), since, waiting, attach.Opens(packet))
	if udp {
		l.toUDPLocked(to, packet)
	}
	if tcp {
		if s := l.streamLocked(to); s != nil {
			s.send(packet)
		}
	}
}

func (l *Link) toUDPLocked(to netip.AddrPort, packet []byte) {
	if err := l.c.Packets.WriteTo(packet, to); err != nil {
		l.log.Debug("send to the basestation", "to", to, "error", err)
	}
}

// reportLocked brings the status up to date.
func (l *Link) reportLocked() {
	s := l.status
	s.State, s.Node, s.Over = l.link.State(), netip.AddrPort{}, ""
	if s.State == attach.StateAttached {
		s.Node, _ = l.link.Peer()
		s.Over = l.ways.way.String()
		if l.ways.way == overTCP {
			s.Observed = netip.AddrPort{}
		}
	}
	l.setLocked(s)
}

func (l *Link) setLocked(s Status) {
	attached := s.State == attach.StateAttached
	s.Since, s.Address = l.status.Since, l.status.Address
	if attached != l.attached {
		l.attached, s.Since = attached, time.Now()
		l.log.Info("basestation", "state", s.State, "node", s.Node, "over", s.Over)
	}
	l.status = s
}
