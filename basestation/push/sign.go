package push

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/keyholed/keyhole/internal/durable"
)

// What a request carries besides its body. Names, contents and signature are
// those of the Standard Webhooks specification 1.0.0, for which many languages
// have a library.
//
//	webhook-id         the event's id, the same at every try
//	webhook-timestamp  seconds since 1970, when this try was sent
//	webhook-signature  "v1," and base64(HMAC-SHA256(secret, id "." timestamp "." body));
//	                   several, with a space between, while a secret is changed
const (
	headerID        = "webhook-id"
	headerTime      = "webhook-timestamp"
	headerSignature = "webhook-signature"
)

// A Secret is shared with one receiver. It does not print.
type Secret []byte

func (Secret) String() string   { return "(secret)" }
func (Secret) GoString() string { return "(secret)" }

// secretBytes is the length of a secret that we make; the specification wants 24
// to 64.
const (
	secretBytes    = 32
	minSecretBytes = 24
	maxSecretBytes = 64
	secretPrefix   = "whsec_"
	maxSecretFile  = 1 << 10
	maxSecrets     = 2
)

// Secrets are one, or two while a receiver changes from one to the other.
type Secrets []Secret

// ParseSecrets reads "whsec_" and base64, one to a line, at most two.
func ParseSecrets(text string) (Secrets, error) {
	var all Secrets
	for _, line := range strings.Fields(text) {
		encoded, ok := strings.CutPrefix(line, secretPrefix)
		if !ok {
			return nil, fmt.Errorf("a secret begins with %q", secretPrefix)
		}
		secret, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(secret) < minSecretBytes || len(secret) > maxSecretBytes {
			return nil, fmt.Errorf("a secret is %s and base64 of %d to %d bytes", secretPrefix, minSecretBytes, maxSecretBytes)
		}
		all = append(all, secret)
	}
	if len(all) == 0 || len(all) > maxSecrets {
		return nil, fmt.Errorf("%d secrets: want one, or %d while it is changed", len(all), maxSecrets)
	}
	return all, nil
}

// LoadSecrets reads the file at path, which only its owner may read, and makes
// it with a new secret where there is none.
func LoadSecrets(path string) (Secrets, error) {
	data, err := durable.ReadPrivate(path, maxSecretFile)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		data = newSecret()
		err = durable.WriteFile(path, data, 0o600)
	}
	if err != nil {
		return nil, err
	}
	secrets, err := ParseSecrets(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return secrets, nil
}

func newSecret() []byte {
	secret := make([]byte, secretBytes)
	rand.Read(secret) // never fails
	return []byte(secretPrefix + base64.StdEncoding.EncodeToString(secret) + "\n")
}

// sign returns the signature header of a message.
func (s Secrets) sign(id string, at time.Time, body []byte) string {
	var signatures []string
	for _, secret := range s {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
		mac.Write(body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(signatures, " ")
}

// setHeaders makes r a signed message.
func (s Secrets) setHeaders(r *http.Request, id string, at time.Time, body []byte) {
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "keyhole-basestation")
	r.Header.Set(headerID, id)
	r.Header.Set(headerTime, strconv.FormatInt(at.Unix(), 10))
	r.Header.Set(headerSignature, s.sign(id, at, body))
}

// newID names an event: 128 random bits, so that no node need ask another.
func newID() string {
	return "evt_" + strings.ToLower(rand.Text())
}
