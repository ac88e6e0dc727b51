package control

import "github.com/keyholed/keyhole/protocol/identity"

// States of Support.
const (
	SupportOff     = "off"     // switched off, or the board cannot show a code: see Why
	SupportIdle    = "idle"    // a press of the support button shows a code
	SupportWaiting = "waiting" // a code is shown
	SupportSession = "session" // a hotline is here
)

// Support is what the support button has begun. The code itself is on the display only.
type Support struct {
	State       string               `json:"state"`
	Why         string               `json:"why,omitempty"`          // off, or no code now
	SecondsLeft int                  `json:"seconds_left"`           // of the code or the session
	Call        string               `json:"call_number,omitempty"`  // by which a hotline finds the device
	Guest       identity.Fingerprint `json:"guest,omitzero"`         // of a session
	Source      string               `json:"source,omitempty"`       // where it comes from
	Control     string               `json:"control,omitempty"`      // of a session: "no", "asked", "allowed"
	WaitSeconds int                  `json:"wait_seconds,omitempty"` // until the next code may be shown
}
