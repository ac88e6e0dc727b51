package daemon

import (
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// certifiedMayAsk lets strangers ask where an authority is configured, at the
// strangers' pace: a certificate does not fit into an introduction's 256 bytes of
// pass (a small one has 400, and a chain of them 1,200), and whoever met the device
// before is known again by certified.before. Who then comes without a certificate
// that holds has a session of a stranger and nothing more.
var certifiedMayAsk = askCheck{
	name: "authority",
	may: func(d *Daemon, _ *attach.Introduction, peer identity.Fingerprint) (why string, ok bool) {
		if d.certified.before(peer) {
			return "certified before", true
		}
		return "an authority is configured", d.certified.any()
	},
	anybody: true, // what he has cannot be looked at before there is a session
}
