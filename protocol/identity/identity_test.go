package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func signers(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"P-256": p256, "Ed25519": ed, "RSA": r}
}

func TestFingerprintIsWhatOpenSSLSays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity.pem")
	k, err := LoadOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", "openssl pkey -in "+path+" -pubout -outform DER | sha256sum").Output()
	if err != nil {
		t.Fatal(err)
	}
	if want, _, _ := strings.Cut(string(out), " "); k.Fingerprint().String() != want {
		t.Errorf("fingerprint %v, openssl says %s", k.Fingerprint(), want)
	}
	again, err := LoadOrCreate(path)
	if err != nil || again.Fingerprint() != k.Fingerprint() {
		t.Errorf("second load: %v, %v; want the same key", again, err)
	}
}

func TestIDGolden(t *testing.T) {
	f, err := ParseFingerprint("00443214c74254b635cf84653a56d7c675be77df00443214c74254b635cf8465")
	if err != nil {
		t.Fatal(err)
	}
	// Every base-32 digit once, in order: computed by hand from RFC 4648 §6.
	if got, want := f.ID(), ID("abcdefghijklmnopqrstuvwxyz"); got != want {
		t.Errorf("id %s, want %s", got, want)
	}
	if _, err := ParseID(string(f.ID())); err != nil {
		t.Error(err)
	}
	if err := PinID(f.ID())(f); err != nil {
		t.Error(err)
	}
	other := f
	other[0] ^= 0x80
	var mismatch *MismatchError
	if err := PinID(f.ID())(other); !errors.As(err, &mismatch) {
		t.Errorf("another key under the same id: %v", err)
	}
	// The id ends inside byte 17: bits behind the 130th do not count.
	other = f
	other[16] ^= 0x3f
	if other.ID() != f.ID() {
		t.Error("the id depends on more than 130 bits")
	}
}

func TestParse(t *testing.T) {
	good := strings.Repeat("a1", 32)
	for _, s := range []string{good, strings.ToUpper(good), strings.TrimSuffix(strings.Repeat("A1:", 32), ":")} {
		if _, err := ParseFingerprint(s); err != nil {
			t.Errorf("ParseFingerprint(%q): %v", s, err)
		}
	}
	for _, s := range []string{"", "a1", good + "00", strings.Repeat("g1", 32), strings.Repeat("a", 10000)} {
		if _, err := ParseFingerprint(s); !errors.Is(err, ErrNotFingerprint) {
			t.Errorf("ParseFingerprint(%.20q) = %v", s, err)
		}
	}
	for _, s := range []string{"", "abc", strings.Repeat("A", 26), strings.Repeat("1", 26), strings.Repeat("a", 27)} {
		if _, err := ParseID(s); !errors.Is(err, ErrNotID) {
			t.Errorf("ParseID(%q) = %v", s, err)
		}
	}
}

func TestKeyKinds(t *testing.T) {
	for name, s := range signers(t) {
		if _, err := New(s); err != nil {
			t.Errorf("%s refused: %v", name, err)
		}
	}
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if _, err := New(p384); !errors.Is(err, ErrKeyKind) {
		t.Errorf("P-384: %v, want ErrKeyKind", err)
	}
	if _, err := FingerprintOf(&rsa.PublicKey{N: p384.X, E: 65537}); !errors.Is(err, ErrKeyKind) {
		t.Errorf("RSA of 384 bits: %v, want ErrKeyKind", err)
	}
}

func TestSignaturesAreForOnePurpose(t *testing.T) {
	for name, s := range signers(t) {
		k, err := New(s)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := k.Sign(PurposeAudit, []byte("message"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := Verify(k.Public(), PurposeAudit, []byte("message"), sig); err != nil {
			t.Errorf("%s: own signature: %v", name, err)
		}
		for _, bad := range []struct {
			purpose Purpose
			message string
		}{{"other", "message"}, {PurposeAudit, "massage"}, {"audit\x00m", "essage"}} {
			if err := Verify(k.Public(), bad.purpose, []byte(bad.message), sig); !errors.Is(err, ErrBadSignature) {
				t.Errorf("%s: purpose %q message %q: %v, want ErrBadSignature", name, bad.purpose, bad.message, err)
			}
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "identity.pem")
	k, err := LoadOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	key, _, _ := strings.Cut(string(good), "-----BEGIN CERTIFICATE")
	for _, c := range []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"readable by others", string(good), 0o644, "chmod 600"},
		{"empty", "", 0o600, "no private key"},
		{"certificate of another key", key + string(other.CertificatePEM()), 0o600, "another key"},
		{"garbage in the block", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0o600, "cannot be read"},
		{"too large", string(good) + strings.Repeat("x", maxKeyFileBytes), 0o600, "larger than"},
		{"key alone", key, 0o600, ""},
	} {
		p := filepath.Join(dir, "case")
		if err := os.WriteFile(p, []byte(c.content), c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := Load(p)
		if c.want == "" {
			if err != nil || got.Fingerprint() != k.Fingerprint() {
				t.Errorf("%s: %v, %v", c.name, got, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
	}
}

func TestKeysMadeByOpenSSL(t *testing.T) {
	for name, command := range map[string]string{
		"P-256":   "openssl ecparam -name prime256v1 -genkey -noout",
		"Ed25519": "openssl genpkey -algorithm ed25519",
		"RSA":     "openssl genrsa -traditional 2048",
	} {
		out, err := exec.Command("sh", "-c", command+" 2>/dev/null").Output()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParsePEM(out); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeyDoesNotPrint(t *testing.T) {
	s := signers(t)["P-256"].(*ecdsa.PrivateKey)
	k, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := s.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%s", "%+v", "%d", "%x"} {
		if got := fmt.Sprintf(format, k); strings.Contains(got, hex.EncodeToString(secret)) || strings.Contains(got, new(big.Int).SetBytes(secret).String()) {
			t.Errorf("%s prints the private key", format)
		}
	}
}

func FuzzParsePEM(f *testing.F) {
	k, err := Generate()
	if err != nil {
		f.Fatal(err)
	}
	pem, err := k.marshalPEM()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem)
	f.Add([]byte("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if k, err := ParsePEM(data); err == nil && k.Fingerprint().IsZero() {
			t.Error("a key without a fingerprint")
		}
	})
}
