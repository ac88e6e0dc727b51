// Package identity is who somebody is: a long-lived signing key, the
// fingerprint and id that follow from it, and the TLS configurations that prove
// it. Devices and clients use the same kind of identity.
//
// It knows nothing of permission: an authenticated peer is only a fingerprint
// until the access list says more. It never looks at certificate dates or
// names, because boards boot in 1970 and a certificate here is an envelope for
// a public key.
package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// A Fingerprint is the SHA-256 of a key's SubjectPublicKeyInfo (RFC 5280
// §4.1.2.7), the same bytes as
//
//	openssl pkey -in identity.pem -pubout -outform DER | sha256sum
//
// Its text form is 64 lower-case hexadecimal digits. The zero value names no key.
type Fingerprint [sha256.Size]byte

// idBits are taken from the front of a fingerprint for an ID: 130 bits are 26
// whole base-32 characters and leave 2^65 work to find two keys with one id.
const idBits = 130

// idLength is the length of an ID in characters.
const idLength = idBits / 5

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// An ID is the name of a device: the first 130 bits of its key's fingerprint in
// lower-case base 32 (RFC 4648 §6 alphabet), 26 characters, a valid DNS label.
// Whoever holds the key proves the id; nobody has to assign it.
type ID string

// Errors of parsing and of keys that are not accepted.
var (
	ErrNotFingerprint = errors.New("not a fingerprint: want 64 hexadecimal digits")
	ErrNotID          = errors.New("not a device id: want 26 characters of a-z and 2-7")
	ErrKeyKind        = errors.New("key kind not accepted: want ECDSA P-256, Ed25519 or RSA of 2048 to 8192 bits")
)

// FingerprintOf returns the fingerprint of a public key, or ErrKeyKind for a
// key that Keyhole does not accept.
func FingerprintOf(pub crypto.PublicKey) (Fingerprint, error) {
	if err := checkKind(pub); err != nil {
		return Fingerprint{}, err
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return Fingerprint{}, err
	}
	return sha256.Sum256(spki), nil
}

// maxRSABits is where verifying gets expensive; crypto/tls refuses larger keys too.
const maxRSABits = 8192

func checkKind(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits >= 2048 && bits <= maxRSABits {
			return nil
		}
	}
	return ErrKeyKind
}

// ParseFingerprint reads the 64 hexadecimal digits of a fingerprint. Upper case
// and the colons that OpenSSL prints are accepted.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	if len(s) > 3*len(f) {
		return f, ErrNotFingerprint
	}
	s = strings.ReplaceAll(s, ":", "")
	if len(s) != hex.EncodedLen(len(f)) {
		return f, ErrNotFingerprint
	}
	if _, err := hex.Decode(f[:], []byte(s)); err != nil {
		return Fingerprint{}, ErrNotFingerprint
	}
	return f, nil
}

func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// Short is enough of the fingerprint for a log line or a list: 16 digits.
func (f Fingerprint) Short() string { return hex.EncodeToString(f[:8]) }

// IsZero reports whether f names no key.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// ID returns the id that a device with this fingerprint has.
func (f Fingerprint) ID() ID { return ID(idEncoding.EncodeToString(f[:])[:idLength]) }

// MarshalText and UnmarshalText make a Fingerprint a string in JSON and TOML.
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText accepts what ParseFingerprint accepts.
func (f *Fingerprint) UnmarshalText(text []byte) (err error) {
	*f, err = ParseFingerprint(string(text))
	return err
}

// ParseID checks the form of an id. That a peer really has it is proven by its
// key: see PinID.
func ParseID(s string) (ID, error) {
	if len(s) != idLength {
		return "", ErrNotID
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return "", ErrNotID
		}
	}
	return ID(s), nil
}

// A Pin decides whether a peer's fingerprint is the expected one.
type Pin func(Fingerprint) error

// A MismatchError says that the peer proved another key than the pinned one:
// another device at the same address, or somebody in the middle.
type MismatchError struct {
	Want string // fingerprint or id that was pinned
	Got  Fingerprint
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("the device has another key than expected: want %s, got %s", e.Want, e.Got)
}

// PinFingerprint accepts exactly the key with fingerprint want.
func PinFingerprint(want Fingerprint) Pin {
	return func(got Fingerprint) error {
		if subtle.ConstantTimeCompare(want[:], got[:]) != 1 || want.IsZero() {
			return &MismatchError{Want: want.String(), Got: got}
		}
		return nil
	}
}

// PinID accepts keys whose id is want.
func PinID(want ID) Pin {
	return func(got Fingerprint) error {
		if id := got.ID(); id != want {
			return &MismatchError{Want: string(want), Got: got}
		}
		return nil
	}
}

// TrustAsFound accepts any key. It is for a first contact only, and whoever uses
// it must tell the person that nothing was checked yet.
func TrustAsFound(Fingerprint) error { return nil }
