package pairing

import (
	"context"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A Control says what a hotline may do with services.
type Control int

// The controls. Asked is for ControlDuration at most.
const (
	ControlNo Control = iota
	ControlAsked
	ControlAllowed
)

func (c Control) String() string { return [...]string{"no", "asked", "allowed"}[c] }

// Errors of Control.
var (
	// ErrNoSupport: there is no session of this caller.
	ErrNoSupport = &Error{CodeClosed, "there is no support session of yours: ask for a new code"}

	// ErrControlRefused: nobody at the device allowed it.
	ErrControlRefused = &Error{CodeTimeout, "nobody at the device has allowed control"}

	// ErrControlTooOften: ControlsPerSession questions came to nothing.
	ErrControlTooOften = &Error{CodeTries, "control was asked for too often in this session"}
)

// Ask has the display ask whether this guest may have control, and waits for the answer:
// nil is yes. It returns ErrNoSupport, ErrControlRefused, ErrControlTooOften, or why ctx
// ended, in which case the display goes on asking.
func (s *Support) Ask(ctx context.Context, f identity.Fingerprint) (err error) {
	var answered chan struct{}
	s.do(func(now time.Time) {
		switch {
		case s.phase != SupportSession || s.guest.Fingerprint != f:
			err = ErrNoSupport
		case s.control == ControlAllowed:
		case s.control == ControlAsked:
			answered = s.answered
		case s.asked >= ControlsPerSession:
			err = ErrControlTooOften
		default:
			s.asked++
			s.control, s.askEnds, s.answered = ControlAsked, now.Add(ControlDuration), make(chan struct{})
			answered = s.answered
		}
	})
	if answered == nil {
		return err
	}
	select {
	case <-answered:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	switch state := s.State(); {
	case state.Phase != SupportSession || state.Guest != f:
		return ErrNoSupport
	case state.Control != ControlAllowed:
		return ErrControlRefused
	}
	return nil
}

// Unask withdraws the question, because the display is needed for something else.
func (s *Support) Unask() {
	s.do(func(now time.Time) {
		if s.control == ControlAsked {
			s.answerLocked(now)
		}
	})
}

// answerLocked ends the question, if one is open, and takes control back.
func (s *Support) answerLocked(now time.Time) {
	if s.control == ControlAsked {
		s.vanished = now
	}
	s.control = ControlNo
	if s.answered != nil {
		close(s.answered)
		s.answered = nil
	}
}

// Allow is the long hold of the support button: it gives control while the display asks
// for it, and does nothing else. meant is true also in the second after the question
// went away: then the hold was its answer, and must not become another thing.
func (s *Support) Allow() (allowed, meant bool) {
	var guest SupportGuest
	var answered chan struct{}
	s.do(func(now time.Time) {
		meant = s.control == ControlAsked || s.phase == SupportSession && !s.vanished.IsZero() && now.Sub(s.vanished) < VanishedDuration
		if allowed = s.control == ControlAsked; allowed {
			guest, answered = s.guest, s.answered
			s.control, s.answered = ControlAllowed, nil
		}
	})
	if !allowed {
		return false, meant
	}
	err := s.config.Supporter.Allow(guest)
	s.do(func(time.Time) {
		if err != nil && s.guest == guest {
			s.control = ControlNo
		}
		close(answered)
	})
	if err != nil {
		s.config.Log.Warn("control was allowed and not given", "error", err)
	}
	return err == nil, true
}
