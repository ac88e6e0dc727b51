package central

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/keyholed/keyhole/protocol/api"
)

// Types of what a vendor signs.
const (
	typeGrant = "keyhole-grant"
	typeList  = "keyhole-list"
)

const (
	algorithm      = "ES256"
	signatureBytes = 64 // r 32 | s 32 (RFC 7518 §3.4)
	maxHeaderBytes = 64 // the two members, with some white space
)

var encoding = base64.RawURLEncoding.Strict()

// open returns the claims of a token of the given type that one of the keys has
// signed. Nothing of the claims is looked at before the signature holds.
func (k Keys) open(token []byte, kind string, most int) ([]byte, error) {
	if len(token) > most {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrMalformed, len(token), most)
	}
	if bytes.Count(token, []byte(".")) != 2 {
		return nil, fmt.Errorf("%w: want three parts", ErrMalformed)
	}
	last := bytes.LastIndexByte(token, '.')
	signed, signature := token[:last], token[last+1:]
	head, body, _ := bytes.Cut(signed, []byte("."))
	if err := checkHeader(head, kind); err != nil {
		return nil, err
	}
	rs, err := decode(signature, signatureBytes)
	if err != nil || len(rs) != signatureBytes {
		return nil, fmt.Errorf("%w: the signature", ErrMalformed)
	}
	if !k.signed(signed, rs) {
		return nil, ErrSignature
	}
	claims, err := decode(body, most)
	if err != nil {
		return nil, fmt.Errorf("%w: the claims are not base64url", ErrMalformed)
	}
	return claims, nil
}

func (k Keys) signed(text, rs []byte) bool {
	digest := sha256.Sum256(text)
	r, s := new(big.Int).SetBytes(rs[:32]), new(big.Int).SetBytes(rs[32:])
	return slices.ContainsFunc(k, func(public *ecdsa.PublicKey) bool { return ecdsa.Verify(public, digest[:], r, s) })
}

func checkHeader(part []byte, kind string) error {
	text, err := decode(part, maxHeaderBytes)
	if err != nil {
		return fmt.Errorf("%w: the header is not base64url, or too long", ErrMalformed)
	}
	var header struct {
		Algorithm string `json:"alg"`
		Type      string `json:"typ"`
	}
	if err := decodeJSON(text, &header, "alg", "typ"); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if header.Algorithm != algorithm || header.Type != kind {
		return fmt.Errorf("%w: the header says another algorithm than %s, or another type than %s", ErrMalformed, algorithm, kind)
	}
	return nil
}

// decode reads canonical base64url without padding. encoding/base64 skips line
// ends; they are no part of a token.
func decode(part []byte, most int) ([]byte, error) {
	if len(part) > encoding.EncodedLen(most) || bytes.ContainsAny(part, "\r\n") {
		return nil, ErrMalformed
	}
	return encoding.AppendDecode(nil, part)
}

// decodeJSON reads one JSON object into v. Every member in it must be among names,
// in exactly this writing (encoding/json would take "AUD" for "aud"), and null is
// nothing that we know.
func decodeJSON(text []byte, v any, names ...string) error {
	if !utf8.Valid(text) {
		return fmt.Errorf("%w: not UTF-8", ErrMalformed)
	}
	if err := api.Decode(text, v); err != nil { // which has looked at depth, at names that are there twice, and at the end
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return fmt.Errorf("%w: no JSON object", ErrMalformed)
	}
	return checkMembers(d, names)
}

// checkMembers walks an object whose brace is read.
func checkMembers(d *json.Decoder, names []string) error {
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return fmt.Errorf("%w: %v", ErrMalformed, err)
		}
		if text, ok := name.(string); !ok || !slices.Contains(names, text) {
			return fmt.Errorf("%w: %.40q is not known: known are %s", ErrMalformed, name, strings.Join(names, ", "))
		}
		if err := checkValue(d, names); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// checkValue walks one value.
func checkValue(d *json.Decoder, names []string) error {
	token, err := d.Token()
	if err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	switch token {
	case nil:
		return fmt.Errorf("%w: null", ErrMalformed)
	case json.Delim('{'):
		return checkMembers(d, names)
	case json.Delim('['):
		for d.More() {
			if err := checkValue(d, names); err != nil {
				return err
			}
		}
		_, err = d.Token()
	}
	return err
}

// sign makes a token.
func sign(key crypto.Signer, kind string, claims any) (string, error) {
	if err := checkSigner(key); err != nil {
		return "", err
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	text := encoding.EncodeToString([]byte(`{"alg":"`+algorithm+`","typ":"`+kind+`"}`)) + "." + encoding.EncodeToString(body)
	digest := sha256.Sum256([]byte(text))
	rs, err := rawSignature(rand.Reader, key, digest[:])
	if err != nil {
		return "", err
	}
	return text + "." + encoding.EncodeToString(rs), nil
}

// rawSignature signs as crypto.Signer does, in ASN.1, and writes r and s as JOSE
// wants them.
func rawSignature(random io.Reader, key crypto.Signer, digest []byte) ([]byte, error) {
	der, err := key.Sign(random, digest, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	var pair struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &pair); err != nil || len(rest) != 0 || pair.R.BitLen() > 256 || pair.S.BitLen() > 256 {
		return nil, fmt.Errorf("sign: %w", ErrSignature)
	}
	rs := make([]byte, signatureBytes)
	pair.R.FillBytes(rs[:32])
	pair.S.FillBytes(rs[32:])
	return rs, nil
}
