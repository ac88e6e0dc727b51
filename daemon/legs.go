package daemon

import (
	"io"
	"slices"

	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/tunnel"
)

// A relayLeg is a place for a relayed connection.
type relayLeg struct {
	*introduction

	// Guarded by introductions.mu.
	cut  bool
	conn io.Closer // nil until it is open
}

// leg takes a place for a relayed connection, to be given back by legOver.
func (t *introductions) leg(request uint64) (*relayLeg, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweepLocked(t.now())
	i := t.open[request]
	if i == nil {
		return nil, errNotOpen
	}
	c := &t.crowds[i.place]
	mine, full := t.legsOfLocked(i.peer, i.place), t.legsInLocked(i.place) >= c.legs
	switch {
	case i.legs >= c.legsEach:
		return nil, errTooManyLeg
	case !c.legPace.AllowAt(t.now()):
		return nil, errTooFast
	case mine < c.legsOfPeer && !full:
	case i.legs > 0 || !t.cutLegLocked(i.peer, i.place, mine):
		return nil, errTooManyLeg
	}
	l := &relayLeg{introduction: i}
	i.legs++
	t.legs = append(t.legs, l)
	return l, nil
}

// cutLegLocked makes room for the first leg of an introduction of a peer, who has
// that many: his own oldest leg goes when he has all that one may have, else the
// oldest of whoever has most, if that is more than he would then have. Only those of
// his own crowd are looked at.
func (t *introductions) cutLegLocked(peer identity.Fingerprint, place tunnel.Place, his int) bool {
	if his < t.crowds[place].legsOfPeer {
		most := his + 1
		for _, l := range t.legs {
			if l.place != place {
				continue
			}
			if n := t.legsOfLocked(l.peer, place); n > most {
				peer, most = l.peer, n
			}
		}
		if most == his+1 {
			return false
		}
	}
	for _, l := range t.legs {
		if l.peer == peer && l.place == place {
			t.removeLegLocked(l)
			l.cut = true
			if l.conn != nil {
				_ = l.conn.Close() // and its session ends
			}
			return true
		}
	}
	return false
}

// legOpen says that the place is taken by a connection; false: the place is gone
// already.
func (t *introductions) legOpen(l *relayLeg, conn io.Closer) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.conn = conn
	return !l.cut
}

func (t *introductions) legOver(l *relayLeg) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLegLocked(l)
	t.sweepLocked(t.now())
}

func (t *introductions) removeLegLocked(l *relayLeg) {
	if at := slices.Index(t.legs, l); at >= 0 {
		t.legs = slices.Delete(t.legs, at, at+1)
		l.legs--
	}
}

func (t *introductions) legsInLocked(place tunnel.Place) int {
	n := 0
	for _, l := range t.legs {
		if l.place == place {
			n++
		}
	}
	return n
}

func (t *introductions) legsOfLocked(peer identity.Fingerprint, place tunnel.Place) int {
	n := 0
	for _, l := range t.legs {
		if l.peer == peer && l.place == place {
			n++
		}
	}
	return n
}
