package attach

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"net/netip"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A Transport says what addresses are for.
type Transport uint8

// The transports.
const (
	UDP Transport = 0
	TCP Transport = 1
)

func (t Transport) String() string {
	if t == TCP {
		return "tcp"
	}
	return "udp"
}

// An Offer says where device or client is to be met. It is signed by who offers, so that
// a basestation can neither forge candidates nor swap a key; only the addresses at
// which it sees the two come from it. Make it with SignOffer; the zero value
// offers nothing.
type Offer struct {
	PublicKey  []byte    `cbor:"1,keyasint,omitempty"` // of the device, SubjectPublicKeyInfo; a client's is in its INTRODUCE
	Signature  []byte    `cbor:"2,keyasint,omitempty"` // over offerBytes, purpose "candidates"
	Transport  Transport `cbor:"3,keyasint,omitempty"`
	Candidates [][]byte  `cbor:"4,keyasint,omitempty"` // at most 8: 6 or 18 bytes each
}

// IsZero reports whether nothing is offered.
func (o Offer) IsZero() bool {
	return len(o.PublicKey) == 0 && len(o.Signature) == 0 && o.Transport == 0 && len(o.Candidates) == 0
}

// SignOffer makes the offer of k to the other side of an introduction; of more than 8
// addresses it takes the first. Device is the id of the device, whether it is k
// that offers or the client.
func SignOffer(k *identity.Key, hash [32]byte, device identity.ID, to identity.Fingerprint, t Transport, addresses []netip.AddrPort) (o Offer, err error) {
	o.Transport, o.Candidates = t, EncodeAddresses(addresses)
	if k.ID() == device {
		if o.PublicKey, err = x509.MarshalPKIXPublicKey(k.Public()); err != nil {
			return Offer{}, err
		}
	}
	o.Signature, err = k.Sign(identity.PurposeCandidates, o.bytes(hash, device, k.Fingerprint(), to))
	if err != nil {
		return Offer{}, fmt.Errorf("sign candidates: %w", err)
	}
	return o, nil
}

// CheckDevice verifies, as a client, that the device with this id offers this for this
// introduction, and returns its fingerprint.
func (o *Offer) CheckDevice(hash [32]byte, device identity.ID, client identity.Fingerprint) (identity.Fingerprint, error) {
	public, f, err := parseKey(o.PublicKey)
	if err != nil {
		return f, err
	}
	if err := identity.PinID(device)(f); err != nil {
		return f, err
	}
	return f, o.verify(public, hash, device, f, client)
}

// CheckClient verifies, as the device with this fingerprint, that the client whose key
// came with INTRODUCE offers this for this introduction.
func (o *Offer) CheckClient(hash [32]byte, device identity.Fingerprint, publicKey []byte) error {
	public, f, err := parseKey(publicKey)
	if err != nil {
		return err
	}
	return o.verify(public, hash, device.ID(), f, device)
}

func (o *Offer) verify(public crypto.PublicKey, hash [32]byte, device identity.ID, from, to identity.Fingerprint) error {
	if err := o.check(); err != nil {
		return err
	}
	return identity.Verify(public, identity.PurposeCandidates, o.bytes(hash, device, from, to), o.Signature)
}

// bytes is what is signed.
//
//	0   32 hash of the client's handshake
//	32  26 id of the device
//	58  32 fingerprint of the sender
//	90  32 fingerprint of the receiver
//	122 1  transport
//	123 .. candidates, each with its length in one byte before it
func (o *Offer) bytes(hash [32]byte, device identity.ID, from, to identity.Fingerprint) []byte {
	b := append(append([]byte(nil), hash[:]...), device...)
	b = append(append(append(b, from[:]...), to[:]...), byte(o.Transport))
	for _, c := range o.Candidates {
		b = append(append(b, byte(len(c))), c...)
	}
	return b
}

func (o *Offer) check() error {
	if o.Transport > TCP {
		return ErrMalformed
	}
	return checkCandidates(o.Candidates)
}

// Addresses returns the candidates.
func (o *Offer) Addresses() []netip.AddrPort { return decodeAddresses(o.Candidates) }

// EncodeAddresses returns addresses as Introduce and Offer carry them: the first 8 that
// are valid and not those of a stream.
func EncodeAddresses(addresses []netip.AddrPort) (all [][]byte) {
	for _, a := range addresses {
		if !a.IsValid() || a.Port() == 0 || IsStream(a) || len(all) == maxCandidates {
			continue
		}
		all = append(all, appendAddress(nil, a))
	}
	return all
}

func decodeAddresses(encoded [][]byte) (all []netip.AddrPort) {
	for _, c := range encoded {
		if a, err := parseAddress(c); err == nil {
			all = append(all, a)
		}
	}
	return all
}

func checkCandidates(encoded [][]byte) error {
	if len(encoded) > maxCandidates {
		return ErrMalformed
	}
	for _, c := range encoded {
		if _, err := parseAddress(c); err != nil {
			return err
		}
	}
	return nil
}
