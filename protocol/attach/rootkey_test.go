package attach

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
)

func TestRootKeyTextGolden(t *testing.T) {
	k := ed25519.PublicKey(bytes.Repeat([]byte{0xfb, 0x01}, 16))
	const text = "-wH7AfsB-wH7AfsB-wH7AfsB-wH7AfsB-wH7AfsB-wE"
	if got := FormatRootKey(k); got != text {
		t.Errorf("%x is %s, want %s", k, got, text)
	}
	got, err := ParseRootKey(text)
	if err != nil || !got.Equal(k) {
		t.Errorf("%s reads as %x, %v", text, got, err)
	}
	for _, bad := range []string{"", text[1:], text + "A", text[:42] + "F", text[:42] + "\n", strings.Replace(text, "-", "+", 1)} {
		if _, err := ParseRootKey(bad); !errors.Is(err, ErrRootKey) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzRootKey(f *testing.F) {
	f.Add(FormatRootKey(make(ed25519.PublicKey, ed25519.PublicKeySize)))
	f.Add("-wH7AfsB-wH7AfsB-wH7AfsB-wH7AfsB-wH7AfsB-wE")
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := ParseRootKey(s); err == nil && FormatRootKey(k) != s {
			t.Errorf("%q and %q are one key", s, FormatRootKey(k))
		}
	})
}
