package pairing

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/keyholed/keyhole/internal/pace"
	"github.com/keyholed/keyhole/pairing/spake2plus"
)

// A phase of an exchange; they come in this order.
type phase int

const (
	counting phase = iota // its try is on the way to the disk, the client knows nothing
	begun                 // the client's next message is awaited
	shown                 // digits are shown, a press is awaited
	granting              // pressed; the Granter works, nothing can take it back
	ended
)

// An exchange is one client asking, in any mode. Its fields are guarded by the
// Window's mu, but for those that never change and done.
type exchange struct {
	id     string // never changes, nor do mode, caller, name, user, source, limit
	mode   string
	caller Caller
	name   string
	user   string
	source netip.Prefix
	limit  time.Time // end of all steps before the digits
	button button    // of button mode; set before the try is counted

	record   *spake2plus.Record   // of code and label mode; never changes
	verifier *spake2plus.Verifier // of code and label mode; set before the try is counted
	outside  bool                 // of label mode, begun while no window was open; never changes

	phase    phase
	deadline time.Time     // of the current phase; none while granting
	check    Check         // from shown on
	err      error         // why it ended, if it ended
	done     chan struct{} // closed at the press, or at the end before one

	ctx  context.Context // of the grant
	stop context.CancelFunc
}

// claim checks that the caller may ask in a mode and makes an exchange of it,
// counted in the window but not yet in the lifetime.
func (w *Window) claim(mode string, c Caller, r opening) (x *exchange, err error) {
	w.do(func(now time.Time) { x, err = w.claimLocked(mode, c, r, now) })
	return x, err
}

func (w *Window) claimLocked(mode string, c Caller, r opening, now time.Time) (*exchange, error) {
	if !w.offersLocked(mode, c) {
		return nil, ErrRefused
	}
	if err := r.clean(); err != nil {
		return nil, err
	}
	source := pace.Source(c.Source)
	compared := modes[mode].compared
	switch {
	case w.grantingLocked():
		return nil, ErrBusy
	case compared && !w.client.IsZero() && w.client != c.Fingerprint:
		w.sayLocked(slog.LevelWarn, "pairing window closed: a second client asked",
			"first", w.client.Short(), "second", c.Fingerprint.Short(), "source", c.Source)
		w.closeLocked(ErrOverlap, now)
		return nil, ErrOverlap
	case w.current != nil && w.current.caller.Fingerprint != c.Fingerprint:
		return nil, ErrBusy
	case w.open && w.sources[source] >= TriesPerSource:
		return nil, ErrTries
	}
	if w.current != nil {
		w.failLocked(w.current, ErrReplaced, now)
	}
	if !w.offersLocked(mode, c) { // that was the last failure
		return nil, ErrTries
	}
	name, user := r.names()
	x := &exchange{
		id: rand.Text(), mode: mode, caller: c, name: name, user: user, source: source,
		limit: now.Add(ExchangeDuration), deadline: now.Add(ExchangeDuration),
		done: make(chan struct{}), outside: !w.open,
	}
	switch {
	case mode == ModeLabel:
		x.record = w.label.record
	case w.code != nil:
		x.record = w.code.record
	}
	if compared {
		w.client = c.Fingerprint
	}
	w.current = x
	if !x.outside {
		w.tries++
		w.sources[source]++
	}
	return x, nil
}

// count puts the exchange's try on the disk. Only when it returns nil may the
// device say anything that a guess could be checked with.
func (w *Window) count(x *exchange) (err error) {
	if x.mode == ModeLabel {
		err = w.delays.charge(x.source)
	}
	if err == nil {
		err = w.life.count()
	}
	w.do(func(now time.Time) {
		switch {
		case x.phase == ended:
			err = x.err
		case err != nil:
			w.sayLocked(slog.LevelError, "pairing refused: its try cannot be counted", "error", err)
			w.failLocked(x, ErrRefused, now)
		default:
			x.phase = begun
			x.deadline = earlier(now.Add(StepDuration), x.limit)
		}
	})
	if locked := (*LockedError)(nil); errors.As(err, &locked) {
		return ErrTries
	}
	return err
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// findLocked returns the caller's exchange of a mode, which it must name and continue on
// the session it began on, if it is in the phase p. One that has ended returns
// why it did.
func (w *Window) findLocked(mode, id string, c Caller, p phase) (*exchange, error) {
	for _, x := range []*exchange{w.current, w.last} {
		if x == nil || x.mode != mode || x.caller.Fingerprint != c.Fingerprint || !same([]byte(x.id), []byte(id)) ||
			!same(x.caller.Exporter, c.Exporter) {
			continue
		}
		if x.phase == ended && x.err != nil {
			return nil, x.err
		}
		if x.phase == p {
			return x, nil
		}
	}
	return nil, ErrRefused
}

func same(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// failLocked ends an exchange that stays counted, and the window with its last try.
func (w *Window) failLocked(x *exchange, why error, now time.Time) {
	w.sayLocked(slog.LevelInfo, "pairing failed", "client", x.caller.Fingerprint.Short(), "source", x.caller.Source, "why", why)
	w.abandonedLocked(x, why)
	w.endLocked(x, why, now)
	if w.open && !x.outside && w.tries >= TriesPerWindow {
		w.closeLocked(ErrTries, now)
	}
}

// abandonedLocked tells of a failed try whose client waits for no answer: it has
// gone, or never came with the next step.
func (w *Window) abandonedLocked(x *exchange, why error) {
	var refused *Error
	if w.abandoned == nil || x.phase == shown && errors.As(why, &refused) || errors.Is(why, ErrProof) || errors.Is(why, ErrRefused) {
		return
	}
	c, mode := x.caller, x.mode
	w.lines = append(w.lines, func() { w.abandoned(c, mode, why) })
}

func (w *Window) endLocked(x *exchange, why error, now time.Time) {
	if x.phase == shown || x.phase == granting {
		w.gone = now
	}
	if x.phase != granting {
		close(x.done)
	}
	x.phase, x.err = ended, why
	x.record, x.verifier = nil, nil
	w.current, w.last = nil, x
}

// wait returns when a press has accepted the exchange, with nil, or when it has
// ended, with the reason. A client that goes away before the press ends it.
func (w *Window) wait(ctx context.Context, x *exchange) (err error) {
	select {
	case <-x.done:
	case <-ctx.Done():
	}
	w.do(func(now time.Time) {
		switch x.phase {
		case granting: // pressed, even if the client left at that moment
		case ended:
			err = x.err
		default:
			err = context.Cause(ctx)
			w.failLocked(x, err, now)
		}
	})
	return err
}

func (w *Window) grantingLocked() bool { return w.current != nil && w.current.phase == granting }

var errGrantPanicked = errors.New("pairing: the grant did not return")

// grant enters the accepted client. A press has proven that the try was no
// guess, so it is given back whatever the Granter says.
func (w *Window) grant(x *exchange) (g Granted, err error) {
	err = errGrantPanicked
	defer func() { w.settle(x, err) }()
	g, err = w.granter.Grant(x.ctx, Request{
		Mode: x.mode, Fingerprint: x.caller.Fingerprint, Name: x.name, User: x.user, Source: x.caller.Source,
	})
	return g, err
}

// settle ends a grant: with the window if it succeeded, else so that the same
// client may ask again.
func (w *Window) settle(x *exchange, err error) {
	x.stop()
	forget := w.life.clear
	if err != nil {
		forget = w.life.giveBack
	}
	if x.mode == ModeLabel {
		if err := w.delays.forgive(x.source); err != nil { // it waits longer than it should, which is safe
			w.log.Warn("the file of failed tries cannot be written", "error", err)
		}
	}
	if err := forget(); err != nil { // the number stays higher than it should be, which is safe
		w.log.Warn("the counter of pairing tries cannot be written", "error", err)
	}
	w.do(func(now time.Time) {
		w.endLocked(x, err, now)
		if err == nil {
			w.closeLocked(ErrClosed, now)
		}
		if !w.open { // the next press is a first one
			w.gone = time.Time{}
			return
		}
		if !x.outside {
			w.tries--
			w.sources[x.source]--
		}
		w.expireLocked(now)
	})
}
