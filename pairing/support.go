package pairing

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A Supporter lets a hotline in that has proven the code. The daemon adapts it.
type Supporter interface {
	// Enter lets the guest in until that time, at the latest. An error keeps him out,
	// and the code is used up all the same.
	Enter(g SupportGuest) error
	// Allow gives him control, which is more than Enter did.
	Allow(g SupportGuest) error
	// Leave is called once for each Enter that returned nil.
	Leave(g SupportGuest, why SupportEnd)
}

// A SupportGuest is who has proven a support code.
type SupportGuest struct {
	Fingerprint identity.Fingerprint
	Source      string    // where he comes from, for people
	Until       time.Time // on the monotonic clock
}

// A SupportEnd is why a code or a session ended.
type SupportEnd string

// Why support ends.
const (
	SupportPressed  SupportEnd = "pressed"    // somebody at the device
	SupportReplaced SupportEnd = "pairing"    // somebody at the device has pressed for pairing
	SupportTimeUp   SupportEnd = "time"       // SupportCodeDuration, SupportDuration
	SupportTriesUp  SupportEnd = "tries"      // the code's
	SupportLeft     SupportEnd = "hotline"    // by its own word
	SupportTaken    SupportEnd = "owner"      // somebody of the device's people ended it
	SupportClosed   SupportEnd = "closed"     // reset, reload or stop
	SupportNotIn    SupportEnd = "not let in" // the Supporter did not let him in
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

// A Control says what a hotline may do with services.
type Control int

// The controls. Asked is for ControlDuration at most.
const (
	ControlNo Control = iota
	ControlAsked
	ControlAllowed
)

func (c Control) String() string { return [...]string{"no", "asked", "allowed"}[c] }

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

// Support decides about support codes and the sessions they begin. It may be used by
// several goroutines. Times are of the monotonic clock.
type Support struct {
	config SupportConfig
	budget budget
	notify func()
	timer  *time.Timer // rings at the next deadline; set under mu
	making sync.Mutex  // held while a code is stretched; taken before no other lock

	mu       sync.Mutex // never held while anything outside this package is called
	phase    SupportPhase
	secret   *supportSecret // while waiting
	tries    int            // of it
	ends     time.Time      // of the code or the session
	exchange *supportExchange
	entering bool // Enter is under way: the code is used up, the session has not begun
	guest    SupportGuest
	control  Control
	asked    int           // how often in this session
	askEnds  time.Time     // while control is asked for
	answered chan struct{} // closed when the question is over; nil: none is open
	vanished time.Time     // when a question was over without an answer
	closed   bool
	agesAt   time.Time // when the ages of codes are to be kept next; zero: never
	after    []func()  // to be called when mu is free
}

// SupportConfig is what a Support needs. Device, Ledger and Supporter must be set.
type SupportConfig struct {
	Device    identity.Fingerprint
	Digits    int                  // 0: SupportDigits; SupportDigitsShort only with Vendor
	Vendor    identity.Fingerprint // of the key that a hotline must prove as well; zero: none
	Ledger    Ledger
	Supporter Supporter
	// Changed is told after the state has changed, never under a lock. It must not block.
	Changed func()
	Log     *slog.Logger // nil: silent
}

// NewSupport makes a Support, idle.
func NewSupport(c SupportConfig) (*Support, error) {
	if c.Digits == 0 {
		c.Digits = SupportDigits
	}
	switch {
	case c.Device.IsZero() || c.Ledger == nil || c.Supporter == nil:
		return nil, errors.New("support: device, ledger and supporter are needed")
	case c.Digits != SupportDigits && (c.Digits != SupportDigitsShort || c.Vendor.IsZero()):
		return nil, errors.New("support: a code has 6 digits, or 4 with a vendor's key")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Changed == nil {
		c.Changed = func() {}
	}
	s := &Support{config: c, notify: c.Changed}
	s.budget.store = c.Ledger
	s.timer = time.AfterFunc(day, func() { s.do(func(time.Time) {}) })
	s.timer.Stop()
	now := time.Now()
	if err := s.budget.load(now); err != nil {
		c.Log.Error("no support codes: what was used of them cannot be read", "error", err)
	}
	s.keepAges(now)
	return s, nil
}

// do runs f with the lock held and with everything that is over removed, sets the timer,
// and then does what has to be done outside.
func (s *Support) do(f func(now time.Time)) {
	s.mu.Lock()
	now := time.Now()
	before := s.shownLocked()
	s.expireLocked(now)
	f(now)
	s.armLocked(now)
	after := s.after
	s.after = nil
	changed := before != s.shownLocked()
	ages := !s.agesAt.IsZero() && !now.Before(s.agesAt)
	s.mu.Unlock()
	for _, f := range after {
		f()
	}
	if ages {
		s.keepAges(now)
	}
	if changed || len(after) > 0 {
		s.notify()
	}
}

// keepAges has the ledger keep how old the codes are.
func (s *Support) keepAges(now time.Time) {
	next, err := s.budget.age(now)
	if err != nil {
		s.config.Log.Warn("the ages of support codes are not kept: after a restart they count as younger", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agesAt = next
	s.armLocked(now)
}

func (s *Support) expireLocked(now time.Time) {
	if x := s.exchange; x != nil && !s.entering && !now.Before(x.deadline) {
		s.failLocked(x)
	}
	if s.control == ControlAsked && !now.Before(s.askEnds) {
		s.answerLocked(now)
	}
	if s.phase != SupportIdle && !s.entering && !now.Before(s.ends) {
		s.endLocked(SupportTimeUp, now)
	}
}

func (s *Support) armLocked(now time.Time) {
	var next time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if s.phase != SupportIdle && !s.entering {
		sooner(s.ends)
	}
	if s.exchange != nil && !s.entering {
		sooner(s.exchange.deadline)
	}
	if s.control == ControlAsked {
		sooner(s.askEnds)
	}
	sooner(s.agesAt)
	s.timer.Stop()
	if !s.closed && !next.IsZero() {
		s.timer.Reset(max(next.Sub(now), time.Millisecond))
	}
}

// endLocked makes support idle, whatever it was.
func (s *Support) endLocked(why SupportEnd, now time.Time) {
	if s.phase == SupportIdle {
		return
	}
	phase, guest := s.phase, s.guest
	s.answerLocked(now)
	s.phase, s.secret, s.exchange, s.guest = SupportIdle, nil, nil, SupportGuest{}
	s.after = append(s.after, func() {
		s.config.Log.Info("support ended", "was", phase, "why", string(why))
		if phase == SupportSession {
			s.config.Supporter.Leave(guest, why)
		}
	})
}

// A SupportPress is what a press has done.
type SupportPress int

// What a press does.
const (
	SupportShown     SupportPress = iota + 1 // a new code
	SupportWithdrawn                         // the code that was shown
	SupportHungUp                            // ended the session
	SupportRefused                           // no code is to be had: see the error
)

func (p SupportPress) String() string {
	if p < SupportShown || p > SupportRefused {
		return "nothing"
	}
	return [...]string{"shown", "withdrawn", "hung up", "refused"}[p-1]
}

// Press asks for a new code, or ends what is. Its error is a *LimitError.
func (s *Support) Press() (SupportPress, error) {
	if did := s.Hang(SupportPressed); did != 0 {
		return did, nil
	}
	s.making.Lock()
	defer s.making.Unlock()
	if err := s.budget.spend(time.Now()); err != nil {
		return SupportRefused, err
	}
	secret := newSupportSecret(s.config.Device, s.config.Digits)
	did := SupportShown
	s.do(func(now time.Time) {
		if s.closed {
			did = SupportWithdrawn
			return
		}
		if s.phase != SupportIdle { // another press, while this one's code was made
			s.endLocked(SupportPressed, now)
			did = SupportWithdrawn
			return
		}
		s.phase, s.secret, s.tries, s.ends = SupportWaiting, secret, 0, now.Add(SupportCodeDuration)
		s.control, s.asked, s.vanished = ControlNo, 0, time.Time{}
		s.after = append(s.after, func() {
			s.config.Log.Info("a support code is shown", "seconds", int(SupportCodeDuration.Seconds()))
		})
	})
	s.keepAges(time.Now())
	return did, nil
}

// Hang ends a code or a session at once, and says which; 0: there was none.
func (s *Support) Hang(why SupportEnd) (did SupportPress) {
	s.do(func(now time.Time) {
		switch s.phase {
		case SupportWaiting:
			did = SupportWithdrawn
		case SupportSession:
			did = SupportHungUp
		}
		s.endLocked(why, now)
	})
	return did
}

// Close ends what is, for good.
func (s *Support) Close() error {
	s.do(func(now time.Time) {
		s.endLocked(SupportClosed, now)
		s.closed, s.agesAt = true, time.Time{}
	})
	return nil
}

// Leave ends the session of this guest; false when it is not his.
func (s *Support) Leave(f identity.Fingerprint) (left bool) {
	s.do(func(now time.Time) {
		if s.phase == SupportSession && s.guest.Fingerprint == f {
			s.endLocked(SupportLeft, now)
			left = true
		}
	})
	return left
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

// Wait is how long until a press shows a code again.
func (s *Support) Wait() time.Duration { return s.budget.wait(time.Now()) }

// Waits tells whether a code waits to be claimed: then, and only then, a stranger may
// ask to be introduced for it.
func (s *Support) Waits() bool { return s.State().Phase == SupportWaiting }

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
