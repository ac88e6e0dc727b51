package basestation

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Enrol is how a device may prove itself.
type Enrol string

// The ways, in the order in which a vendor grows. The zero value is EnrolOpen.
const (
	EnrolOpen   Enrol = "open"   // any key is welcome
	EnrolListed Enrol = "listed" // keys that were registered
	EnrolSecret Enrol = "secret" // a serial number and its factory secret; the first attach binds the key
)

// ParseEnrol reads the name of a way.
func ParseEnrol(text string) (Enrol, error) {
	switch e := Enrol(text); e {
	case EnrolOpen, EnrolListed, EnrolSecret:
		return e, nil
	case "":
		return EnrolOpen, nil
	}
	return "", fmt.Errorf("enrolment %q: want open, listed or secret", text)
}

// enrol decides about a device. What needs no record is decided without waiting;
// decided is false for what has to be asked again with wait.
func (s *Server) enrol(ctx context.Context, r *attach.Request, wait bool) (code attach.Code, decided bool) {
	id := r.Fingerprint.ID()
	switch {
	case s.registry.Blocked(id):
		s.chatter.Info("a blocked device was refused", "device", id)
		return attach.CodeRefused, true
	case s.config.Enrol == EnrolOpen || s.config.Enrol == "":
		return attach.CodeAccepted, true
	case !wait:
		return 0, false
	}
	err := s.enrolment(ctx)(r)
	switch {
	case err == nil:
		return attach.CodeAccepted, true
	case errors.Is(err, attach.ErrNotEnrolled):
		s.chatter.Info("a device was refused", "device", id, "serial", r.Serial, "err", err)
		return attach.CodeRefused, true
	}
	s.chatter.Warn("a device could not be looked up", "device", id, "err", err)
	return attach.CodeBusy, true // it may be one of ours: later
}

// enrolment is the rule over the records of the store.
func (s *Server) enrolment(ctx context.Context) attach.Enrolment {
	if s.config.Enrol == EnrolListed {
		return func(r *attach.Request) error {
			listed, err := s.registry.Listed(ctx, r.Fingerprint)
			if err != nil {
				return err
			}
			return attach.EnrolListed(func(identity.Fingerprint) bool { return listed })(r)
		}
	}
	return func(r *attach.Request) error {
		secret, known, err := s.secretOf(ctx, r.Serial)
		if err != nil {
			return err
		}
		secretOf := func(string) (attach.Secret, bool) { return secret, known }
		return attach.EnrolSecret(secretOf, binder{ctx, s})(r)
	}
}

// secretOf is the explicit secret of a serial number, or the one that follows from the
// master secret.
func (s *Server) secretOf(ctx context.Context, serial string) (attach.Secret, bool, error) {
	secret, known, err := s.registry.Secret(ctx, serial)
	if err != nil || known || s.config.Master == (attach.Secret{}) {
		return secret, known, err
	}
	return attach.DeriveSecret(s.config.Master, serial), true, nil
}

// A binder binds serial numbers in the registry.
type binder struct {
	ctx context.Context
	s   *Server
}

func (b binder) Bind(serial string, f identity.Fingerprint) (identity.Fingerprint, error) {
	return b.s.registry.Bind(b.ctx, serial, f)
}
