package daemon

import (
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/tunnel"
)

// An askCheck looks at an introduction of a key that is neither on the list nor a
// guest, and says whether, and why, it may ask all the same. The signature has not
// been checked: peer is who the introduction says it is from, and the check must
// leave nothing behind that a forger could want. That comes with admit.
type askCheck struct {
	name string
	may  func(d *Daemon, in *attach.Introduction, peer identity.Fingerprint) (why string, ok bool)
	// admit is told once the signature is good, before the answer; nil: nothing to do.
	// Its error makes the answer a no.
	admit func(d *Daemon, in *attach.Introduction, peer identity.Fingerprint) error
	// glance says, for next to nothing, that the introduction names what strangers do
	// not know. Such ones have a pace of their own, or a flood of others would keep out
	// who was invited. nil: never.
	glance func(d *Daemon, in *attach.Introduction, peer identity.Fingerprint) bool
	// anybody says that the check asks for nothing that is hard to come by.
	anybody bool
}

// askChecks are asked in this order; the first that says yes decides.
func askChecks() []askCheck {
	return []askCheck{inviteCheck, centralCheck, certifiedBefore, supportAsk, askForApplication, askForAuthority}
}

// competes says among whom an introduction waits for its turn.
func (d *Daemon) competes(in *attach.Introduction, peer identity.Fingerprint) tunnel.Place {
	for _, check := range d.asks {
		if check.glance != nil && check.glance(d, in, peer) {
			return tunnel.PlaceKnown
		}
	}
	return d.placeOf(peer)
}

// mayAsk says whether an introduction is worth an answer, and why: the asker is on
// the list, a guest who is here now, or one of askChecks takes him.
func (d *Daemon) mayAsk(in *attach.Introduction, peer identity.Fingerprint) (why string, admit askCheck, ok bool) {
	if d.store.Known(peer) {
		return "paired", askCheck{}, true
	}
	if d.guests.has(peer) {
		if why, ok := d.mayAskByGrant(in, peer); ok {
			return why, centralCheck, true // a grant for the next hour
		}
		return "guest", askCheck{}, true
	}
	for _, check := range d.asks {
		if why, ok := check.may(d, in, peer); ok {
			return why, check, true
		}
	}
	return "", askCheck{}, false
}
