package pairing

import (
	"bytes"
	"context"
	"crypto/rand"
	"time"
)

// button is the device's half of one exchange in button mode. It never changes.
type button struct {
	binding    binding
	commitment []byte
	nonce      [NonceBytes]byte // the device's own
}

// Begin takes a client's first message in button mode. When it returns without
// an error, the try is counted on disk and the client has StepDuration for
// Reveal. It returns an *Error, or a *RequestError for a malformed request of
// somebody who may ask, or the fault of the device that keeps it from counting.
func (w *Window) Begin(_ context.Context, c Caller, r BeginRequest) (BeginReply, error) {
	c, err := c.own()
	if err != nil {
		return BeginReply{}, err
	}
	x, err := w.claim(ModeButton, c, &r)
	if err != nil {
		return BeginReply{}, err
	}
	x.button.binding = binding{device: w.device, client: c.Fingerprint, exporter: c.Exporter}
	x.button.commitment = bytes.Clone(r.Commitment)
	rand.Read(x.button.nonce[:])
	if err := w.count(x); err != nil {
		return BeginReply{}, err
	}
	return BeginReply{Exchange: x.id, Nonce: bytes.Clone(x.button.nonce[:])}, nil
}

// Reveal takes a client's second message, shows the digits and waits until the
// exchange is over: granted after a press, or one of the Errors, or what the
// Granter said, or the cause of ctx when the client went away before the press.
// A *RequestError changes nothing; any other fault of the message ends the exchange.
func (w *Window) Reveal(ctx context.Context, c Caller, r RevealRequest) (Granted, error) {
	x, err := w.show(c, r)
	if err != nil {
		return Granted{}, err
	}
	if err := w.wait(ctx, x); err != nil {
		return Granted{}, err
	}
	return w.grant(x)
}

// show checks the client's nonce against its commitment and shows the digits.
func (w *Window) show(c Caller, r RevealRequest) (x *exchange, err error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	w.do(func(now time.Time) {
		if x, err = w.findLocked(ModeButton, r.Exchange, c, begun); err != nil {
			return
		}
		b := &x.button
		if !b.binding.opens(b.commitment, r.Nonce) {
			err = ErrRefused
			w.failLocked(x, err, now)
			return
		}
		x.check = b.binding.check(r.Nonce, b.nonce[:])
		w.showLocked(x, now)
	})
	return x, err
}
