package acl

// Kinds of line that change no permission themselves. They are recorded by
// whoever sees them happen (Store.Record); event.go has the others.
const (
	WhatSessionStarted What = "session started"
	WhatSessionEnded   What = "session ended"
	WhatTunnelStarted  What = "tunnel started" // of media only: somebody begins to watch
	WhatTunnelEnded    What = "tunnel ended"
	WhatSessionsCut    What = "session cut" // somebody ended another's

	WhatRefused       What = "refused"         // a paired user, a guest or a stranger was told no
	WhatTryFailed     What = "password failed" // at a service that authenticates by itself
	WhatPairingOpened What = "pairing opened"
	WhatPairingFailed What = "pairing failed"
	WhatPairingLocked What = "pairing locked" // after too many tries of a lifetime
	WhatUnlocked      What = "pairing unlocked"

	WhatSettings   What = "settings"
	WhatReloaded   What = "reloaded"
	WhatCommand    What = "command" // given over the control socket
	WhatDuplicate  What = "duplicate attach"
	WhatPassword   What = "service password refused" // the one that the device keeps for a service
	WhatRolledBack What = "central list refused"     // older than one seen before, or not the vendor's

	WhatSupportShown   What = "support code shown"
	WhatSupportFailed  What = "support code failed"
	WhatSupportBegan   What = "support began"
	WhatControlAllowed What = "control allowed"
	WhatSupportAction  What = "support asked" // a hotline asked for something, and what
	WhatSupportEnded   What = "support ended"
)

// happenings are the kinds that Record takes. True: it is worth a sync, because
// it is rare and a power cut right after must not hide it.
var happenings = map[What]bool{
	WhatSessionStarted: false,
	WhatSessionEnded:   false,
	WhatTunnelStarted:  false,
	WhatTunnelEnded:    false,
	WhatSessionsCut:    false,
	WhatRefused:        false,
	WhatTryFailed:      false,
	WhatPairingOpened:  false,
	WhatPairingFailed:  false,
	WhatPairingLocked:  true,
	WhatUnlocked:       true,
	WhatSettings:       true,
	WhatReloaded:       false,
	WhatCommand:        false,
	WhatDuplicate:      true,
	WhatPassword:       true,
	WhatRolledBack:     false,
	WhatSupportShown:   false,
	WhatSupportFailed:  true,
	WhatSupportBegan:   true,
	WhatControlAllowed: true,
	WhatSupportAction:  false,
	WhatSupportEnded:   true,
}
