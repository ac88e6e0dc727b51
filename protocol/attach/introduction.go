package attach

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"net/netip"

	"github.com/keyholed/keyhole/protocol/identity"
)

// The messages of an introduction.
//
//	client                     node                       device
//	  | INTRODUCE -------------->| INTRODUCTION ------------>|  may he ask?
//	  |                          |<------------------ ANSWER |  yes: and punches
//	  |<------------- INTRODUCED |                           |
//	  | CANDIDATES ------------->|-------------------------->|  as soon as TCP addresses are known
//	  |<-------------------------|<--------------- CANDIDATES|
//	  | (leg with its ticket) -->| RELAY ------------------->|  (leg with the other ticket)
//	  | TICKET ----------------->|                           |  one leg more
//	  |<--------- TICKET GRANTED |                           |
const (
	KindIntroduction  Kind = 64 // node to device: somebody asks for you
	KindAnswer        Kind = 65 // device to node
	KindIntroduced    Kind = 66 // node to client: yes
	KindNotIntroduced Kind = 67 // node to client: every no
	KindCandidates    Kind = 68 // device or client, by way of the node: further addresses
	KindRelay         Kind = 69 // node to device: a leg waits for you
	KindEvent         Kind = 70 // device to node: to be pushed to the absent
	KindEventTaken    Kind = 71 // node to device: stored, at least once
	KindPresence      Kind = 72 // device to node: presence passes below this epoch are void
	KindTicket        Kind = 73 // client to node: one more relay leg, please
	KindTicketGranted Kind = 74 // node to client
)

// A Verdict is the word on an introduction.
type Verdict uint8

// The verdicts. Unknown, offline and refused are all VerdictNo, unless the client showed a
// presence pass of the device: then offline is VerdictOffline.
const (
	VerdictYes     Verdict = 0
	VerdictNo      Verdict = 1
	VerdictOffline Verdict = 2
)

func (v Verdict) String() string {
	switch v {
	case VerdictYes:
		return "yes"
	case VerdictOffline:
		return "offline"
	}
	return "no"
}

// Introduction is the body of KindIntroduction. Make it with NewIntroduction.
type Introduction struct {
	Request   uint64    `cbor:"1,keyasint"` // names this introduction between node and device
	Hash      Hash      `cbor:"2,keyasint"` // of the client's handshake with its node
	Introduce Introduce `cbor:"3,keyasint"` // without the id of the device, which it knows, and its presence pass
	Observed  Address   `cbor:"4,keyasint,omitzero"`
	Grant     []byte    `cbor:"5,keyasint,omitempty"` // from the vendor's service, at most 600 bytes
}

// maxGrant leaves room for the introduction of a client with a P-256 key and 8
// candidates, that has no pass of its own: a vendor answers for him.
const maxGrant = 600

// NewIntroduction is what a node sends on of a question. The id of the device and
// the pass for the node are left out, else a client with an RSA key of 4,096
// bits would not fit. Observed is the client's UDP address; the zero value or
// that of a stream is none.
func NewIntroduction(request uint64, hash [32]byte, i *Introduce, observed netip.AddrPort) Introduction {
	question := *i
	question.Device, question.Presence = "", nil
	return Introduction{Request: request, Hash: hash, Introduce: question, Observed: observedAddress(observed)}
}

// Check verifies, as the device with this id, that a client really asks for it,
// and returns who. It completes Introduce. Whether that client may ask is not
// said by it.
func (i *Introduction) Check(device identity.ID) (identity.Fingerprint, error) {
	i.Introduce.Device = device
	return CheckIntroduction(i.Hash, &i.Introduce)
}

func (i *Introduction) check() error {
	if len(i.Grant) > maxGrant || i.Introduce.Device != "" || len(i.Introduce.Presence) != 0 {
		return ErrMalformed
	}
	return i.Introduce.checkSizes()
}

// fits returns ErrTooLarge when a node could not send this question on.
func (i *Introduce) fits() error {
	longest := netip.AddrPortFrom(netip.IPv6Unspecified(), 1)
	_, err := Encode(NewIntroduction(1<<63, Hash{}, i, longest))
	return err
}

// fitsKey is fits before there is a handshake to sign.
func (i Introduce) fitsKey(public crypto.PublicKey) (err error) {
	if i.PublicKey, err = x509.MarshalPKIXPublicKey(public); err != nil {
		return err
	}
	i.Signature = make([]byte, 72) // ECDSA on P-256, the longest but for RSA
	if k, ok := public.(*rsa.PublicKey); ok {
		i.Signature = make([]byte, k.Size())
	}
	return i.fits()
}

// Answer is the body of KindAnswer. Offer is empty unless Verdict is VerdictYes.
type Answer struct {
	Request uint64  `cbor:"1,keyasint"`
	Verdict Verdict `cbor:"2,keyasint"`
	Offer   Offer   `cbor:"3,keyasint,omitzero"`
}

func (a *Answer) check() error { return a.Offer.check() }

// Introduced is the body of KindIntroduced.
type Introduced struct {
	Offer       Offer   `cbor:"1,keyasint"`           // of the device
	Observed    Address `cbor:"2,keyasint,omitzero"`  // of the device over UDP, as its node sees it
	Ticket      Ticket  `cbor:"3,keyasint,omitzero"`  // for a leg through the relay, once, within 30 s
	Certificate []byte  `cbor:"4,keyasint,omitempty"` // of the node that relays, when it is another one
}

func (i *Introduced) check() error {
	if len(i.Certificate) != 0 && (len(i.Certificate) < minCertificate || len(i.Certificate) > maxCertificate) {
		return ErrMalformed
	}
	return i.Offer.check()
}

// NotIntroduced is the body of KindNotIntroduced. Since and Reason are zero
// unless Verdict is VerdictOffline.
type NotIntroduced struct {
	Verdict Verdict     `cbor:"1,keyasint"`
	Since   uint64      `cbor:"2,keyasint,omitempty"` // the device was last heard at: seconds; 0: unknown
	Reason  CloseReason `cbor:"3,keyasint,omitempty"` // why it is gone
}

// Candidates is the body of KindCandidates. A node passes Offer on unchanged; a
// client leaves Request zero and is not told one.
type Candidates struct {
	Request uint64 `cbor:"1,keyasint,omitempty"`
	Offer   Offer  `cbor:"2,keyasint"`
}

func (c *Candidates) check() error { return c.Offer.check() }

// Relay is the body of KindRelay: the client of this introduction waits at the
// relay of the device's own node.
type Relay struct {
	Request uint64 `cbor:"1,keyasint"`
	Ticket  Ticket `cbor:"2,keyasint"`
}

func (r *Relay) check() error {
	if r.Ticket.IsZero() {
		return ErrMalformed
	}
	return nil
}

// TicketRequest is the body of KindTicket.
type TicketRequest struct{}

// TicketGranted is the body of KindTicketGranted; no ticket is a no.
type TicketGranted struct {
	Ticket Ticket `cbor:"1,keyasint,omitzero"`
}

// observedAddress is a as a peer may be told it: one in a stream is none.
func observedAddress(a netip.AddrPort) Address {
	if IsStream(a) {
		return Address{}
	}
	return Address{a}
}
