package basestation

import (
	"context"
	"net/netip"
	"time"
)

// After a restart a node tells the devices of its earlier run to come back, and
// spreads them so that it can serve them as they come.
const (
	// gentleRate is how many attaches a second are asked for as long as all are back
	// within gentleTime: a fifth of a core, and of 10,000 devices 4 % a second.
	gentleRate = 400
	gentleTime = 25 * time.Second
	// fullRate is what one core can do beside its other work, for more devices than
	// come back in gentleTime at the gentle rate.
	fullRate = 1500
	// noticeRounds: a notice may get lost, and one that comes twice does no harm.
	noticeRounds = 3
	noticePause  = 2 * time.Second
	// noticesAtOnce are sent in one turn of the loop, noticePace apart: 32,000 a
	// second, whose answers are spread.
	noticesAtOnce = 64
	noticePace    = 2 * time.Millisecond
)

// spreadFor is over how long so many devices are to come back.
func spreadFor(devices int) time.Duration {
	gentle := time.Duration(devices) * time.Second / gentleRate
	if gentle <= gentleTime {
		return gentle
	}
	return max(gentleTime, time.Duration(devices)*time.Second/fullRate)
}

// tellRestart sends the notices; it returns early when ctx ends.
func (s *Server) tellRestart(ctx context.Context) {
	known, err := s.peers.readOld()
	if err != nil {
		s.log.Warn("the devices of the run before are not known: they will come back later", "err", err)
		return
	}
	if len(known) > 0 {
		s.log.Info("telling the devices of the run before to come back", "devices", len(known), "within", spreadFor(len(known)))
	}
	notify(ctx, known, func(some []knownPeer, spread time.Duration) bool {
		return s.do(ctx, func(time.Duration) { s.hub.notices(some, spread, s.sendPacket) })
	})
	if ctx.Err() == nil {
		if err := s.peers.removeOld(); err != nil {
			s.log.Warn("the old peers file was not removed", "err", err)
		}
	}
}

// notify goes through the devices in rounds, some at a time.
func notify(ctx context.Context, known []knownPeer, send func([]knownPeer, time.Duration) bool) {
	spread := spreadFor(len(known))
	for range noticeRounds {
		for rest := known; len(rest) > 0; {
			some := rest[:min(noticesAtOnce, len(rest))]
			rest = rest[len(some):]
			if !send(some, spread) || !pause(ctx, noticePace) {
				return
			}
		}
		if len(known) == 0 || !pause(ctx, noticePause) {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// notices sends some notices.
func (h *hub) notices(some []knownPeer, spread time.Duration, send func(netip.AddrPort, []byte)) {
	for _, k := range some {
		send(k.at, h.node.RestartNotice(k.index, spread))
		h.metrics.notices.Inc()
	}
}
