package pairing

import (
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

// Wait is how long until a press shows a code again.
func (s *Support) Wait() time.Duration { return s.budget.wait(time.Now()) }

// Waits tells whether a code waits to be claimed: then, and only then, a stranger may
// ask to be introduced for it.
func (s *Support) Waits() bool { return s.State().Phase == SupportWaiting }
