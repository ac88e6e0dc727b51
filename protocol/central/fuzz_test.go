package central

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzGrant signs whatever the fuzzer makes of header and claims: most of the code
// is behind the signature.
func FuzzGrant(f *testing.F) {
	key := newKey(f)
	keys := Keys{&key.PublicKey}
	f.Add(goodHeader, goodClaims())
	f.Add(`{"alg":"none","typ":"keyhole-grant"}`, `{}`)
	f.Add(goodHeader, `{"aud":["x"],"cnf":{"spki":null}}`)
	f.Fuzz(func(t *testing.T, header, claims string) {
		if len(header)+len(claims) > 2*MaxGrantBytes {
			return
		}
		g, err := keys.ReadGrant([]byte(raw(t, key, header, claims)))
		if err != nil {
			return
		}
		if g.Life <= 0 || g.Life > MaxLife || len(g.Roles) == 0 || g.Client.IsZero() {
			t.Errorf("%s is accepted as %+v", claims, g)
		}
		again, err := g.Sign(key)
		if err != nil {
			return // it was written with fewer bytes than we need
		}
		if back, err := keys.ReadGrant([]byte(again)); err != nil || !cmp.Equal(g, back) {
			t.Errorf("%+v comes back as %+v: %v", g, back, err)
		}
	})
}

// FuzzToken looks at what is before the signature. Nothing that the fuzzer finds
// is signed.
func FuzzToken(f *testing.F) {
	key := newKey(f)
	keys := Keys{&key.PublicKey}
	token, err := someGrant().Sign(newKey(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(token))
	f.Add([]byte("e30.e30."))
	f.Add(bytes.Repeat([]byte("."), 9))
	f.Fuzz(func(t *testing.T, token []byte) {
		if g, err := keys.ReadGrant(token); err == nil {
			t.Errorf("%q is a grant: %+v", token, g)
		}
		if l, err := keys.ReadList(token); err == nil {
			t.Errorf("%q is a list: %+v", token, l)
		}
	})
}

func FuzzList(f *testing.F) {
	key := newKey(f)
	keys := Keys{&key.PublicKey}
	f.Add(`{"aud":"yzid2zaccqs7whl4awmmvw3ua6","version":3,"exp":1790000000,"users":[{"name":"Alice","role":"viewer","keys":["1111111111111111111111111111111111111111111111111111111111111111"],"until":5}]}`)
	f.Add(`{"aud":"yzid2zaccqs7whl4awmmvw3ua6","version":1,"users":[]}`)
	f.Fuzz(func(t *testing.T, claims string) {
		l, err := keys.ReadList([]byte(raw(t, key, `{"alg":"ES256","typ":"keyhole-list"}`, claims)))
		if err != nil {
			return
		}
		again, err := l.Sign(key)
		if err != nil {
			t.Fatalf("%s: %v", claims, err)
		}
		if back, err := keys.ReadList([]byte(again)); err != nil || !cmp.Equal(l, back) {
			t.Errorf("%+v comes back as %+v: %v", l, back, err)
		}
	})
}
