package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
)

// A Purpose says what a signature is for. It is signed with the message, so that
// a signature made for one purpose is nothing for another (TLS apart, which has
// its own context strings, RFC 8446 §4.4.3):
//
//	"keyhole/1 " purpose 0x00 message
//
// It must not contain a zero byte.
type Purpose string

// The purposes in use.
const (
	PurposeAudit      Purpose = "audit"      // a segment head or entry of the audit log
	PurposeNode       Purpose = "node"       // a basestation's root key certifies a node
	PurposeAttach     Purpose = "attach"     // a device proves its key to a node
	PurposeIntroduce  Purpose = "introduce"  // a client asks to be introduced to a device
	PurposeCandidates Purpose = "candidates" // device or client says where it is to be met
	PurposePresence   Purpose = "presence"   // a device lets a client know whether it is there
	PurposeSupport    Purpose = "support"    // a vendor's support desk shows that it asks
)

// ErrBadSignature means that a signature is not one of this key, purpose and message.
var ErrBadSignature = errors.New("bad signature")

func signedBytes(p Purpose, message []byte) []byte {
	b := make([]byte, 0, len("keyhole/1 ")+len(p)+1+len(message))
	b = append(b, "keyhole/1 "...)
	b = append(b, p...)
	b = append(b, 0)
	return append(b, message...)
}

// pssOptions: salt as long as the hash, as TLS 1.3 demands (RFC 8446 §4.2.3).
var pssOptions = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}

// Sign signs message for a purpose: ECDSA in ASN.1 over SHA-256, Ed25519, or
// RSA-PSS over SHA-256, as the key is.
func (k *Key) Sign(p Purpose, message []byte) ([]byte, error) {
	input := signedBytes(p, message)
	if _, ok := k.signer.Public().(ed25519.PublicKey); ok {
		return k.signer.Sign(rand.Reader, input, crypto.Hash(0))
	}
	digest := sha256.Sum256(input)
	if _, ok := k.signer.Public().(*rsa.PublicKey); ok {
		return k.signer.Sign(rand.Reader, digest[:], pssOptions)
	}
	return k.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
}

// Verify checks a signature made by Sign. It returns ErrBadSignature or ErrKeyKind.
func Verify(pub crypto.PublicKey, p Purpose, message, signature []byte) error {
	if err := checkKind(pub); err != nil {
		return err
	}
	input := signedBytes(p, message)
	digest := sha256.Sum256(input)
	ok := false
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(k, digest[:], signature)
	case ed25519.PublicKey:
		ok = ed25519.Verify(k, input, signature)
	case *rsa.PublicKey:
		ok = rsa.VerifyPSS(k, crypto.SHA256, digest[:], signature, pssOptions) == nil
	}
	if !ok {
		return ErrBadSignature
	}
	return nil
}
