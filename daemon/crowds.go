package daemon

import (
	"time"

	"github.com/keyholed/keyhole/internal/pace"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/tunnel"
)

// Strangers whom only a service that authenticates by itself lets ask have room and
// pace of their own, beyond the LAN as in tunnels: however many they are, whoever is
// listed, a guest or invited is as fast as without them, and who has shown a
// password is as fast as without those who guess.
const (
	// strangersIntroductions are in their first minute at once, strangersLegs the
	// relayed connections: a quarter of those of the list. One stranger has half, so
	// that two have to conspire against a third.
	strangersIntroductions     = 8
	strangersIntroductionsEach = strangersIntroductions / 2
	strangersLegs              = 16
	strangersLegsOfPeer        = strangersLegs / 2
	// strangersLegEvery paces their legs: a page with six connections at once, and
	// what a player needs.
	strangersLegEvery = time.Second
)

// A crowd is whom an introduction competes with.
type crowd struct {
	introductions, each        int // in their first minute, in all and of one key
	legs, legsEach, legsOfPeer int
	pace, legPace              pace.Pace
	eachPaced                  bool // keys have a pace each: they cannot be made at will
}

func newCrowds() (c [3]crowd) {
	c[tunnel.PlaceListed] = crowd{
		maxIntroductions, maxIntroductionsEach, maxLegs, maxLegsEach, maxLegsOfPeer,
		pace.New(allBurst, allEvery), pace.New(legBurst, legEvery), true,
	}
	c[tunnel.PlaceKnown] = crowd{
		strangersIntroductions, strangersIntroductionsEach, strangersLegs, strangersLegsOfPeer, strangersLegsOfPeer,
		pace.New(strangerBurst, strangerEvery), pace.New(strangersLegs, strangersLegEvery), true,
	}
	c[tunnel.PlaceStranger] = c[tunnel.PlaceKnown]
	c[tunnel.PlaceStranger].eachPaced = false
	return c
}

// placeOf says with whom a key competes that is neither listed nor a guest.
func (d *Daemon) placeOf(peer identity.Fingerprint) tunnel.Place {
	if d.tries.Knows(peer) {
		return tunnel.PlaceKnown
	}
	return tunnel.PlaceStranger
}

// askForApplication takes the introductions of anybody while a service is open to
// all. It is asked last: who may for a better reason does not wait among strangers.
var askForApplication = askCheck{
	name: "application",
	may: func(d *Daemon, _ *attach.Introduction, _ identity.Fingerprint) (string, bool) {
		return "a service authenticates by itself", d.openToAll()
	},
	anybody: true,
}

// dismissStrangers ends the introductions of those who may not ask any more, because
// nothing is open to all.
func (s *station) dismissStrangers() {
	if s == nil {
		return
	}
	s.open.mu.Lock()
	defer s.open.mu.Unlock()
	for i := range s.open.all {
		if i.place != tunnel.PlaceListed {
			s.open.endLocked(i)
		}
	}
}
