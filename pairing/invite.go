package pairing

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A Token is the secret of an invite. It does not print; a Link is its way out.
//
// From token and device id both sides derive one Ed25519 key (RFC 8032), and the
// device keeps the public half alone: what is in its store, its log and its
// backups lets nobody in.
//
//	seed = HKDF-SHA256(token, salt: id of the device, info: "keyhole/1 invite", 32 bytes)
//	P    = public key of seed
//	name = first 8 bytes of SHA-256("keyhole/1 invite name" 00 P)
//
// The holder proves himself twice, each time with a signature that is good for
// one handshake of one client only:
//
//	pass   to be introduced from beyond the LAN. It goes through the basestation,
//	       which learns nothing from it and cannot use it for anybody else:
//
//	       01 | name 8 | signature 64 over
//	       "keyhole/1 invite-pass" 00  0020 H  0020 Fc
//
//	proof  to be entered, in the session with the device:
//
//	       "keyhole/1 invite-proof" 00  0020 Fd  0020 Fc  0020 E
//
// H is the hash of the client's handshake with its node, Fd and Fc the fingerprints
// of device and client, E the exporter of their TLS session under ExporterLabel.
// The device's own proof is its key in that session: its id is in the link, so a
// client never speaks to another one. Whoever stands between has two sessions with
// two exporters, and a proof that fits neither.
type Token struct{ secret [TokenBytes]byte }

// NewToken draws one from the random pool.
func NewToken() (t Token) {
	rand.Read(t.secret[:])
	return t
}

func (t Token) bytes() []byte { return append([]byte(nil), t.secret[:]...) }

// Format keeps it out of logs, whatever the verb.
func (t Token) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[token]") }

// String keeps it out of logs too.
func (t Token) String() string { return "[token]" }

// MarshalText keeps it out of JSON.
func (t Token) MarshalText() ([]byte, error) { return []byte("[token]"), nil }

// An InviteName tells the open invites of a device apart. It is no secret.
type InviteName [InviteNameBytes]byte

// ErrNotInvite means that a text is no name of an invite.
var ErrNotInvite = errors.New("not the name of an invite: want 16 hexadecimal digits")

// ParseInviteName reads 16 hexadecimal digits.
func ParseInviteName(s string) (n InviteName, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(n) {
		return n, ErrNotInvite
	}
	return InviteName(b), nil
}

// String is 16 hexadecimal digits.
func (n InviteName) String() string { return hex.EncodeToString(n[:]) }

// A Verifier is what the device keeps of an invite: a public key. It is no secret.
type Verifier [ed25519.PublicKeySize]byte

// Name of the invite.
func (v Verifier) Name() InviteName {
	sum := sha256.Sum256(append([]byte("keyhole/1 invite name\x00"), v[:]...))
	return InviteName(sum[:InviteNameBytes])
}

// Purposes of the two signatures.
const (
	purposePass  identity.Purpose = "invite-pass"
	purposeProof identity.Purpose = "invite-proof"
)

const (
	passInvite = 1 // first byte of a pass; others are of later versions

	// ProofBytes is an Ed25519 signature.
	ProofBytes = ed25519.SignatureSize

	// PassBytes is the size of a pass.
	PassBytes = 1 + InviteNameBytes + ProofBytes
)

// key is the invite's on a device.
func (t Token) key(device identity.ID) ed25519.PrivateKey {
	seed, err := hkdf.Key(sha256.New, t.secret[:], []byte(device), "keyhole/1 invite", ed25519.SeedSize)
	if err != nil {
		panic(err) // only for a longer seed
	}
	return ed25519.NewKeyFromSeed(seed)
}

// Verifier returns what a device keeps.
func (t Token) Verifier(device identity.ID) Verifier {
	return Verifier(t.key(device).Public().(ed25519.PublicKey))
}

func (t Token) sign(device identity.ID, p identity.Purpose, message []byte) ([]byte, error) {
	k, err := identity.New(t.key(device))
	if err != nil {
		return nil, err
	}
	return k.Sign(p, message)
}

// fields are a message: each with its length in 2 bytes before it.
func fields(list ...[]byte) (m []byte) {
	for _, f := range list {
		m = append(binary.BigEndian.AppendUint16(m, uint16(len(f))), f...)
	}
	return m
}

// Pass is what an introduction by this client with this handshake carries.
func (t Token) Pass(device identity.ID, client identity.Fingerprint, handshake [32]byte) ([]byte, error) {
	signature, err := t.sign(device, purposePass, fields(handshake[:], client[:]))
	if err != nil {
		return nil, err
	}
	name := t.Verifier(device).Name()
	return append(append([]byte{passInvite}, name[:]...), signature...), nil
}

// PassName returns whose pass it claims to be; false: it is none of an invite.
func PassName(pass []byte) (n InviteName, ok bool) {
	if len(pass) != PassBytes || pass[0] != passInvite {
		return n, false
	}
	return InviteName(pass[1 : 1+InviteNameBytes]), true
}

// CheckPass tells whether the holder of the token made the pass for this client and
// this handshake. It is all that a device needs: nobody else is asked.
func (v Verifier) CheckPass(pass []byte, client identity.Fingerprint, handshake [32]byte) bool {
	name, ok := PassName(pass)
	return ok && name == v.Name() &&
		identity.Verify(ed25519.PublicKey(v[:]), purposePass, fields(handshake[:], client[:]), pass[1+InviteNameBytes:]) == nil
}

func (b *binding) proofMessage() []byte { return fields(b.device[:], b.client[:], b.exporter) }

// ProveInvite is the client's half of invite mode: what the InviteRequest carries,
// between the client's own key and the key that the device proved on this
// session, whose exporter it is.
func ProveInvite(own, device identity.Fingerprint, exporter []byte, t Token) (InviteName, []byte, error) {
	if own.IsZero() || device.IsZero() {
		return InviteName{}, nil, errors.New("pair: fingerprint missing")
	}
	if len(exporter) != ExporterBytes {
		return InviteName{}, nil, fmt.Errorf("pair: the exporter has %d bytes, want %d", len(exporter), ExporterBytes)
	}
	b := binding{device: device, client: own, exporter: exporter}
	proof, err := t.sign(device.ID(), purposeProof, b.proofMessage())
	return t.Verifier(device.ID()).Name(), proof, err
}

func (v Verifier) checkProof(b *binding, proof []byte) bool {
	return identity.Verify(ed25519.PublicKey(v[:]), purposeProof, b.proofMessage(), proof) == nil
}
