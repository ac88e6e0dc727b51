package pairing

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/keyholed/keyhole/pairing/spake2plus"
)

// A supportExchange is one hotline proving the code. It is guarded by Support.mu, but
// for what never changes.
type supportExchange struct {
	id       string // never changes, nor do caller and limit
	caller   Caller
	limit    time.Time
	counted  bool // its try is on the disk
	deadline time.Time
	verifier *spake2plus.Verifier
}

// SupportRequest is a hotline's first message.
type SupportRequest struct {
	Share  []byte // spake2plus.ShareBytes, from SupportAsker.Share
	Vendor VendorProof
}

// Offer returns what a caller needs to ask: the salt of the code that is shown, and how
// many digits it has; nil while there is none.
func (s *Support) Offer() (salt []byte, digits int) {
	s.do(func(time.Time) {
		if s.phase == SupportWaiting && !s.entering {
			salt, digits = bytes.Clone(s.secret.salt), s.config.Digits
		}
	})
	return salt, digits
}

// WantsVendor tells whether a hotline must prove the vendor's key.
func (s *Support) WantsVendor() bool { return !s.config.Vendor.IsZero() }

// Begin takes a hotline's first message. When it returns without an error the try is
// counted on disk and the hotline has StepDuration for Confirm. It returns a
// *RequestError, ErrBusy, or ErrRefused for every reason a guesser could learn from.
func (s *Support) Begin(_ context.Context, c Caller, r SupportRequest) (CodeReply, error) {
	c, err := c.own()
	if err != nil {
		return CodeReply{}, err
	}
	if err := spake2plus.CheckShare(r.Share); err != nil {
		return CodeReply{}, &RequestError{"share", err.Error()}
	}
	b := binding{device: s.config.Device, client: c.Fingerprint, exporter: c.Exporter}
	// Before a try is counted: who does not have the vendor's key shall not be able to
	// use up the tries of who has.
	if !s.config.Vendor.IsZero() && r.Vendor.check(s.config.Vendor, &b) != nil {
		return CodeReply{}, ErrRefused
	}
	x, record, err := s.claim(c)
	if err != nil {
		return CodeReply{}, err
	}
	v, wrong := spake2plus.Respond(record, b.parties(supportDomain), bytes.Clone(r.Share))
	if err := s.count(x, v); err != nil {
		return CodeReply{}, err
	}
	if wrong != nil { // a share that only who knows the code, or has a lot of luck, can make
		s.do(func(time.Time) { s.failLocked(x) })
		return CodeReply{}, ErrProof
	}
	return CodeReply{Exchange: x.id, Share: v.Share(), Confirm: v.Confirm()}, nil
}

// claim makes an exchange of a first message, if there may be one.
func (s *Support) claim(c Caller) (x *supportExchange, record *spake2plus.Record, err error) {
	s.do(func(now time.Time) {
		switch {
		case s.phase != SupportWaiting || c.Fingerprint.IsZero():
			err = ErrRefused
			return
		case s.entering || s.exchange != nil && (!s.exchange.counted || s.exchange.caller.Fingerprint != c.Fingerprint):
			err = ErrBusy
			return
		case s.exchange != nil:
			s.failLocked(s.exchange) // the same one again; it stays counted
		}
		if s.phase != SupportWaiting || s.tries >= TriesPerSupportCode {
			err = ErrRefused
			return
		}
		s.tries++
		x = &supportExchange{id: rand.Text(), caller: c, limit: now.Add(ExchangeDuration), deadline: now.Add(ExchangeDuration)}
		s.exchange, record = x, s.secret.record
	})
	return x, record, err
}

// count puts the try on the disk. Only when it returns nil may the device say anything
// that a guess could be checked with.
func (s *Support) count(x *supportExchange, v *spake2plus.Verifier) error {
	err := s.budget.try(time.Now())
	s.do(func(now time.Time) {
		switch {
		case s.exchange != x:
			err = ErrRefused // over meanwhile
		case err != nil:
			if !errors.Is(err, ErrTries) {
				s.after = append(s.after, func() { s.config.Log.Error("support refused: its try cannot be counted", "error", err) })
			}
			s.failLocked(x)
			err = ErrRefused
		default:
			x.counted, x.verifier = true, v
			x.deadline = earlier(now.Add(StepDuration), x.limit)
		}
	})
	return err
}

// failLocked ends an exchange that stays counted, and the code with its last try.
func (s *Support) failLocked(x *supportExchange) {
	if s.exchange != x {
		return
	}
	s.exchange = nil
	source := x.caller.Source
	s.after = append(s.after, func() {
		s.config.Log.Warn("a support code was not proven", "client", x.caller.Fingerprint.Short(), "source", source)
	})
	if s.tries >= TriesPerSupportCode {
		s.endLocked(SupportTriesUp, time.Now())
	}
}

// Confirm takes a hotline's second message and, if that proves the code, lets it in. From
// then on the code is nothing, whatever else happens. It returns a *RequestError,
// ErrRefused, ErrProof, or what the Supporter said.
func (s *Support) Confirm(_ context.Context, c Caller, r ConfirmRequest) (g SupportGuest, err error) {
	if err := r.check(); err != nil {
		return g, err
	}
	s.do(func(now time.Time) {
		x := s.exchange
		if x == nil || !x.counted || s.entering || x.caller.Fingerprint != c.Fingerprint || !same([]byte(x.id), []byte(r.Exchange)) ||
			!same(x.caller.Exporter, c.Exporter) {
			err = ErrRefused
			return
		}
		if x.verifier.Check(r.Confirm) != nil {
			err = ErrProof
			s.failLocked(x)
			return
		}
		s.secret, s.entering = nil, true
		g = SupportGuest{Fingerprint: c.Fingerprint, Source: c.Source.String(), Until: now.Add(SupportDuration)}
		s.guest, s.ends = g, g.Until
	})
	if err != nil {
		return SupportGuest{}, err
	}
	return g, s.enter(g)
}

// enter lets a guest in whose code is used up. A press meanwhile keeps him out.
func (s *Support) enter(g SupportGuest) error {
	err := s.config.Supporter.Enter(g)
	entered := err == nil
	gone := false
	s.do(func(now time.Time) {
		s.exchange = nil
		gone = !s.entering || s.guest != g
		s.entering = false
		switch {
		case gone:
		case err != nil:
			s.endLocked(SupportNotIn, now)
		default:
			s.phase = SupportSession
			s.after = append(s.after, func() {
				s.config.Log.Info("support has begun", "client", g.Fingerprint.Short(), "source", g.Source)
			})
		}
	})
	if gone {
		if entered {
			s.config.Supporter.Leave(g, SupportPressed)
		}
		return ErrRefused
	}
	return err
}
