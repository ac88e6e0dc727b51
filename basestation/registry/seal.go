package registry

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
)

// A SealKey seals what is secret in the store: factory secrets, cookie secrets.
// It is kept beside the store, in a file of the data directory, so that a backup
// of the store or access to an external NATS cluster tells none of them. It is
// no protection from who reads the data directory as well. It does not print.
type SealKey [32]byte

func (SealKey) String() string   { return "(key)" }
func (SealKey) GoString() string { return "(key)" }

// ErrSealed means that a record was sealed under another key, or was changed.
var ErrSealed = errors.New("sealed under another key, or damaged: is fleet.key that of this fleet?")

func (k SealKey) cipher() (cipher.AEAD, error) {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Seal returns plain sealed for the record under key, and no other.
func (k SealKey) Seal(key string, plain []byte) ([]byte, error) {
	c, err := k.cipher()
	if err != nil {
		return nil, err
	}
	return c.Seal(nil, nil, plain, []byte(key)), nil
}

// Open returns what Seal was given. It returns ErrSealed.
func (k SealKey) Open(key string, sealed []byte) ([]byte, error) {
	c, err := k.cipher()
	if err != nil {
		return nil, err
	}
	plain, err := c.Open(nil, nil, sealed, []byte(key))
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}
