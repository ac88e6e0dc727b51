// Package spake2plus proves to two parties that they hold one short secret,
// without giving either a way to test guesses but by asking: SPAKE2+ (RFC 9383),
// ciphersuite P256-SHA256-HKDF-SHA256-HMAC-SHA256, with key confirmation in both
// directions.
//
//	Prover (the client: w0, w1)                  Verifier (the device: w0, L = w1*G)
//	x random, X = x*G + w0*M    ---- X --------> y random, Y = y*G + w0*N
//	                            <--- Y, cV ----- Z = y*(X - w0*M), V = y*L
//	Z = x*(Y - w0*N), V = w1*(Y - w0*N)
//	checks cV                   ---- cP -------> checks cP
//
// It is for package pairing, which stretches what a person types into the 80
// bytes of NewSecrets and says in Parties what both ends must agree on. It counts
// no tries, keeps no time and speaks to nobody. K_shared is not derived: what the
// proof is about is the TLS session named in the context, which has keys already.
//
// # Time
//
// Curve arithmetic is filippo.io/nistec's, which is constant time. Scalars are 32
// bytes and never a math/big.Int. The one operation on scalars of our own is the
// reduction in reduce: a fixed number of rounds of shift and masked subtraction.
// Negatives are not computed: -M and -N are constants. What may take different
// time is only what both sides or a listener know: malformed shares and the final
// yes or no.
package spake2plus

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/nistec"
)

// Sizes in bytes.
const (
	// SecretBytes is what NewSecrets wants: w0s and w1s of RFC 9383 §3.2, each
	// the 32 bytes of the group's order and 8 more, so that reducing them leaves
	// a bias of 2^-64.
	SecretBytes = 2 * wideBytes

	// ShareBytes is an uncompressed point of P-256.
	ShareBytes = 65

	// ConfirmBytes is an HMAC-SHA256.
	ConfirmBytes = sha256.Size
)

var (
	// ErrShare means that a share is no point of the curve in uncompressed form,
	// or one that only an attacker sends.
	ErrShare = errors.New("the share is not a point of P-256 in uncompressed form")

	// ErrConfirm means that the other side does not hold the same secret, or
	// speaks of other parties.
	ErrConfirm = errors.New("the other side has not proven the secret")

	// ErrUsed means that a half of an exchange was used twice.
	ErrUsed = errors.New("this half of an exchange was used already")
)

// silent keeps what embeds it out of logs, whatever the verb.
type silent struct{}

// Format is part of fmt.Formatter.
func (silent) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[secret]") }

// Parties is what both sides must agree on for their proofs to fit. All fields
// may be empty; their lengths are part of the proof.
type Parties struct {
	Context, Prover, Verifier []byte
}

// Secrets is what the prover holds. It does not print.
type Secrets struct {
	silent
	w0, w1 scalar
}

// NewSecrets reduces the SecretBytes of a password hash to w0 and w1.
func NewSecrets(hash []byte) (*Secrets, error) {
	if len(hash) != SecretBytes {
		return nil, fmt.Errorf("spake2plus: the hash has %d bytes, want %d", len(hash), SecretBytes)
	}
	return &Secrets{w0: reduce(hash[:wideBytes]), w1: reduce(hash[wideBytes:])}, nil
}

// Record is what the verifier holds: enough to check a prover, not to be one. It
// does not print, because a short secret can be found from it by trying.
type Record struct {
	silent
	w0 scalar
	l  *nistec.P256Point
}

// Record returns the verifier's side of the secrets.
func (s *Secrets) Record() *Record { return &Record{w0: s.w0, l: base(s.w1)} }

// CheckShare returns ErrShare for what cannot be the other side's share. It
// looks at no secret.
func CheckShare(share []byte) error {
	_, err := point(share)
	return err
}

// A Prover is one exchange from the prover's side. It is not for several
// goroutines.
type Prover struct {
	silent
	secrets *Secrets
	parties Parties
	x       scalar
	share   []byte
	used    bool
}

// NewProver begins an exchange.
func NewProver(s *Secrets, p Parties) *Prover { return newProver(s, p, random()) }

func newProver(s *Secrets, p Parties, x scalar) *Prover {
	share := nistec.NewP256Point().Add(base(x), times(fixed().m, s.w0)).Bytes()
	return &Prover{secrets: s, parties: p, x: x, share: share}
}

// Share is the prover's first message.
func (p *Prover) Share() []byte { return slices.Clone(p.share) }

// Finish checks the verifier's proof and returns the prover's own, which must
// not be computed for a verifier that has proven nothing: it could be tested
// against guesses. It works once; then it returns ErrUsed.
func (p *Prover) Finish(share, confirm []byte) ([]byte, error) {
	if p.used {
		return nil, ErrUsed
	}
	p.used = true
	y, err := point(share)
	if err != nil {
		return nil, err
	}
	yn := nistec.NewP256Point().Add(y, times(fixed().minusN, p.secrets.w0))
	z, v := times(yn, p.x).Bytes(), times(yn, p.secrets.w1).Bytes()
	k, err := schedule(p.parties, p.share, share, z, v, p.secrets.w0)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(mac(k.confirmV, p.share), confirm) {
		return nil, ErrConfirm
	}
	return mac(k.confirmP, share), nil
}

// A Verifier is one exchange from the verifier's side. It is not for several
// goroutines.
type Verifier struct {
	silent
	share, confirm, want []byte
	used                 bool
}

// Respond answers a prover's share. What it makes depends on the secret: whoever
// limits guesses counts one before Share and Confirm leave.
func Respond(r *Record, p Parties, share []byte) (*Verifier, error) {
	return respond(r, p, share, random())
}

func respond(r *Record, p Parties, shareP []byte, y scalar) (*Verifier, error) {
	x, err := point(shareP)
	if err != nil {
		return nil, err
	}
	shareV := nistec.NewP256Point().Add(base(y), times(fixed().n, r.w0)).Bytes()
	z := times(nistec.NewP256Point().Add(x, times(fixed().minusM, r.w0)), y).Bytes()
	k, err := schedule(p, shareP, shareV, z, times(r.l, y).Bytes(), r.w0)
	if err != nil {
		return nil, err
	}
	return &Verifier{share: shareV, confirm: mac(k.confirmV, shareP), want: mac(k.confirmP, shareV)}, nil
}

// Share and Confirm are the verifier's message.
func (v *Verifier) Share() []byte { return slices.Clone(v.share) }

// Confirm is the proof that goes with Share.
func (v *Verifier) Confirm() []byte { return slices.Clone(v.confirm) }

// Check returns nil if the prover has proven the secret. It works once; then it
// returns ErrUsed.
func (v *Verifier) Check(confirm []byte) error {
	if v.used {
		return ErrUsed
	}
	v.used = true
	if !hmac.Equal(v.want, confirm) {
		return ErrConfirm
	}
	return nil
}

// keys are what RFC 9383 §3.4 derives.
type keys struct{ main, confirmP, confirmV []byte }

// schedule is RFC 9383 §3.3 and §3.4. A z or v at infinity has one byte, and
// nobody honest arrives there.
func schedule(p Parties, shareP, shareV, z, v []byte, w0 scalar) (keys, error) {
	if len(shareV) != ShareBytes || len(z) != ShareBytes || len(v) != ShareBytes {
		return keys{}, ErrShare
	}
	var transcript []byte
	for _, field := range [][]byte{p.Context, p.Prover, p.Verifier, fixed().m.Bytes(), fixed().n.Bytes(), shareP, shareV, z, v, w0[:]} {
		transcript = binary.LittleEndian.AppendUint64(transcript, uint64(len(field)))
		transcript = append(transcript, field...)
	}
	main := sha256.Sum256(transcript)
	confirm, err := hkdf.Key(sha256.New, main[:], nil, "ConfirmationKeys", 2*sha256.Size)
	if err != nil {
		return keys{}, err
	}
	return keys{main: main[:], confirmP: confirm[:sha256.Size], confirmV: confirm[sha256.Size:]}, nil
}

func mac(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}

func random() scalar {
	var wide [wideBytes]byte
	rand.Read(wide[:])
	return reduce(wide[:])
}
