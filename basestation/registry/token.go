package registry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/keyholed/keyhole/basestation/store"
)

const (
	tokenPrefix = "token/"
	// tokenText is in front of a token, so that scanners for secrets find it.
	tokenText = "khb_"
)

// ErrToken means that a token is unknown, expired or used up: which is not said.
var ErrToken = errors.New("token not valid")

// A Token lets its bearer use the operator's API. The store holds its hash only;
// 32 random bytes need no slow hash.
type Token struct {
	Hash    string    `json:"hash"` // SHA-256, hexadecimal: names the token in lists
	Name    string    `json:"name,omitempty"`
	Scope   string    `json:"scope,omitempty"` // what it is good for, as the API says
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
	Uses    int       `json:"uses,omitempty"`   // left; 0: any number
}

func hashToken(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// CreateToken makes a token and returns the text that its bearer shows, which is
// nowhere else. Hash and Created of t are filled in.
func (r *Registry) CreateToken(ctx context.Context, t Token) (text string, err error) {
	if t.Uses < 0 || len(t.Name) > 64 {
		return "", errors.New("token: want a name of at most 64 bytes and no negative number of uses")
	}
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	text = tokenText + base64.RawURLEncoding.EncodeToString(b[:])
	t.Hash, t.Created = hashToken(text), time.Now().UTC().Truncate(time.Second)
	data, err := json.Marshal(t)
	if err == nil {
		_, err = r.store.Create(ctx, tokenPrefix+t.Hash, data)
	}
	if err != nil {
		return "", fmt.Errorf("create token: %w", err)
	}
	return text, nil
}

// UseToken checks a token and counts its use. It returns ErrToken, or an error of
// the store.
func (r *Registry) UseToken(ctx context.Context, text string) (Token, error) {
	key := tokenPrefix + hashToken(text)
	for {
		var t Token
		revision, err := r.getJSON(ctx, key, &t)
		if errors.Is(err, store.ErrNotFound) {
			return Token{}, ErrToken
		}
		if err != nil {
			return Token{}, err
		}
		if !t.Expires.IsZero() && time.Now().After(t.Expires) {
			return Token{}, ErrToken
		}
		switch t.Uses {
		case 0:
			return t, nil
		case 1:
			err = r.store.Delete(ctx, key, revision)
		default:
			t.Uses--
			var data []byte
			if data, err = json.Marshal(t); err == nil {
				_, err = r.store.Update(ctx, key, data, revision)
			}
		}
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
			return t, err
		}
	}
}

// Tokens tells every token, in no order.
func (r *Registry) Tokens(ctx context.Context, tell func(Token) error) error {
	return r.store.List(ctx, tokenPrefix, func(key string, value []byte, _ uint64) error {
		var t Token
		if err := json.Unmarshal(value, &t); err != nil {
			r.log.Warn("a record of a token is damaged", "key", key, "err", err)
			return nil
		}
		return tell(t)
	})
}

// RemoveToken ends a token by its hash.
func (r *Registry) RemoveToken(ctx context.Context, hash string) error {
	if b, err := hex.DecodeString(hash); err != nil || len(b) != sha256.Size {
		return ErrToken
	}
	return r.store.Delete(ctx, tokenPrefix+hash, 0)
}
