package attach

import (
	"crypto/hmac"
	"errors"

	"github.com/keyholed/keyhole/protocol/identity"
)

// Factory is what a vendor put into a device: a serial number and its secret.
// The zero value is a device without.
type Factory struct {
	Serial string // at most 64 bytes
	Secret Secret
}

// ErrNotEnrolled means that a device may not attach. Why is for the log; the
// device hears CodeRefused, whatever the reason.
var ErrNotEnrolled = errors.New("the device may not attach")

// A Request is a device that has proven its key and asks to be attached.
type Request struct {
	Index       uint64 // names the request in Node.Answer
	Fingerprint identity.Fingerprint
	Peer        Peer
	Serial      string // claimed; proven only if Proves says so
	Firmware    string
	Boots       uint32

	proof []byte
}

// Proves reports whether the device knows the secret of the serial number it
// claims.
func (r *Request) Proves(s Secret) bool {
	return r.Serial != "" && hmac.Equal(r.proof, secretProof(s, r.Peer.Hash, r.Serial, r.Fingerprint))
}

// An Enrolment decides whether a device may attach: nil or an error that wraps
// ErrNotEnrolled. It is a function of what it is given; a basestation whose
// records are elsewhere fetches them first and answers the request then.
type Enrolment func(*Request) error

// EnrolOpen welcomes any key.
func EnrolOpen(*Request) error { return nil }

// EnrolListed welcomes the keys that are listed.
func EnrolListed(listed func(identity.Fingerprint) bool) Enrolment {
	return func(r *Request) error {
		if !listed(r.Fingerprint) {
			return errors.Join(ErrNotEnrolled, errors.New("its fingerprint is not listed"))
		}
		return nil
	}
}

// A Binding keeps which key a serial number belongs to.
type Binding interface {
	// Bind returns the key that is bound to serial after the call: that of f if
	// none was bound before, and the change is stored when it returns.
	Bind(serial string, f identity.Fingerprint) (identity.Fingerprint, error)
}

// EnrolSecret welcomes who knows the secret of its serial number; the first
// attach binds the key to it and from then on both are needed. SecretOf returns
// the explicit secret of a serial number, or DeriveSecret of it.
func EnrolSecret(secretOf func(serial string) (Secret, bool), b Binding) Enrolment {
	return func(r *Request) error {
		secret, known := secretOf(r.Serial)
		// An unknown serial number costs the same time as a wrong secret.
		if proven := r.Proves(secret); !known || !proven {
			return errors.Join(ErrNotEnrolled, errors.New("serial number unknown or secret wrong"))
		}
		bound, err := b.Bind(r.Serial, r.Fingerprint)
		if err != nil {
			return err
		}
		if bound != r.Fingerprint {
			return errors.Join(ErrNotEnrolled, errors.New("its serial number is bound to another key"))
		}
		return nil
	}
}
