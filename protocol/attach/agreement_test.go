package attach

import (
	"bytes"
	"crypto/rand"
	"testing"

	"github.com/flynn/noise"
)

// The agreement is the library's, whichever keys it has at hand.
func TestAgreementIsTheLibrarys(t *testing.T) {
	r, err := newResponder(Secret{9})
	if err != nil {
		t.Fatal(err)
	}
	seed := make([]byte, keySize)
	for range 50 {
		rand.Read(seed)
		own, err := r.agreement.GenerateKeypair(bytes.NewReader(seed))
		if err != nil {
			t.Fatal(err)
		}
		want, err := noise.DH25519.GenerateKeypair(bytes.NewReader(seed))
		if err != nil || !bytes.Equal(own.Private, want.Private) || !bytes.Equal(own.Public, want.Public) {
			t.Fatalf("seed %x: %x, want %x, %v", seed, own.Public, want.Public, err)
		}
		other, err := noise.DH25519.GenerateKeypair(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for _, private := range [][]byte{own.Private, r.key.Private, other.Private} {
			got, err := r.agreement.DH(private, other.Public)
			want, wantErr := noise.DH25519.DH(private, other.Public)
			if err != nil || wantErr != nil || !bytes.Equal(got, want) {
				t.Fatalf("%x, %v; want %x, %v", got, err, want, wantErr)
			}
		}
	}
	// Points of low order make no secret.
	for _, low := range []byte{0, 1} {
		if _, err := r.agreement.DH(r.key.Private, append([]byte{low}, make([]byte, 31)...)); err == nil {
			t.Errorf("agreed with the point %d", low)
		}
	}
	if _, err := r.agreement.DH(r.key.Private, []byte("short")); err == nil {
		t.Error("agreed with a short key")
	}
}
