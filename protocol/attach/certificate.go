package attach

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/keyholed/keyhole/protocol/identity"
)

// Certificate limits.
const (
	maxNodeAddresses = 3 // one of each family, and one more port
	certificateHead  = 1 + 8 + 8 + keySize + 1
	minCertificate   = certificateHead + 1 + 6 + ed25519.SignatureSize
	maxCertificate   = certificateHead + maxNodeAddresses*(1+18) + ed25519.SignatureSize
)

// A Certificate is what a root key says of a node.
//
//	0  1  1, the version of this layout
//	1  8  generation
//	9  8  floor: the oldest generation that this root still stands for
//	17 32 X25519 key of the node
//	49 1  number of addresses, 1 to 3
//	50 .. addresses: one byte of length (6 or 18), IP, port
//	.. 64 Ed25519 signature of all before it, purpose "node"
//
// It has no dates, since boards boot in 1970. What ends a certificate is a
// later one: a device keeps the highest floor it has seen of each root (in
// Roots) and takes nothing below. A node that was lost is retired by the next
// certificates, signed with a floor above its generation.
type Certificate struct {
	Generation uint64
	Floor      uint64
	Key        [32]byte
	Addresses  []netip.AddrPort
}

// Errors of certificates.
var (
	ErrCertificate = errors.New("not a node certificate of a pinned root key")
	ErrRetired     = errors.New("the node's certificate is of a generation that its root has retired")
)

func (c Certificate) appendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, 1), c.Generation)
	b = binary.BigEndian.AppendUint64(b, c.Floor)
	b = append(append(b, c.Key[:]...), byte(len(c.Addresses)))
	for _, a := range c.Addresses {
		at := len(b)
		b = appendAddress(append(b, 0), a)
		b[at] = byte(len(b) - at - 1)
	}
	return b
}

// SignCertificate returns the bytes of a certificate signed by a root key, which
// must be Ed25519.
func SignCertificate(root *identity.Key, c Certificate) ([]byte, error) {
	if _, ok := root.Public().(ed25519.PublicKey); !ok {
		return nil, errors.New("sign node certificate: the root key is not Ed25519")
	}
	if len(c.Addresses) < 1 || len(c.Addresses) > maxNodeAddresses || c.Floor > c.Generation {
		return nil, errors.New("sign node certificate: want 1 to 3 addresses and a floor not above the generation")
	}
	body := c.appendBody(nil)
	if _, err := parseCertificateBody(body); err != nil {
		return nil, err
	}
	signature, err := root.Sign(identity.PurposeNode, body)
	return append(body, signature...), err
}

func parseCertificateBody(b []byte) (c Certificate, err error) {
	if len(b) < certificateHead || b[0] != 1 {
		return c, ErrMalformed
	}
	c.Generation, c.Floor = binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint64(b[9:])
	copy(c.Key[:], b[17:])
	count, rest := int(b[49]), b[certificateHead:]
	if count < 1 || count > maxNodeAddresses || c.Floor > c.Generation {
		return c, ErrMalformed
	}
	for range count {
		if len(rest) < 1 || len(rest) < 1+int(rest[0]) {
			return c, ErrMalformed
		}
		a, err := parseAddress(rest[1 : 1+int(rest[0])])
		if err != nil {
			return c, err
		}
		c.Addresses, rest = append(c.Addresses, a), rest[1+int(rest[0]):]
	}
	if len(rest) != 0 {
		return c, ErrMalformed
	}
	return c, nil
}

// A Root is a pinned root key of a basestation and the highest floor seen in a
// certificate of it. The owner keeps Floor on disk; it only rises.
type Root struct {
	Key   ed25519.PublicKey
	Floor uint64
}

// maxRoots: the one in use and the one that replaces it.
const maxRoots = 2

// CheckCertificate reads a certificate and believes it if one of the roots signed it and has
// not retired it since. It is for certificates that came inside a message; those of a
// Link's own node are checked by it. It returns ErrMalformed, ErrCertificate or
// ErrRetired and changes no floor.
func CheckCertificate(roots []Root, b []byte) (Certificate, error) {
	return checkCertificate(append([]Root(nil), roots...), b)
}

// checkCertificate reads a certificate and believes it if one of the roots signed it and has
// not retired it since; then it raises that root's floor. It returns
// ErrMalformed, ErrCertificate or ErrRetired.
func checkCertificate(roots []Root, b []byte) (c Certificate, err error) {
	if len(b) < minCertificate || len(b) > maxCertificate {
		return c, ErrMalformed
	}
	body, signature := b[:len(b)-ed25519.SignatureSize], b[len(b)-ed25519.SignatureSize:]
	if c, err = parseCertificateBody(body); err != nil {
		return c, err
	}
	for i := range roots {
		r := &roots[i]
		if identity.Verify(r.Key, identity.PurposeNode, body, signature) != nil {
			continue
		}
		if c.Generation < r.Floor {
			return c, ErrRetired
		}
		r.Floor = max(r.Floor, c.Floor)
		return c, nil
	}
	return c, ErrCertificate
}

// Address picks the node's address of the same family as like, else the first.
func (c Certificate) Address(like netip.Addr) netip.AddrPort {
	for _, a := range c.Addresses {
		if a.Addr().Is4() == like.Unmap().Is4() {
			return a
		}
	}
	return c.Addresses[0]
}
