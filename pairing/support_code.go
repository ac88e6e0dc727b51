package pairing

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"github.com/keyholed/keyhole/pairing/spake2plus"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A SupportCode is the code that a person reads to a hotline: six decimal digits, or
// four where the hotline proves the vendor's key as well; the zero value is none. It
// prints only by Grouped. Two are equal with ==.
type SupportCode struct{ digits string }

// ErrNotSupportCode means that what was typed cannot be a support code.
var ErrNotSupportCode = errors.New("not a support code: want the 6 digits that the device shows, such as 204 862")

// ParseSupportCode reads what a person typed. Spaces and dashes do not matter.
func ParseSupportCode(typed string) (SupportCode, error) {
	digits, ok := digitsOf(typed)
	if !ok || len(digits) != SupportDigits && len(digits) != SupportDigitsShort {
		return SupportCode{}, ErrNotSupportCode
	}
	return SupportCode{digits}, nil
}

// digitsOf takes what people put between digits out of a short text.
func digitsOf(typed string) (digits string, ok bool) {
	if len(typed) > 8*SupportDigits {
		return "", false
	}
	digits = strings.NewReplacer(" ", "", "-", "", "\t", "", "\u00a0", "", "\u2013", "", "\r", "", "\n", "").Replace(typed)
	return digits, strings.Trim(digits, "0123456789") == ""
}

// Grouped is how people read it, "204 862" or "2048"; "" for none.
func (c SupportCode) Grouped() string {
	if len(c.digits) != SupportDigits {
		return c.digits
	}
	return c.digits[:SupportDigits/2] + " " + c.digits[SupportDigits/2:]
}

// IsZero tells that there is no code.
func (c SupportCode) IsZero() bool { return c.digits == "" }

// Format keeps it out of logs, whatever the verb.
func (c SupportCode) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[code]") }

// String keeps it out of logs too.
func (c SupportCode) String() string { return "[code]" }

// MarshalText keeps it out of JSON.
func (c SupportCode) MarshalText() ([]byte, error) { return []byte("[code]"), nil }

func randomSupportCode(length int) SupportCode {
	most := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(length)), nil)
	n, err := rand.Int(rand.Reader, most)
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return SupportCode{fmt.Sprintf("%0*d", length, n)}
}

// A supportSecret is a code with what the device checks it by. It never changes.
type supportSecret struct {
	code   SupportCode
	salt   []byte
	record *spake2plus.Record
}

// newSupportSecret draws a code and stretches it, which takes a moment.
func newSupportSecret(device identity.Fingerprint, length int) *supportSecret {
	s := &supportSecret{code: randomSupportCode(length), salt: make([]byte, SaltBytes)}
	rand.Read(s.salt)
	s.record = secretsOf(s.code.digits, device, s.salt).Record()
	return s
}

// supportDomain begins the context of the exchange: protocol version and mode.
const supportDomain = "keyhole/1 support"

// A VendorProof shows that the vendor's support desk asks: a signature by the key
// whose fingerprint is in the device's configuration. The zero value is none.
//
// It is made over this session, so that it is nothing in another:
//
//	0  2 bytes length, fingerprint of the device
//	34 2 bytes length, fingerprint of the client
//	68 2 bytes length, TLS exporter (ExporterLabel)
type VendorProof struct {
	PublicKey []byte // SubjectPublicKeyInfo, DER
	Signature []byte // purpose identity.PurposeSupport
}

// Limits of a VendorProof: RSA of 8,192 bits fits.
const (
	maxVendorKeyBytes = 2048
	maxSignatureBytes = 1024
)

// ErrVendor means that a proof is not one of the vendor's key on this session.
var ErrVendor = errors.New("not proven by the vendor's support key")

// NewVendorProof makes the proof of the vendor's key for one session between a client
// and a device.
func NewVendorProof(vendor *identity.Key, client, device identity.Fingerprint, exporter []byte) (p VendorProof, err error) {
	if p.PublicKey, err = x509.MarshalPKIXPublicKey(vendor.Public()); err != nil {
		return VendorProof{}, err
	}
	b := binding{device: device, client: client, exporter: exporter}
	if p.Signature, err = vendor.Sign(identity.PurposeSupport, b.vendorMessage()); err != nil {
		return VendorProof{}, fmt.Errorf("sign with the vendor's support key: %w", err)
	}
	return p, nil
}

func (b *binding) vendorMessage() []byte {
	var m []byte
	for _, field := range [][]byte{b.device[:], b.client[:], b.exporter} {
		m = binary.BigEndian.AppendUint16(m, uint16(len(field)))
		m = append(m, field...)
	}
	return m
}

// check returns ErrVendor unless the key with this fingerprint has signed.
func (p VendorProof) check(vendor identity.Fingerprint, b *binding) error {
	if len(p.PublicKey) > maxVendorKeyBytes || len(p.Signature) > maxSignatureBytes {
		return ErrVendor
	}
	var public crypto.PublicKey
	public, err := x509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil {
		return ErrVendor
	}
	f, err := identity.FingerprintOf(public)
	if err != nil || f != vendor || identity.Verify(public, identity.PurposeSupport, b.vendorMessage(), p.Signature) != nil {
		return ErrVendor
	}
	return nil
}
