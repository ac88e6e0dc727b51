package acl

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"github.com/keyholed/keyhole/internal/durable"
)

// A sealed value, integers big-endian:
//
//	version 1 | key id 8 | epoch 8 | sequence 8 | nonce 12 | AES-256-GCM ciphertext, tag 16
//
// Additional data: "keyhole/1 store" 0x00 | version | key id | epoch | sequence |
// length of bucket 2 | bucket | length of key 2 | key. So a value is worth
// nothing in another place, under another epoch or at another sequence.
const (
	sealVersion   = 1
	keyIDBytes    = 8
	nonceBytes    = 12
	tagBytes      = 16
	sealedHeader  = 1 + keyIDBytes + 8 + 8
	sealOverhead  = sealedHeader + nonceBytes + tagBytes
	storeKeyBytes = 32
	// maxPlain is far above maxUserBytes.
	maxPlain = 4 << 10
)

var (
	errSealed   = errors.New("a value is not as it was sealed")
	errOtherKey = errors.New("it is sealed under another store key: it belongs to another device, or to the time before a reset")
)

// A sealer seals under the store key. Random 96-bit nonces are good for 2^32
// values (NIST SP 800-38D §8.3); a device writes some thousands.
type sealer struct {
	aead cipher.AEAD
	id   [keyIDBytes]byte // tells a value of another key from a damaged one
}

func newSealer(key []byte) (*sealer, error) {
	if len(key) != storeKeyBytes {
		return nil, fmt.Errorf("the store key has %d bytes, want %d", len(key), storeKeyBytes)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	s := &sealer{aead: aead}
	digest := sha256.Sum256(append([]byte("keyhole/1 store key id\x00"), key...))
	copy(s.id[:], digest[:])
	return s, nil
}

func (s *sealer) String() string { return fmt.Sprintf("store key %x", s.id) }

func (s *sealer) seal(bucket, key string, at position, plain []byte) ([]byte, error) {
	sealed := make([]byte, sealedHeader+nonceBytes, sealOverhead+len(plain))
	sealed[0] = sealVersion
	copy(sealed[1:], s.id[:])
	binary.BigEndian.PutUint64(sealed[1+keyIDBytes:], at.Epoch)
	binary.BigEndian.PutUint64(sealed[1+keyIDBytes+8:], at.Sequence)
	nonce := sealed[sealedHeader:]
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return s.aead.Seal(sealed, nonce, plain, additional(sealed[:sealedHeader], bucket, key)), nil
}

// open returns what was sealed and where. It changes nothing in sealed.
func (s *sealer) open(bucket, key string, sealed []byte) (position, []byte, error) {
	if len(sealed) < sealOverhead || len(sealed) > sealOverhead+maxPlain || sealed[0] != sealVersion {
		return position{}, nil, errSealed
	}
	if string(sealed[1:1+keyIDBytes]) != string(s.id[:]) {
		return position{}, nil, errOtherKey
	}
	at := position{
		Epoch:    binary.BigEndian.Uint64(sealed[1+keyIDBytes:]),
		Sequence: binary.BigEndian.Uint64(sealed[1+keyIDBytes+8:]),
	}
	header, rest := sealed[:sealedHeader], sealed[sealedHeader:]
	plain, err := s.aead.Open(nil, rest[:nonceBytes], rest[nonceBytes:], additional(header, bucket, key))
	if err != nil {
		return position{}, nil, errSealed
	}
	return at, plain, nil
}

func additional(header []byte, bucket, key string) []byte {
	b := append([]byte("keyhole/1 store\x00"), header...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(bucket)))
	b = append(b, bucket...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(key)))
	return append(b, key...)
}

// readStoreKey returns the key, or nil where there is none yet.
func readStoreKey(path string) ([]byte, error) {
	key, err := durable.ReadPrivate(path, 2*storeKeyBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("store key: %w", err)
	}
	if len(key) != storeKeyBytes {
		return nil, fmt.Errorf("store key %s is damaged: %d bytes, want %d", path, len(key), storeKeyBytes)
	}
	return key, nil
}
