package pairing

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A Pressed says what a press did.
type Pressed int

// What a press can do.
const (
	PressIgnored  Pressed = iota // nothing: digits have just vanished, a grant is under way, or no mode is configured
	PressOpened                  // the window
	PressAccepted                // the client whose digits are shown
	PressClosed                  // the window
	PressLocked                  // nothing: too many tries, hold the button for 10 s
)

func (p Pressed) String() string {
	switch p {
	case PressOpened:
		return "opened"
	case PressAccepted:
		return "accepted"
	case PressClosed:
		return "closed"
	case PressLocked:
		return "locked"
	}
	return "ignored"
}

// Press is a short press of the pair button: it opens the window, accepts the
// client whose digits are shown, or closes the window when there is none.
//
// A client that has begun but shows no digits yet is not one to accept, since
// nobody could have compared anything. Within VanishedDuration after digits
// vanished (the client left, was too slow, or a second one came), the press was
// meant for them and does nothing, be the window open or not.
func (w *Window) Press() (did Pressed) {
	code := w.takeCode()
	defer func() { w.keepCode(code) }()
	w.do(func(now time.Time) {
		switch {
		case w.current != nil && w.current.phase == shown:
			w.acceptLocked(w.current)
			did = PressAccepted
		case w.grantingLocked(), !w.gone.IsZero() && now.Sub(w.gone) < VanishedDuration:
			did = PressIgnored
		case w.open:
			w.closeLocked(ErrClosed, now)
			did = PressClosed
		case len(w.modes) == 0:
			did = PressIgnored
		case w.life.locked():
			did = PressLocked
		default:
			w.openLocked(now, code)
			code = nil
			did = PressOpened
		}
	})
	return did
}

// LongPress is a 10 s hold of the pair button. It lifts the lock of the lifetime
// tries and opens the window; where nothing is locked it does nothing. An error
// means that the lock stays, because the counter cannot be written.
func (w *Window) LongPress() (Pressed, error) {
	if !w.life.locked() {
		return PressIgnored, nil
	}
	if err := w.Lift(); err != nil {
		return PressLocked, err
	}
	if err := w.Open(); err != nil {
		return PressIgnored, nil
	}
	return PressOpened, nil
}

// Lift sets the tries of the lifetime to zero: for LongPress, and for the owner
// or a reset on boards whose one button has another use for 10 s.
func (w *Window) Lift() error {
	err := errors.Join(w.life.clear(), w.delays.clear())
	w.do(func(time.Time) {
		if err == nil {
			w.sayLocked(slog.LevelWarn, "pairing tries set to zero")
		}
	})
	return err
}

// Accept is a press that can only accept: the client whose digits are shown, if
// it has this fingerprint; the zero fingerprint accepts any. It returns false
// when there is none such.
func (w *Window) Accept(f identity.Fingerprint) (accepted bool) {
	w.do(func(time.Time) {
		x := w.current
		if x == nil || x.phase != shown || !f.IsZero() && f != x.caller.Fingerprint {
			return
		}
		w.acceptLocked(x)
		accepted = true
	})
	return accepted
}

// showLocked shows an exchange's digits and begins to wait for the press.
func (w *Window) showLocked(x *exchange, now time.Time) {
	x.phase, x.deadline = shown, now.Add(PressDuration)
	w.sayLocked(slog.LevelInfo, "a client asks to pair: compare the digits, then press",
		"name", shownName(x.name), "client", x.caller.Fingerprint.Short(), "check", string(x.check), "source", x.caller.Source)
}

// acceptLocked lets the exchange's own goroutine go on to the grant.
func (w *Window) acceptLocked(x *exchange) {
	x.phase = granting
	x.ctx, x.stop = context.WithCancel(context.Background())
	close(x.done)
	w.sayLocked(slog.LevelInfo, "client accepted", "mode", x.mode, "client", x.caller.Fingerprint.Short())
}
