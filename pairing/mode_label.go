package pairing

import (
	"bytes"
	"context"
	"time"

	"github.com/keyholed/keyhole/internal/pace"
)

// Label mode is code mode with the code on the sticker, which is the same for
// the life of the device: so the device keeps a verifier only, and who fails has to
// wait, longer each time (delays.go). It needs an open window all the same, unless the
// vendor says otherwise with Config.LabelAlways: who has read the sticker in the shop
// shall not become owner from the street.

// SetLabel takes a new label in force; the old one is nothing from then on.
func (w *Window) SetLabel(r LabelRecord) {
	w.do(func(now time.Time) {
		if x := w.current; x != nil && x.mode == ModeLabel && x.phase != granting {
			w.failLocked(x, ErrClosed, now)
		}
		w.label = r
	})
}

// HasLabel tells whether there is one.
func (w *Window) HasLabel() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.label.IsZero()
}

// Listens tells whether somebody nearby could use some mode now: while it is false,
// nobody need find out who is nearby.
func (w *Window) Listens() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open || w.always && !w.label.IsZero()
}

func (w *Window) takesLabelLocked(c Caller) bool {
	return !w.label.IsZero() && (w.open || w.always && !w.life.locked()) && w.delays.ready(pace.Source(c.Source))
}

// LabelSalt returns the salt of the label to a caller who could use it now, and nil
// to others.
func (w *Window) LabelSalt(c Caller) (salt []byte) {
	w.do(func(time.Time) {
		if w.offersLocked(ModeLabel, c) {
			salt = bytes.Clone(w.label.salt)
		}
	})
	return salt
}

// BeginLabel is BeginCode for label mode.
func (w *Window) BeginLabel(_ context.Context, c Caller, r CodeRequest) (CodeReply, error) {
	return w.beginSecret(ModeLabel, labelDomain, c, r)
}

// ConfirmLabel is ConfirmCode for label mode.
func (w *Window) ConfirmLabel(_ context.Context, c Caller, r ConfirmRequest) (Granted, error) {
	return w.confirmSecret(ModeLabel, c, r)
}
