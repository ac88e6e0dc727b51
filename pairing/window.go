package pairing

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A Granter enters a newcomer into the access list. The daemon adapts the list.
type Granter interface {
	// Grant is called once for every press that accepted somebody, and returns
	// when the entry is there to stay. Its error goes to the client as it is (a
	// name that is taken, with a suggestion) and leaves the window open, so that
	// the client may ask again. ctx ends when the window is closed meanwhile; it
	// does not end when the client goes away, because the person has said yes.
	Grant(ctx context.Context, r Request) (Granted, error)
}

// A Request is a newcomer whom the device has accepted.
type Request struct {
	Mode        string
	Fingerprint identity.Fingerprint
	Name        string // of the key, passed CleanName
	User        string // wanted name of the user, passed CleanName, or empty
	Source      netip.Addr
}

// Granted is what the newcomer has become.
type Granted struct {
	User string
	Role string
}

// Config of a Window.
type Config struct {
	// Modes that may be used, as configured. Those that this build does not know
	// are left out, button where code and Display are there, and code where
	// Display is not; when none is left the window never opens.
	Modes   []string
	Display bool // there is one to show a code on: see ModeCode
	Device  identity.Fingerprint
	Granter Granter
	// Counter keeps the tries of a lifetime on disk.
	Counter Counter
	// Label is what the device keeps of its sticker; the zero value: it has none yet.
	Label LabelRecord
	// LabelAlways takes the label without an open window too: the vendor's choice.
	LabelAlways bool
	// Failures keeps who failed with the label on disk; nil: in memory alone.
	Failures Failures
	// Changed is told the state after it changed, never under a lock, one call at
	// a time, the newest last; states in between may be left out, and the ticking
	// of SecondsLeft is no change. It must not block, and may call the Window.
	Changed func(State)
	// Abandoned is told of each try that failed without anybody being told so: the
	// client began and went away. It is called without locks held. May be nil.
	Abandoned func(c Caller, mode string, why error)
	Log       *slog.Logger // nil: silent
}

// A Window decides who may pair and when. It may be used by several goroutines.
type Window struct {
	device  identity.Fingerprint
	modes   []string
	granter Granter
	log     *slog.Logger
	// abandoned is Config.Abandoned; never changes.
	abandoned func(Caller, string, error)
	life      lifetime
	delays    delays
	always    bool // label without a window
	notify    notifier
	timer     *time.Timer // rings at the next deadline; set under mu
	spare     spareCode

	mu      sync.Mutex // never held while anything outside this package is called
	open    bool
	code    *shownCode // nil: none is shown
	label   LabelRecord
	ends    time.Time
	client  identity.Fingerprint // who asks in this window; zero: nobody yet
	tries   int                  // of this window, one that is under way included
	sources map[netip.Prefix]int // the same by source; at most TriesPerWindow entries
	current *exchange            // nil: none under way
	last    *exchange            // ended last, to tell its client why
	gone    time.Time            // when digits vanished last without a press of theirs
	lines   []func()             // for the log, written when mu is free
}

// New makes a Window, closed.
func New(c Config) (*Window, error) {
	switch {
	case c.Device.IsZero():
		return nil, errors.New("pairing: Config.Device is missing")
	case c.Granter == nil:
		return nil, errors.New("pairing: Config.Granter is missing")
	case c.Counter == nil:
		return nil, errors.New("pairing: Config.Counter is missing")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	w := &Window{device: c.Device, granter: c.Granter, log: c.Log, modes: chosen(c.Modes, c.Display), label: c.Label, always: c.LabelAlways, abandoned: c.Abandoned}
	w.delays.store = c.Failures
	w.life.store = c.Counter
	w.timer = time.AfterFunc(WindowDuration, func() { w.do(func(time.Time) {}) })
	w.timer.Stop()
	if err := w.life.load(); err != nil {
		w.log.Error("pairing is locked: its counter of tries cannot be read", "error", err)
	}
	if err := w.delays.load(); err != nil {
		w.log.Error("pairing by label is locked: who failed before cannot be read", "error", err)
	}
	w.notify = notifier{tell: c.Changed, last: w.State()}
	return w, nil
}

// do runs f with the lock held and with everything that is over removed, then
// sets the timer and tells of changes.
func (w *Window) do(f func(now time.Time)) {
	w.mu.Lock()
	now := time.Now()
	w.expireLocked(now)
	f(now)
	w.armLocked(now)
	lines := w.lines
	w.lines = nil
	w.mu.Unlock()
	for _, write := range lines {
		write()
	}
	w.notify.run(w.State)
}

// sayLocked logs a line once the lock is free.
func (w *Window) sayLocked(level slog.Level, line string, fields ...any) {
	w.lines = append(w.lines, func() { w.log.Log(context.Background(), level, line, fields...) })
}

// expireLocked ends what has reached its deadline. A grant under way is left
// alone: its press came in time.
func (w *Window) expireLocked(now time.Time) {
	if x := w.current; x != nil && x.phase != granting && !now.Before(x.deadline) {
		w.failLocked(x, ErrTimeout, now)
	}
	if w.open && !now.Before(w.ends) && !w.grantingLocked() {
		w.closeLocked(ErrClosed, now)
	}
}

func (w *Window) armLocked(now time.Time) {
	w.timer.Stop()
	if w.grantingLocked() {
		return
	}
	next := w.ends
	if x := w.current; x != nil && (!w.open || x.deadline.Before(next)) {
		next = x.deadline
	} else if !w.open {
		return
	}
	w.timer.Reset(next.Sub(now))
}

// openLocked begins a window. There must be none.
func (w *Window) openLocked(now time.Time, code *shownCode) {
	w.open, w.ends, w.code = true, now.Add(WindowDuration), code
	w.client, w.tries, w.sources = identity.Fingerprint{}, 0, make(map[netip.Prefix]int)
	w.gone = time.Time{}
	w.sayLocked(slog.LevelInfo, "pairing window open", "modes", w.modes, "seconds", int(WindowDuration.Seconds()))
}

// closeLocked ends the window and tells the client that asks, if one does.
func (w *Window) closeLocked(why error, now time.Time) {
	if w.open {
		w.sayLocked(slog.LevelInfo, "pairing window closed")
	}
	w.open, w.code = false, nil
	switch x := w.current; {
	case x == nil:
	case x.phase == granting:
		x.stop()
	default:
		w.endLocked(x, why, now)
	}
}

// Open opens the window as a first press does; one that is open stays as it is,
// not a second longer. It returns a LockedError, or ErrRefused when no mode is
// configured, or ErrBusy while a grant is under way.
func (w *Window) Open() error {
	if err := w.life.load(); err != nil {
		return &LockedError{Err: err}
	}
	var err error
	code := w.takeCode()
	defer func() { w.keepCode(code) }()
	w.do(func(now time.Time) {
		switch {
		case w.grantingLocked():
			err = ErrBusy
		case w.open:
		case len(w.modes) == 0:
			err = ErrRefused
		case w.life.locked():
			err = &LockedError{Tries: int(w.life.tries.Load())}
		default:
			w.openLocked(now, code)
			code = nil
		}
	})
	return err
}

// Close ends the window at once: by its own command, on reset, and when the
// daemon stops. A client that asks gets ErrClosed; the context of a grant under
// way ends.
func (w *Window) Close() {
	w.do(func(now time.Time) { w.closeLocked(ErrClosed, now); w.gone = time.Time{} })
}

// Offers returns the modes that this caller could use now, in configured order.
func (w *Window) Offers(c Caller) []string {
	var offers []string
	w.do(func(time.Time) {
		for _, m := range w.modes {
			if w.offersLocked(m, c) {
				offers = append(offers, m)
			}
		}
	})
	return offers
}

func (w *Window) offersLocked(m string, c Caller) bool {
	rule, known := modes[m]
	return known && slices.Contains(w.modes, m) && !c.Fingerprint.IsZero() && (!rule.nearby || c.Local && c.TCP) &&
		(m == ModeLabel && w.takesLabelLocked(c) || m != ModeLabel && w.open)
}
