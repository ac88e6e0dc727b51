package attach

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"net/netip"

	"github.com/fxamacker/cbor/v2"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A Kind says what a control message is. A receiver acknowledges and ignores a
// kind that it does not know, and keys of a body that it does not know.
type Kind uint16

// The kinds of the link itself. Those from 64 on (see KindIntroduction) are handed
// to whoever owns Link or Node and not looked into.
const (
	KindAttach    Kind = 1 // device: first message, proves its key
	KindIntroduce Kind = 2 // client: first message, asks for a device
	KindAttached  Kind = 3 // node: the device is attached
	KindRefused   Kind = 4 // node: it is not, or not any longer
	KindObserved  Kind = 5 // node: the address you are seen at now
	KindRelocate  Kind = 6 // node: locate and attach anew, soon
)

// kindNames are those of docs/attach.md.
var kindNames = map[Kind]string{
	KindAttach: "ATTACH", KindIntroduce: "INTRODUCE", KindAttached: "ATTACHED", KindRefused: "REFUSED", KindObserved: "OBSERVED",
	KindRelocate: "RELOCATE", KindIntroduction: "INTRODUCTION", KindAnswer: "ANSWER", KindIntroduced: "INTRODUCED",
	KindNotIntroduced: "NOT INTRODUCED", KindCandidates: "CANDIDATES", KindRelay: "RELAY", KindEvent: "EVENT", KindEventTaken: "EVENT TAKEN",
	KindPresence: "PRESENCE", KindTicket: "TICKET", KindTicketGranted: "TICKET GRANTED",
	KindCall: "CALL", KindCallNumber: "CALL NUMBER", KindFind: "FIND", KindFound: "FOUND",
}

func (k Kind) String() string {
	if name, ok := kindNames[k]; ok {
		return name
	}
	return fmt.Sprintf("kind %d", uint16(k))
}

// firstOwned is the first kind that the owner of Link or Node is handed.
const firstOwned = KindIntroduction

// Limits of what is inside a message, beside MaxBody for the whole.
const (
	maxSerial     = 64
	maxPass       = 256
	maxCandidates = 8
)

// Attach is the body of KindAttach. The id is not sent: it follows from the key,
// and a field that could disagree would be one more to check.
type Attach struct {
	PublicKey []byte `cbor:"1,keyasint"`           // SubjectPublicKeyInfo, DER
	Signature []byte `cbor:"2,keyasint"`           // over the handshake hash, purpose "attach"
	Serial    string `cbor:"3,keyasint,omitempty"` // factory serial number, at most 64 bytes
	Proof     []byte `cbor:"4,keyasint,omitempty"` // 32 bytes: HMAC under the factory secret
	Previous  []byte `cbor:"5,keyasint,omitempty"` // reset token of the attach that this one replaces
	Interval  uint16 `cbor:"6,keyasint,omitempty"` // seconds between keep-alives
	Firmware  string `cbor:"7,keyasint,omitempty"` // at most 64 bytes, for the operator
	Boots     uint32 `cbor:"8,keyasint,omitempty"` // boot counter, for the operator
}

// Introduce is the body of KindIntroduce. Signature covers IntroductionBytes.
type Introduce struct {
	PublicKey  []byte      `cbor:"1,keyasint"`
	Signature  []byte      `cbor:"2,keyasint"`
	Device     identity.ID `cbor:"3,keyasint,omitempty"` // never empty but inside INTRODUCTION
	Candidates [][]byte    `cbor:"4,keyasint,omitempty"` // own addresses, at most 8: 6 or 18 bytes each
	Pass       []byte      `cbor:"5,keyasint,omitempty"` // for the device, at most 256 bytes
	Presence   []byte      `cbor:"6,keyasint,omitempty"` // for the node, at most 256 bytes

	// Prove makes Pass for each handshake, in a client whose pass is good for one only.
	Prove func(handshake [32]byte) ([]byte, error) `cbor:"-" json:"-"`
}

// Attached is the body of KindAttached.
type Attached struct {
	Token    []byte  `cbor:"1,keyasint"`           // 16 bytes: what a RESET must show
	Observed Address `cbor:"2,keyasint"`           // the address the device is seen at; none in a stream
	Unix     uint64  `cbor:"3,keyasint,omitempty"` // seconds, for boards without a clock; 0 is unknown
}

// Refused is the body of KindRefused.
type Refused struct {
	Code  Code   `cbor:"1,keyasint"`
	After uint16 `cbor:"2,keyasint,omitempty"` // seconds before another try
}

// A Code says as much as a refused peer may know.
type Code uint8

// The codes. A bad signature, an unlisted key and a wrong secret are one code.
const (
	CodeAccepted  Code = 0
	CodeRefused   Code = 1
	CodeDuplicate Code = 2 // a live device with this key is attached
	CodeBusy      Code = 3 // the node is full or going away: another may serve
)

func (c Code) String() string {
	switch c {
	case CodeAccepted:
		return "accepted"
	case CodeDuplicate:
		return "duplicate"
	case CodeBusy:
		return "busy"
	}
	return "refused"
}

// Observed is the body of KindObserved.
type Observed struct {
	Address Address `cbor:"1,keyasint"` // none in a stream
}

// Relocate is the body of KindRelocate.
type Relocate struct {
	Spread uint16 `cbor:"1,keyasint"` // seconds over which devices spread themselves
}

// Strict where it costs nothing: a body is one map with distinct keys, definite
// lengths, no tags. The limits are the smallest that the library can be given.
var (
	encoding = must(cbor.CoreDetEncOptions().EncMode())
	decoding = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 4, MaxArrayElements: 16, MaxMapPairs: 16, UTF8: cbor.UTF8RejectInvalid,
	}.DecMode())
)

// must is for options that are constants: a test runs into it or nobody does.
func must[T any](mode T, err error) T {
	if err != nil {
		panic(err)
	}
	return mode
}

// Encode returns the body of a control message in the encoding of this protocol (RFC 8949 §4.2.1). It returns ErrTooLarge for
// what does not fit into a packet.
func Encode(v any) ([]byte, error) {
	b, err := encoding.Marshal(v)
	if err == nil && len(b) > MaxBody {
		err = ErrTooLarge
	}
	return b, err
}

// Decode reads a body that Encode made, under the limits of this protocol: those
// of a body in general, and those of the type of v, if it is one of this package.
// Signatures are not checked by it. It returns ErrMalformed or ErrTooLarge.
func Decode(body []byte, v any) error {
	if len(body) > MaxBody {
		return ErrTooLarge
	}
	if err := decoding.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if limited, ok := v.(interface{ check() error }); ok {
		return limited.check()
	}
	return nil
}

func (a *Attach) check() error {
	if len(a.Serial) > maxSerial || len(a.Firmware) > maxSerial || len(a.Proof) != 0 && len(a.Proof) != 32 ||
		len(a.Previous) != 0 && len(a.Previous) != tokenSize {
		return ErrMalformed
	}
	return nil
}

func (i *Introduce) check() error {
	if err := i.checkSizes(); err != nil {
		return err
	}
	_, err := identity.ParseID(string(i.Device))
	return err
}

func (i *Introduce) checkSizes() error {
	if len(i.Pass) > maxPass || len(i.Presence) > maxPass {
		return ErrMalformed
	}
	return checkCandidates(i.Candidates)
}

// Addresses returns the candidates.
func (i *Introduce) Addresses() []netip.AddrPort { return decodeAddresses(i.Candidates) }

// IntroductionBytes is what a client signs, purpose "introduce": the handshake,
// the device, itself and where it wants to be met, so that a basestation cannot
// aim a device's packets elsewhere with a borrowed fingerprint.
//
//	0  32 handshake hash
//	32 26 id of the device
//	58 32 fingerprint of the client
//	90 .. candidates, each with its length in one byte before it
func IntroductionBytes(hash [32]byte, client identity.Fingerprint, i *Introduce) []byte {
	b := append(append(append([]byte(nil), hash[:]...), i.Device...), client[:]...)
	for _, c := range i.Candidates {
		b = append(append(b, byte(len(c))), c...)
	}
	return b
}

// CheckIntroduction verifies an introduction as a node or a device must before
// it does anything for it, and returns who asks. Whether that one may is not
// said by it.
func CheckIntroduction(hash [32]byte, i *Introduce) (identity.Fingerprint, error) {
	if err := i.check(); err != nil {
		return identity.Fingerprint{}, err
	}
	public, f, err := parseKey(i.PublicKey)
	if err != nil {
		return f, err
	}
	return f, identity.Verify(public, identity.PurposeIntroduce, IntroductionBytes(hash, f, i), i.Signature)
}

func parseKey(der []byte) (crypto.PublicKey, identity.Fingerprint, error) {
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, identity.Fingerprint{}, fmt.Errorf("%w: public key: %w", ErrMalformed, err)
	}
	f, err := identity.FingerprintOf(public)
	return public, f, err
}

// proveDevice makes the ATTACH of a device for one handshake.
func proveDevice(k *identity.Key, hash [32]byte, f Factory) (a Attach, err error) {
	if a.PublicKey, err = x509.MarshalPKIXPublicKey(k.Public()); err != nil {
		return a, err
	}
	if f.Serial != "" {
		a.Serial, a.Proof = f.Serial, secretProof(f.Secret, hash, f.Serial, k.Fingerprint())
	}
	a.Signature, err = k.Sign(identity.PurposeAttach, hash[:])
	return a, err
}

// proveClient completes and signs an INTRODUCE for one handshake.
func proveClient(k *identity.Key, hash [32]byte, i Introduce) (Introduce, error) {
	var err error
	if i.PublicKey, err = x509.MarshalPKIXPublicKey(k.Public()); err != nil {
		return i, err
	}
	if i.Prove != nil {
		if i.Pass, err = i.Prove(hash); err != nil {
			return i, err
		}
	}
	i.Signature, err = k.Sign(identity.PurposeIntroduce, IntroductionBytes(hash, k.Fingerprint(), &i))
	if err == nil {
		err = i.fits()
	}
	return i, err
}
