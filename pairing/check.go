package pairing

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/keyholed/keyhole/protocol/identity"
)

// Domains of the two hashes of button mode. One can never be taken for the
// other, nor for a signature of ours.
const (
	commitDomain = "keyhole/1 pair button commit"
	checkDomain  = "keyhole/1 pair button check"
)

// A Check is the six digits that the person compares, "012345".
type Check string

// Grouped is how people read six digits: "012 345".
func (c Check) Grouped() string {
	if len(c) != checkDigits {
		return string(c)
	}
	return string(c[:checkDigits/2] + " " + c[checkDigits/2:])
}

// binding is what both sides must agree on for their digits to be equal.
type binding struct {
	device, client identity.Fingerprint
	exporter       []byte // ExporterBytes
}

// hash returns SHA-256 of a message.
func (b *binding) hash(domain string, nonces ...[]byte) [sha256.Size]byte {
	return sha256.Sum256(b.message(domain, nonces...))
}

// message is the layout drawn in the package comment.
func (b *binding) message(domain string, nonces ...[]byte) []byte {
	m := append([]byte(domain), 0)
	for _, field := range append([][]byte{b.device[:], b.client[:], b.exporter}, nonces...) {
		m = binary.BigEndian.AppendUint16(m, uint16(len(field)))
		m = append(m, field...)
	}
	return m
}

func (b *binding) commitment(client []byte) [sha256.Size]byte {
	return b.hash(commitDomain, client)
}

// opens tells whether a nonce is the one that was committed to.
func (b *binding) opens(commitment, client []byte) bool {
	want := b.commitment(client)
	return subtle.ConstantTimeCompare(want[:], commitment) == 1
}

func (b *binding) check(client, device []byte) Check {
	h := b.hash(checkDomain, client, device)
	n := binary.BigEndian.Uint64(h[:8]) % checkModulus
	return Check(fmt.Sprintf("%0*d", checkDigits, n))
}
