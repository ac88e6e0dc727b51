package pairing

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keyholed/keyhole/pairing/spake2plus"
)

// A domain begins the context of an exchange: protocol version and mode.
const (
	codeDomain  = "keyhole/1 pair code"
	labelDomain = "keyhole/1 pair label"
)

// parties is what both proofs of a mode are about. See the package comment.
func (b *binding) parties(domain string) spake2plus.Parties {
	return spake2plus.Parties{Context: b.message(domain), Prover: bytes.Clone(b.client[:]), Verifier: bytes.Clone(b.device[:])}
}

// CodeRequest is a client's first message in code mode and in label mode.
type CodeRequest struct {
	Name  string // as in BeginRequest
	User  string
	Share []byte // spake2plus.ShareBytes, from CodeAsker.Share
}

func (r *CodeRequest) names() (name, user string) { return r.Name, r.User }

func (r *CodeRequest) clean() error {
	if err := cleanNames(&r.Name, &r.User); err != nil {
		return err
	}
	if err := spake2plus.CheckShare(r.Share); err != nil {
		return &RequestError{"share", err.Error()}
	}
	return nil
}

// CodeReply is the device's answer to it.
type CodeReply struct {
	Exchange string // names this exchange in ConfirmCode
	Share    []byte
	Confirm  []byte // the device's proof, spake2plus.ConfirmBytes
}

// ConfirmRequest is a client's second message in code mode and in label mode.
type ConfirmRequest struct {
	Exchange string
	Confirm  []byte // the client's proof, spake2plus.ConfirmBytes
}

func (r *ConfirmRequest) check() error {
	if err := checkExchange(r.Exchange); err != nil {
		return err
	}
	if len(r.Confirm) != spake2plus.ConfirmBytes {
		return &RequestError{"confirm", fmt.Sprintf("want %d bytes", spake2plus.ConfirmBytes)}
	}
	return nil
}

func (w *Window) byCode() bool { return slices.Contains(w.modes, ModeCode) }

// Salt returns the salt of the code that is shown, to a caller who could use it
// now, and nil to others.
func (w *Window) Salt(c Caller) (salt []byte) {
	w.do(func(time.Time) {
		if w.code != nil && w.offersLocked(ModeCode, c) {
			salt = bytes.Clone(w.code.salt)
		}
	})
	return salt
}

// BeginCode takes a client's first message in code mode. When it returns without
// an error, the try is counted on disk and the client has StepDuration for
// ConfirmCode. Its errors are those of Begin.
func (w *Window) BeginCode(_ context.Context, c Caller, r CodeRequest) (CodeReply, error) {
	return w.beginSecret(ModeCode, codeDomain, c, r)
}

// beginSecret takes the first message of a mode with a short secret.
func (w *Window) beginSecret(mode, domain string, c Caller, r CodeRequest) (CodeReply, error) {
	c, err := c.own()
	if err != nil {
		return CodeReply{}, err
	}
	r.Share = bytes.Clone(r.Share)
	x, err := w.claim(mode, c, &r)
	if err != nil {
		return CodeReply{}, err
	}
	b := binding{device: w.device, client: c.Fingerprint, exporter: c.Exporter}
	v, wrong := w.respond(x, b.parties(domain), r.Share)
	if err := w.count(x); err != nil {
		return CodeReply{}, err
	}
	if wrong != nil { // a share that only who knows the code, or has a lot of luck, can make
		w.do(func(now time.Time) {
			if x.phase != ended {
				w.failLocked(x, ErrProof, now)
			}
		})
		return CodeReply{}, ErrProof
	}
	return CodeReply{Exchange: x.id, Share: v.Share(), Confirm: v.Confirm()}, nil
}

// respond computes the device's half, with the lock free.
func (w *Window) respond(x *exchange, p spake2plus.Parties, share []byte) (v *spake2plus.Verifier, err error) {
	var record *spake2plus.Record
	w.do(func(time.Time) { record = x.record })
	if record == nil {
		return nil, ErrRefused // ended meanwhile, which count tells
	}
	if v, err = spake2plus.Respond(record, p, share); err != nil {
		return nil, err
	}
	w.do(func(time.Time) {
		if x.phase == counting {
			x.verifier = v
		}
	})
	return v, nil
}

// ConfirmCode takes a client's second message and, if that proves the code, lets
// it in: no press is needed. Otherwise it returns one of the Errors, or what the
// Granter said. A *RequestError changes nothing.
func (w *Window) ConfirmCode(_ context.Context, c Caller, r ConfirmRequest) (Granted, error) {
	return w.confirmSecret(ModeCode, c, r)
}

func (w *Window) confirmSecret(mode string, c Caller, r ConfirmRequest) (Granted, error) {
	if err := r.check(); err != nil {
		return Granted{}, err
	}
	var x *exchange
	var err error
	w.do(func(now time.Time) {
		if x, err = w.findLocked(mode, r.Exchange, c, begun); err != nil {
			return
		}
		if x.verifier == nil || x.verifier.Check(r.Confirm) != nil {
			err = ErrProof
			w.failLocked(x, err, now)
			return
		}
		w.acceptLocked(x)
	})
	if err != nil {
		return Granted{}, err
	}
	return w.grant(x)
}
