package central

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyholed/keyhole/protocol/identity"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

const device = identity.ID("yzid2zaccqs7whl4awmmvw3ua6")

func someGrant() Grant {
	return Grant{
		Device: device, Client: sha256.Sum256([]byte("client")), Attach: sha256.Sum256([]byte("attach")),
		ID: "n0nce-0123456789abcdef", Subject: "alice@example.net", Roles: []string{"viewer"},
		Expires: time.Unix(1_790_000_000, 0), Life: time.Hour,
	}
}

// TestGrantFits holds the figure of 512 bytes: an address of ordinary length, a
// jti of 128 bits, and a role fit.
func TestGrantFits(t *testing.T) {
	key := newKey(t)
	g := someGrant()
	token, err := g.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(token))
	got, err := Keys{&newKey(t).PublicKey, &key.PublicKey}.ReadGrant([]byte(token))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(g, got); diff != "" {
		t.Error(diff)
	}
	g.Subject = strings.Repeat("x", 64)
	if token, err = g.Sign(key); err == nil || !strings.Contains(err.Error(), "at most 512") {
		t.Errorf("a subject of 64 characters: token of %d bytes, %v", len(token), err)
	}
	if MaxLife != time.Hour || MaxGrantBytes != 512 {
		t.Errorf("a grant lives %v and has %d bytes: want 1h and 512", MaxLife, MaxGrantBytes)
	}
}

// raw signs header and claims as they are given.
func raw(t testing.TB, key *ecdsa.PrivateKey, header, claims string) string {
	t.Helper()
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	digest := sha256.Sum256([]byte(text))
	rs, err := rawSignature(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(rs)
}

const goodHeader = `{"alg":"ES256","typ":"keyhole-grant"}`

func goodClaims() string {
	g := someGrant()
	return fmt.Sprintf(`{"aud":"%s","cnf":{"spki":"%s"},"att":"%s","jti":"j1","sub":"Alice","roles":["viewer"],"exp":1790000000,"life":60}`,
		g.Device, encoding.EncodeToString(g.Client[:]), encoding.EncodeToString(g.Attach[:]))
}

// TestHeaderTricks: nothing in a header chooses how it is checked (RFC 8725 §2.1,
// §3.1, §3.11).
func TestHeaderTricks(t *testing.T) {
	key := newKey(t)
	keys := Keys{&key.PublicKey}
	if _, err := keys.ReadGrant([]byte(raw(t, key, goodHeader, goodClaims()))); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	if _, err := keys.ReadGrant([]byte(raw(t, key, `{ "typ" : "keyhole-grant", "alg" : "ES256" }`, goodClaims()))); err != nil {
		t.Errorf("another order, and white space: %v", err)
	}
	for _, header := range []string{
		`{"alg":"none","typ":"keyhole-grant"}`,
		`{"alg":"HS256","typ":"keyhole-grant"}`,
		`{"alg":"es256","typ":"keyhole-grant"}`,
		`{"alg":"ES384","typ":"keyhole-grant"}`,
		`{"alg":"ES256","typ":"keyhole-list"}`,
		`{"alg":"ES256","typ":"JWT"}`,
		`{"alg":"ES256"}`,
		`{"typ":"keyhole-grant"}`,
		`{"ALG":"ES256","typ":"keyhole-grant"}`,
		`{"alg":"none","alg":"ES256","typ":"keyhole-grant"}`,
		`{"alg":"ES256","Alg":"none","typ":"keyhole-grant"}`,
		`{"alg":"ES256","typ":"keyhole-grant","crit":[]}`,
		`{"alg":"ES256","typ":"keyhole-grant","kid":"0"}`,
		`{"alg":"ES256","typ":"keyhole-grant","jwk":{}}`,
		`{"alg":"ES256","typ":"keyhole-grant","b64":false}`,
		`{"alg":"ES256","typ":null}`,
		`{"alg":"ES256","typ":"keyhole-grant"} ` + strings.Repeat(" ", 80),
		`{"alg":"ES256","typ":"keyhole-grant"}{}`,
		`["ES256"]`, `null`, ``,
	} {
		if g, err := keys.ReadGrant([]byte(raw(t, key, header, goodClaims()))); err == nil {
			t.Errorf("header %s: %+v", header, g)
		}
	}
	unsigned := strings.TrimSuffix(raw(t, key, `{"alg":"none","typ":"keyhole-grant"}`, goodClaims()), "x")
	unsigned = unsigned[:strings.LastIndex(unsigned, ".")+1]
	if g, err := keys.ReadGrant([]byte(unsigned)); err == nil {
		t.Errorf("without a signature: %+v", g)
	}
}

func TestClaims(t *testing.T) {
	key := newKey(t)
	keys := Keys{&key.PublicKey}
	good := goodClaims()
	change := func(old, new string) string {
		t.Helper()
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in %s", old, good)
		}
		return strings.Replace(good, old, new, 1)
	}
	for _, claims := range []string{
		change(`"life":60`, `"life":3601`), change(`"life":60`, `"life":0`), change(`"life":60`, `"life":-1`), change(`"life":60`, `"life":"60"`),
		change(`"life":60`, `"life":60.5`), change(`"life":60`, `"life":1e300`), change(`,"life":60`, ``), change(`"life":60`, `"life":null`),
		change(`"exp":1790000000`, `"exp":0`), change(`"exp":1790000000,`, ``), change(`"exp":1790000000`, `"exp":999999999999`),
		change(`"roles":["viewer"]`, `"roles":[]`), change(`"roles":["viewer"]`, `"roles":"viewer"`), change(`"roles":["viewer"]`, `"roles":["viewer","viewer"]`),
		change(`"roles":["viewer"]`, `"roles":["Viewer"]`), change(`"roles":["viewer"],`, ``), change(`"roles":["viewer"]`, `"roles":[null]`),
		change(`"roles":["viewer"]`, `"roles":["a","b","c","d","e","f","g","h","i"]`),
		change(`"sub":"Alice"`, `"sub":""`), change(`"sub":"Alice"`, `"sub":"Al\u202eice"`), change(`"sub":"Alice"`, `"sub":"Alice "`),
		change(`"jti":"j1"`, `"jti":""`), change(`"jti":"j1"`, `"jti":"j 1"`), change(`"jti":"j1"`, `"jti":"`+strings.Repeat("j", 65)+`"`),
		change(`"aud":"y`, `"aud":"Y`), change(`"aud":"y`, `"aud":"`), change(`"aud":"`+string(device)+`"`, `"aud":["`+string(device)+`"]`),
		change(`"cnf":{"spki":`, `"cnf":{"jkt":`), change(`"cnf":{`, `"cnf":{"spki":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",`),
		change(`"cnf":{"spki":`, `"cnf":{"SPKI":`), change(`"sub"`, `"Sub"`),
		change(`{"aud"`, `{"aud":"x","aud"`), change(`{"aud"`, `{"nbf":1,"aud"`), change(`"jti":"j1"`, "\"jti\":\"j\xff1\""),
		good + "{}", "[" + good + "]", "", "null", `{}`,
	} {
		if g, err := keys.ReadGrant([]byte(raw(t, key, goodHeader, claims))); !errors.Is(err, ErrMalformed) {
			t.Errorf("claims %s: %+v, %v", claims, g, err)
		}
	}
}

// TestForgedGrant: no bit of a grant can be changed, nobody else's key makes one,
// and there is one writing only.
func TestForgedGrant(t *testing.T) {
	key, other := newKey(t), newKey(t)
	keys := Keys{&key.PublicKey}
	token, err := someGrant().Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	for i := range token {
		for _, bit := range []byte{1, 4, 32, 128} {
			forged := []byte(token)
			forged[i] ^= bit
			if g, err := keys.ReadGrant(forged); err == nil {
				t.Errorf("byte %d of %d changed by %#x is accepted: %+v", i, len(token), bit, g)
			}
		}
	}
	foreign, err := someGrant().Sign(other)
	if err != nil {
		t.Fatal(err)
	}
	for name, forged := range map[string]string{
		"signed by another key": foreign, "cut": token[:len(token)-1], "longer": token + "A", "padded": token + "=", "a line end": token + "\n",
		"a line end inside": token[:20] + "\n" + token[20:], "no parts": strings.ReplaceAll(token, ".", ""), "four parts": token + ".e30", "empty": "",
		"too long": token + strings.Repeat("A", MaxGrantBytes), "a zero signature": token[:strings.LastIndex(token, ".")+1] + strings.Repeat("A", 86),
	} {
		if g, err := keys.ReadGrant([]byte(forged)); err == nil {
			t.Errorf("%s: %+v", name, g)
		}
	}
	if g, err := Keys(nil).ReadGrant([]byte(token)); !errors.Is(err, ErrSignature) {
		t.Errorf("without keys: %+v, %v", g, err)
	}
	if _, err := keys.ReadList([]byte(token)); err == nil {
		t.Error("a grant was taken for a list")
	}
}

// TestSignatureRange: r and s of zero or not below the group order are refused
// (FIPS 186-5 §6.4.2).
func TestSignatureRange(t *testing.T) {
	key := newKey(t)
	token, err := someGrant().Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	dot := strings.LastIndex(token, ".")
	rs, err := encoding.DecodeString(token[dot+1:])
	if err != nil {
		t.Fatal(err)
	}
	order := elliptic.P256().Params().N
	for name, value := range map[string]*big.Int{"0": new(big.Int), "the order": order, "all ones": new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1))} {
		for half := range 2 {
			forged := append([]byte(nil), rs...)
			value.FillBytes(forged[32*half : 32*half+32])
			if _, err := (Keys{&key.PublicKey}).ReadGrant([]byte(token[:dot+1] + encoding.EncodeToString(forged))); !errors.Is(err, ErrSignature) {
				t.Errorf("half %d is %s: %v", half, name, err)
			}
		}
	}
}

func TestParseKey(t *testing.T) {
	key := newKey(t)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	inPEM := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	for _, text := range []string{inPEM, base64.StdEncoding.EncodeToString(der), " " + base64.StdEncoding.EncodeToString(der) + "\n"} {
		got, err := ParseKey(text)
		if err != nil || !got.Equal(&key.PublicKey) {
			t.Errorf("%q: %v", text, err)
		}
	}
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	larger, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki := func(public crypto.PublicKey) string {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(der)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"", "AAAA", "not base64!", spki(edwards), spki(&larger.PublicKey), inPEM + inPEM, strings.Repeat("A", maxKeyBytes+1),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	} {
		if got, err := ParseKey(text); !errors.Is(err, ErrKey) {
			t.Errorf("%.30q: %v, %v", text, got, err)
		}
	}
	if _, err := someGrant().Sign(larger); !errors.Is(err, ErrKey) {
		t.Errorf("signed with P-384: %v", err)
	}
}
