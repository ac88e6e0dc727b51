package attach

import (
	"crypto/hmac"
	"crypto/sha256"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A Secret is 32 secret bytes. It does not print.
type Secret [32]byte

func (Secret) String() string   { return "(secret)" }
func (Secret) GoString() string { return "(secret)" }

// DeriveSecret is the factory secret of a serial number where a vendor keeps one
// master secret instead of a list: HMAC-SHA256(master, serial).
func DeriveSecret(master Secret, serial string) (s Secret) {
	mac := hmac.New(sha256.New, master[:])
	mac.Write([]byte(serial))
	mac.Sum(s[:0])
	return s
}

// secretProof shows knowledge of a device's factory secret in one attach: it is
// worth nothing for another handshake, serial number or key.
func secretProof(s Secret, hash [32]byte, serial string, f identity.Fingerprint) []byte {
	mac := hmac.New(sha256.New, s[:])
	mac.Write([]byte("keyhole/1 attach secret\x00"))
	mac.Write(hash[:])
	mac.Write(f[:])
	mac.Write([]byte(serial))
	return mac.Sum(nil)
}

// resetToken is the token of one index under a node's reset key. The key
// outlives a restart of the node, so that it can answer for indices it has
// forgotten. Half of an index is random, so tokens are not told in advance.
func resetToken(key Secret, index uint64) (t token) {
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte("keyhole/1 reset\x00"))
	var b [8]byte
	putIndex(b[:], index)
	mac.Write(b[:])
	var sum [sha256.Size]byte
	mac.Sum(sum[:0])
	copy(t[:], sum[:])
	return t
}
