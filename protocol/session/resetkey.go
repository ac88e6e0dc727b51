package session

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log/slog"

	"github.com/quic-go/quic-go"

	"github.com/keyholed/keyhole/internal/durable"
)

// A ResetKey is the secret by which a device that was restarted can still tell
// its former QUIC peers that their sessions are gone (RFC 9000 §10.3), and
// knows the address tokens it gave them. Who has it can end sessions that he
// sees on the wire, and nothing else. The zero value is none. It does not print.
type ResetKey [32]byte

// LoadResetKey reads the key kept at path, or makes one and keeps it there. A
// file that is none, or that others could read, is replaced: what is lost with it is that clients of before
// notice at once. With an error the key is good, but was not kept.
func LoadResetKey(path string) (ResetKey, error) {
	var k ResetKey
	data, err := durable.ReadPrivate(path, int64(len(k)))
	if err == nil && len(data) == len(k) {
		return ResetKey(data), nil
	}
	_, _ = rand.Read(k[:]) // never fails
	if err := durable.WriteFile(path, k[:], 0o600); err != nil {
		return k, fmt.Errorf("QUIC reset key: %w", err)
	}
	return k, nil
}

// use gives the transport a key for each purpose.
func (k ResetKey) use(t *quic.Transport) {
	if k == (ResetKey{}) {
		return
	}
	reset, tokens := quic.StatelessResetKey(k.derive("keyhole quic stateless reset")), quic.TokenGeneratorKey(k.derive("keyhole quic address token"))
	t.StatelessResetKey, t.TokenGeneratorKey = &reset, &tokens
}

func (k ResetKey) derive(purpose string) [32]byte {
	derived, err := hkdf.Key(sha256.New, k[:], nil, purpose, sha256.Size)
	if err != nil {
		panic(err) // only for lengths far above this one
	}
	return [32]byte(derived)
}

// Format keeps the key out of whatever is printed.
func (k ResetKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("ResetKey(secret)")) }

// LogValue keeps it out of logs.
func (k ResetKey) LogValue() slog.Value { return slog.StringValue("secret") }

// MarshalText keeps it out of documents.
func (k ResetKey) MarshalText() ([]byte, error) { return []byte("secret"), nil }
