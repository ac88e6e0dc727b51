package pairing

import (
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A SupportPhase says how far support is.
//
//	         press               code proven              press, 30 min, left
//	idle ------------> waiting ----------------> session ---------------------> idle
//	  ^                   |
//	  +-------------------+  press, 5 min, 3 tries, pairing
type SupportPhase int

// The phases.
const (
	SupportIdle    SupportPhase = iota
	SupportWaiting              // a code is shown
	SupportSession              // a hotline is here
)

func (p SupportPhase) String() string { return [...]string{"idle", "waiting", "session"}[p] }

// A SupportState is what display, light and status show.
type SupportState struct {
	Phase       SupportPhase
	Code        SupportCode          // to be shown while waiting
	SecondsLeft int                  // of the code or the session, rounded up
	Guest       identity.Fingerprint // of a session
	Source      string               // where he comes from
	Control     Control
	AskedLeft   int // seconds in which control may be allowed, rounded up
}

// State returns what is true now.
func (s *Support) State() (state SupportState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stateLocked(time.Now())
}

func (s *Support) stateLocked(now time.Time) SupportState {
	left := secondsUntil(now, s.ends)
	if s.phase == SupportIdle || left == 0 {
		return SupportState{}
	}
	state := SupportState{Phase: s.phase, SecondsLeft: left, Guest: s.guest.Fingerprint, Source: s.guest.Source, Control: s.control}
	if s.secret != nil {
		state.Code = s.secret.code
	}
	if s.control == ControlAsked {
		if state.AskedLeft = secondsUntil(now, s.askEnds); state.AskedLeft == 0 {
			state.Control = ControlNo
		}
	}
	return state
}

// secondsUntil rounds up.
func secondsUntil(now, t time.Time) int {
	return max(0, int((t.Sub(now)+time.Second-1)/time.Second))
}

// shownLocked is what somebody sees besides the clock.
func (s *Support) shownLocked() SupportState {
	state := SupportState{Phase: s.phase, Guest: s.guest.Fingerprint, Control: s.control}
	if s.secret != nil {
		state.Code = s.secret.code
	}
	return state
}
