package basestation

import (
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

const (
	// relocateSpread is over how long devices move to a node that joined. It is
	// told to each, and they are told one after the other within sweepTurns: all
	// have moved within a minute.
	relocateSpread = 50 * time.Second
	// sweepTurns is in how many turns all devices are looked at, a turn being
	// attach.TickEvery: 8 s.
	sweepTurns = 80
	// leastTurn is how many are looked at in one turn at least.
	leastTurn = 256

	// ghostTime is how long a device may be here though another node says that it
	// attached there: as long as it takes to notice that a link is silent, with the
	// longest interval between keep-alives. Who is still here then is a second device.
	ghostTime = 2*115*time.Second + 20*time.Second
	// maxElsewhere bounds how many such devices are remembered.
	maxElsewhere = 1 << 14
	// maxNews is how many attaches are told to the other nodes in one message.
	maxNews = 256
)

// A sweep goes through the roster a part at a time.
type sweep struct {
	under  bool // way
	next   int  // slot
	spread time.Duration
}

// rearrange begins to ask devices that belong to another node to move.
func (h *hub) rearrange(spread time.Duration) {
	h.sweep = sweep{under: true, spread: spread}
}

// relocate looks at the next devices of a sweep.
func (h *hub) relocate(now time.Duration) {
	if !h.sweep.under {
		return
	}
	all := len(h.roster.entries)
	for range max(all/sweepTurns, leastTurn) {
		if h.sweep.next >= all {
			h.sweep.under = false
			return
		}
		e := h.roster.entries[h.sweep.next]
		h.sweep.next++
		if !e.here || h.mine(e.prefix) {
			continue
		}
		m := attach.Relocate{Spread: uint16(h.sweep.spread / time.Second)}
		if h.tell(now, e.index, attach.KindRelocate, m) == nil {
			h.metrics.relocated.Inc()
		}
	}
}

// An absence is a device that attached to another node while it is attached here:
// the word that it left is on its way or got lost, or there are two.
type absence struct {
	node  string
	index uint64 // of its attach here
	since time.Duration
}

// newsOf takes the word of another node about devices that attached there.
func (h *hub) newsOf(now time.Duration, node string, devices []identity.Fingerprint) {
	for _, f := range devices {
		if p, ok := h.node.Device(f); ok && len(h.elsewhere) < maxElsewhere {
			h.elsewhere[f] = absence{node, p.Index, now}
		}
	}
}

// tellNews tells the other nodes who attached here.
func (h *hub) tellNews() {
	for len(h.news) > 0 {
		some := h.news[:min(len(h.news), maxNews)]
		h.tellAll(&nodeMessage{Attached: append([]identity.Fingerprint(nil), some...)})
		h.news = h.news[len(some):]
	}
	h.news = nil
}

// watchTwins looks at the devices that are at two nodes.
func (h *hub) watchTwins(now time.Duration) {
	for f, a := range h.elsewhere {
		p, ok := h.node.Device(f)
		switch {
		case !ok || p.Index != a.index:
			delete(h.elsewhere, f)
		case now >= a.since+ghostTime:
			delete(h.elsewhere, f)
			h.twin(p, a.node)
		}
	}
}
