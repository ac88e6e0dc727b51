// Package central is what the vendor of a device signs about who may enter: a
// grant for one client and one hour, and a list of people.
//
// The vendor's services make both, with any JOSE library; a basestation or a web
// server carries them; the device's daemon alone reads them, here, and decides
// what they count for. The package checks form and signature and tells what was
// said. It knows no clock, no network and no access list.
//
// Both are JWTs (RFC 7519) in the compact form of RFC 7515, and of everything
// that those allow exactly one thing is accepted, so that there is nothing to
// choose wrongly (RFC 8725):
//
//	BASE64URL({"alg":"ES256","typ":TYPE}) . BASE64URL(claims) . BASE64URL(r 32 | s 32)
//
//	TYPE            who may make it            longest
//	keyhole-grant   the vendor's webhook       512 bytes
//	keyhole-list    the vendor's directory     1 MiB
//
// base64url is the canonical one without padding, a header member or a claim that
// is not named here is refused, as is one that is there twice, and the type keeps
// the one from being taken for the other. No library is used: what a JOSE library
// is for, choosing by the header of a stranger's token, is what must not happen
// here, and the rest is ecdsa.Verify and encoding/json.
package central

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// MaxKeys is how many keys of a vendor a device believes at once: one in use, one
// to follow it, of two services.
const MaxKeys = 4

// maxKeyBytes is above the SubjectPublicKeyInfo of a P-256 key, 91 bytes, as PEM
// with a comment.
const maxKeyBytes = 4 << 10

// Errors of reading what a vendor signed, each with more words behind it.
var (
	ErrMalformed = errors.New("not in the form that is accepted")
	ErrSignature = errors.New("not signed by a key of the vendor")
	ErrKey       = errors.New("not a public key of ECDSA P-256")
)

// Keys are the vendor's public keys, of which any may have signed. None: nothing
// is believed.
type Keys []*ecdsa.PublicKey

// ParseKey reads a public key: the base64 of its SubjectPublicKeyInfo, or the
// same as PEM, as `openssl pkey -pubout` prints it. Other kinds than ECDSA P-256
// are ErrKey.
func ParseKey(text string) (*ecdsa.PublicKey, error) {
	if len(text) > maxKeyBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrKey, len(text))
	}
	var der []byte
	if block, rest := pem.Decode([]byte(text)); block != nil {
		if block.Type != "PUBLIC KEY" || strings.TrimSpace(string(rest)) != "" {
			return nil, fmt.Errorf("%w: want one block PUBLIC KEY", ErrKey)
		}
		der = block.Bytes
	} else {
		var err error
		if der, err = base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(text)); err != nil {
			return nil, fmt.Errorf("%w: neither PEM nor base64", ErrKey)
		}
	}
	any, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrKey, err)
	}
	public, ok := any.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, ErrKey
	}
	return public, nil
}

// checkSigner is for the makers: a key that no device would believe.
func checkSigner(key crypto.Signer) error {
	if public, ok := key.Public().(*ecdsa.PublicKey); !ok || public.Curve != elliptic.P256() {
		return ErrKey
	}
	return nil
}
