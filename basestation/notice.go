package basestation

import "time"

// After a restart a node tells the devices of its earlier run to come back, and
// spreads them so that it can serve them as they come.
const (
	// gentleRate is how many attaches a second are asked for as long as all are back
	// within gentleTime: a fifth of a core, and of 10,000 devices 4 % a second.
	gentleRate = 410
	gentleTime = 25 * time.Second
	// fullRate is what one core can do beside its other work, for more devices than
	// come back in gentleTime at the gentle rate.
	fullRate = 1500
	// noticeRounds: a notice may get lost, and one that comes twice does no harm.
	noticeRounds = 3
	noticePause  = 2 * time.Second
	// noticesAtOnce are sent in one turn of attach.TickEvery: 20,000 a second, whose
	// answers are spread.
	noticesAtOnce = 2000
)

// spreadFor is over how long so many devices are to come back.
func spreadFor(devices int) time.Duration {
	gentle := time.Duration(devices) * time.Second / gentleRate
	if gentle <= gentleTime {
		return gentle
	}
	return max(gentleTime, time.Duration(devices)*time.Second/fullRate)
}

// A recall is the devices of an earlier run that are being told.
type recall struct {
	known []knownPeer
	next  int
	round int
	at    time.Duration // when the round goes on
	done  func()        // called once all were told
}

// callBack sends the next notices.
func (h *hub) callBack(now time.Duration) {
	r := &h.recall
	if r.done == nil || now < r.at {
		return
	}
	spread := spreadFor(len(r.known))
	for range noticesAtOnce {
		if r.next == len(r.known) {
			r.next, r.at = 0, now+noticePause
			if r.round++; r.round == noticeRounds {
				r.done()
				h.recall = recall{}
			}
			return
		}
		k := r.known[r.next]
		r.next++
		h.out(k.at, h.node.RestartNotice(k.index, spread))
		h.metrics.notices.Inc()
	}
}

// tellRestart has the devices of earlier runs told.
func (s *Server) tellRestart() {
	known, err := s.peers.readOld()
	if err != nil {
		s.log.Warn("the devices of the run before are not known: they will come back later", "err", err)
		return
	}
	if len(known) > 0 {
		s.log.Info("telling the devices of the run before to come back", "devices", len(known), "within", spreadFor(len(known)))
	}
	s.toldPeers = len(known)
	s.post(func(time.Duration) { s.hub.recall = recall{known: known, done: s.peers.removeOld} })
}
