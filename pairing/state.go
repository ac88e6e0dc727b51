package pairing

import (
	"slices"
	"sync"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A State is what display, light, status and mDNS show.
type State struct {
	Open        bool
	Modes       []string // offered to callers nearby; empty while closed
	Code        Passcode // to be shown while it can be used; zero: none
	SecondsLeft int      // of the window, rounded up; 0 while closed
	Asking      *Asking  // the client whose digits are shown; nil: nobody
	Locked      bool     // too many tries in a lifetime: see LongPress
}

// Asking is a client that waits for a press.
type Asking struct {
	Name        string // one printable line, but a stranger's words: show them as such
	User        string // the same; may be empty
	Fingerprint identity.Fingerprint
	Check       Check // empty in modes that compare nothing
	Accepted    bool  // pressed, being entered
}

// State returns what is true now.
func (w *Window) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	s := State{Locked: w.life.locked()}
	if x := w.current; x != nil && (x.phase == shown && now.Before(earlier(x.deadline, w.ends)) || x.phase == granting) {
		s.Asking = &Asking{
			Name: shownName(x.name), User: shownName(x.user), Fingerprint: x.caller.Fingerprint,
			Check: x.check, Accepted: x.phase == granting,
		}
	}
	if left := w.ends.Sub(now); w.open && (left > 0 || w.grantingLocked()) {
		s.Open = true
		s.Modes = slices.DeleteFunc(slices.Clone(w.modes), func(m string) bool { return m == ModeLabel && w.label.IsZero() })
		if w.code != nil && !w.grantingLocked() {
			s.Code = w.code.code
		}
		s.SecondsLeft = max(0, int((left+time.Second-1)/time.Second))
	}
	return s
}

// same tells whether somebody who is shown both sees no change but the clock's.
func (s State) same(t State) bool {
	return s.Open == t.Open && s.Locked == t.Locked && s.Code == t.Code && slices.Equal(s.Modes, t.Modes) &&
		(s.Asking == nil) == (t.Asking == nil) && (s.Asking == nil || *s.Asking == *t.Asking)
}

// A notifier tells of changes from whichever goroutine made one, without a
// goroutine of its own: who comes while another is telling leaves it to him.
type notifier struct {
	tell func(State) // nil: nobody wants to know

	mu    sync.Mutex
	busy  bool // somebody is telling
	again bool // something may have changed since he looked
	last  State
}

func (n *notifier) run(state func() State) {
	if n.tell == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.again = true
	if n.busy {
		return
	}
	n.busy = true
	defer func() { n.busy = false }()
	for n.again {
		n.again = false
		n.step(state)
	}
}

// step tells the state if it is another one. It is called with mu held, and lets
// go of it while outside.
func (n *notifier) step(state func() State) {
	n.mu.Unlock()
	s := state()
	changed := !s.same(n.last) // last is only touched by who is telling
	if changed {
		n.last = s
		defer n.mu.Lock()
		n.tell(s)
		return
	}
	n.mu.Lock()
}
