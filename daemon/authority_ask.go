package daemon

import (
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// certifiedBefore lets those ask whom an authority certified to this device since it
// started, as if they were on the list.
var certifiedBefore = askCheck{
	name: "certified before",
	may: func(d *Daemon, _ *attach.Introduction, peer identity.Fingerprint) (why string, ok bool) {
		return "certified before", d.certified.before(peer)
	},
}

// askForAuthority lets strangers ask where an authority is configured, at the
// strangers' pace: a certificate does not fit into an introduction's 256 bytes of
// pass (a small one has 400, and a chain of them 1,200). Who then comes without a
// certificate that holds has a session of a stranger and nothing more.
var askForAuthority = askCheck{
	name: "authority",
	may: func(d *Daemon, _ *attach.Introduction, _ identity.Fingerprint) (why string, ok bool) {
		return "an authority is configured", d.certified.any()
	},
	anybody: true, // what he has cannot be looked at before there is a session
}
