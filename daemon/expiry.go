package daemon

import (
	"context"
	"slices"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// expiryEvery is how often it is looked whether somebody's time is up: what he has
// open ends within a second of his end.
const expiryEvery = 500 * time.Millisecond

// followLimits is the task that ends what is open of those whose time is up. Each
// request and each new tunnel is decided anew anyway; this is for what goes on.
func (d *Daemon) followLimits(ctx context.Context, ready func()) error {
	tick := time.NewTicker(expiryEvery)
	defer tick.Stop()
	ready()
	over := map[identity.Fingerprint]bool{} // who was refused when it was looked last
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			over = d.endWhatIsOver(over)
		}
	}
}

// endWhatIsOver closes the sessions of keys whose user may do nothing any more since
// it was looked last, and the tunnels that a grant was for. Who comes again is told why
// not, and so is not closed again.
func (d *Daemon) endWhatIsOver(before map[identity.Fingerprint]bool) map[identity.Fingerprint]bool {
	over := map[identity.Fingerprint]bool{}
	var ended []identity.Fingerprint
	for _, s := range d.server.Sessions() {
		if over[s.Peer] || !d.store.Over(s.Peer) {
			continue
		}
		over[s.Peer] = true
		if !before[s.Peer] && !d.guests.has(s.Peer) {
			ended = append(ended, s.Peer)
		}
	}
	if len(ended) > 0 {
		d.station.dismiss(ended)
		d.server.CloseSessions(func(s session.Info) bool { return slices.Contains(ended, s.Peer) })
	}
	if d.bridge.Counts().Total > 0 {
		d.recheckAll()
	}
	return over
}
