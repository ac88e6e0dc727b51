package attach

import (
	"crypto/ecdh"
	"crypto/subtle"
	"io"

	"github.com/flynn/noise"
)

// agreement is noise.DH25519 for one handshake, or for all of one node: the same
// function by the same standard library, but it keeps the two private keys that are
// in use as crypto/ecdh wants them. The library's own makes a key of the bytes at
// each use, and each time crypto/ecdh computes the public half again: five
// multiplications instead of the three that a handshake needs, which is a quarter of
// all that an attach costs a node.
//
// It is not for two goroutines at once.
type agreement struct {
	static, ephemeral *ecdh.PrivateKey // nil: none
}

func (a *agreement) suite() noise.CipherSuite {
	return noise.NewCipherSuite(a, noise.CipherAESGCM, noise.HashSHA256)
}

// A responder is a node's side of every handshake.
type responder struct {
	agreement *agreement
	suite     noise.CipherSuite
	key       noise.DHKey
}

func newResponder(private Secret) (responder, error) {
	static, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil {
		return responder{}, err
	}
	a := &agreement{static: static}
	return responder{a, a.suite(), noise.DHKey{Private: static.Bytes(), Public: static.PublicKey().Bytes()}}, nil
}

func (*agreement) DHLen() int     { return keySize }
func (*agreement) DHName() string { return noise.DH25519.DHName() }

// GenerateKeypair takes 32 bytes of random, as the library's does.
func (a *agreement) GenerateKeypair(random io.Reader) (noise.DHKey, error) {
	var private [keySize]byte
	if _, err := io.ReadFull(random, private[:]); err != nil {
		return noise.DHKey{}, err
	}
	var err error
	if a.ephemeral, err = ecdh.X25519().NewPrivateKey(private[:]); err != nil {
		return noise.DHKey{}, err
	}
	return noise.DHKey{Private: private[:], Public: a.ephemeral.PublicKey().Bytes()}, nil
}

// DH returns an error for a public key of low order (RFC 7748 §6.1).
func (a *agreement) DH(private, public []byte) ([]byte, error) {
	key := a.find(private)
	if key == nil {
		var err error
		if key, err = ecdh.X25519().NewPrivateKey(private); err != nil {
			return nil, err
		}
	}
	other, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	return key.ECDH(other)
}

func (a *agreement) find(private []byte) *ecdh.PrivateKey {
	for _, key := range []*ecdh.PrivateKey{a.ephemeral, a.static} {
		if key != nil && subtle.ConstantTimeCompare(key.Bytes(), private) == 1 {
			return key
		}
	}
	return nil
}
