package attach

import (
	"errors"

	"github.com/flynn/noise"
)

// Limits of one key. RFC 9001 §6.6 allows 2^23 packets under one AES-GCM key;
// a new handshake is begun long before, and nothing is sealed after.
const (
	rekeyPackets = 1 << 20
	maxPackets   = 1 << 23
)

// ErrExhausted means that a key has sealed all the packets it may.
var ErrExhausted = errors.New("the link's key is used up: a new handshake is needed")

// seal appends head and sealed frame to b, which must be empty.
func seal(c noise.Cipher, b []byte, h head, frame []byte) ([]byte, error) {
	if h.counter >= maxPackets {
		return nil, ErrExhausted
	}
	if len(frame) > MaxFrame {
		return nil, ErrTooLarge
	}
	b = h.append(b)
	return c.Encrypt(b, h.counter, b, frame), nil
}

// open returns the frame of a packet, appended to b.
func open(c noise.Cipher, b []byte, h head, packet []byte) ([]byte, error) {
	if h.counter >= maxPackets {
		return nil, ErrExhausted
	}
	return c.Decrypt(b, h.counter, packet[:packetHead], packet[packetHead:])
}

func newCipher(key [32]byte) noise.Cipher { return noise.CipherAESGCM.Cipher(key) }
