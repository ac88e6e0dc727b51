package attach

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
)

// rootKeyEncoding has neither padding nor characters that a shell or a URL
// minds, and Strict leaves each key one text.
var rootKeyEncoding = base64.RawURLEncoding.Strict()

// ErrRootKey means that a text is no root key of a basestation.
var ErrRootKey = errors.New("not a root key of a basestation: want 43 characters as `keyhole-basestation key` prints them")

// FormatRootKey writes a root key as it is printed and stands in configurations:
// 43 characters of base64url.
func FormatRootKey(k ed25519.PublicKey) string { return rootKeyEncoding.EncodeToString(k) }

// ParseRootKey reads what FormatRootKey wrote. It returns ErrRootKey.
func ParseRootKey(s string) (ed25519.PublicKey, error) {
	if len(s) != rootKeyEncoding.EncodedLen(ed25519.PublicKeySize) {
		return nil, ErrRootKey
	}
	k, err := rootKeyEncoding.DecodeString(s)
	if err != nil || FormatRootKey(k) != s { // line ends are skipped by base64
		return nil, ErrRootKey
	}
	return k, nil
}
