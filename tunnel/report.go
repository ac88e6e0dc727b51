package tunnel

import "time"

// Why says how a tunnel ended. The list is closed: it is what the log line and
// the client's own report may say.
type Why string

const (
	WhyClient  Why = "client closed"
	WhyService Why = "service closed"
	WhyIdle    Why = "idle"    // no byte moved for the idle time
	WhyStalled Why = "stalled" // one side took no byte for the stall time
	WhyCut     Why = "cut"     // by our side: revoked, shut down
	WhyLimit   Why = "limit"   // never began: too many tunnels
	WhyError   Why = "error"   // Report.Err says which
)

// A Report is what is known of a tunnel when it has ended.
type Report struct {
	Up, Down int64         // bytes delivered client to service, service to client
	Duration time.Duration // from Run to its end
	Why      Why
	Err      error // detail for the log, nil after an orderly end; no secret, but not for the peer
}
