package inject

import (
	"strings"
	"testing"
)

// answerTo answers a challenge with a fixed cnonce.
func answerTo(t *testing.T, field, user, password, method, uri, cnonce string) string {
	t.Helper()
	o, err := choose(parseChallenges(field))
	if err != nil {
		t.Fatal(err)
	}
	a := newAnswers(o, Credentials{user, NewSecret(password)})
	a.cnonce = cnonce
	if a.offer.sess {
		a.ha1 = a.h(a.h(user, ":", o.of("realm"), ":", password), ":", o.of("nonce"), ":", cnonce)
	}
	value, _ := a.to(method, uri)
	return value
}

// The examples of the RFCs.
func TestDigestVectors(t *testing.T) {
	const rfc7616 = `Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=ALG, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`
	const cnonce7616 = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
	for _, c := range []struct{ name, field, user, password, uri, cnonce, want string }{
		{"RFC 7616 §3.9.1 MD5", strings.Replace(rfc7616, "ALG", "MD5", 1), "Mufasa", "Circle of Life", "/dir/index.html", cnonce7616, "8ca523f5e9506fed4657c9700eebdbec"},
		{"RFC 7616 §3.9.1 SHA-256", strings.Replace(rfc7616, "ALG", "SHA-256", 1), "Mufasa", "Circle of Life", "/dir/index.html", cnonce7616, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"},
		// Computed with Python's hashlib.
		{"MD5-sess", strings.Replace(rfc7616, "ALG", "MD5-sess", 1), "Mufasa", "Circle of Life", "/dir/index.html", "0a4f113b", "1325270a4f4f4bac3152e76655b5bc6b"},
		{"SHA-512-256", strings.Replace(rfc7616, "ALG", "SHA-512-256", 1), "Mufasa", "Circle of Life", "/dir/index.html", "0a4f113b", "f3e74711ba3657d4a8d784ee80eeae9c7079478fce86dca6aa646f0f0f67b91d"},
		{"RFC 2617 §3.5", `Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"`,
			"Mufasa", "Circle Of Life", "/dir/index.html", "0a4f113b", "6629fae49393a05397450978507c4ef1"},
		{"RFC 2069 §2.4 (with the erratum)", `Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"`,
			"Mufasa", "CircleOfLife", "/dir/index.html", "", "1949323746fe6a43ef61f9606e7febea"},
	} {
		got := answerTo(t, c.field, c.user, c.password, "GET", c.uri, c.cnonce)
		if !strings.Contains(got, `response="`+c.want+`"`) {
			t.Errorf("%s: got %s, want response %s", c.name, got, c.want)
		}
	}
}

func TestCountsRise(t *testing.T) {
	o, _ := choose(parseChallenges(`Digest realm="r", nonce="n", qop="auth"`))
	a := newAnswers(o, Credentials{"u", NewSecret("p")})
	for _, want := range []string{"nc=00000001,", "nc=00000002,", "nc=00000003,"} {
		if value, _ := a.to("GET", "/"); !strings.Contains(value, want) {
			t.Errorf("got %s, want %s", value, want)
		}
	}
	a.renew("m")
	if value, _ := a.to("GET", "/"); !strings.Contains(value, "nc=00000001,") || !strings.Contains(value, `nonce="m"`) {
		t.Errorf("after another nonce: %s", value)
	}
}

func TestChooses(t *testing.T) {
	for _, c := range []struct {
		fields []string
		want   string // scheme and algorithm
		err    error
	}{
		{[]string{`Basic realm="a"`}, "basic ", nil},
		{[]string{`basic`}, "basic ", nil},
		{[]string{`Basic realm="a", Digest realm="a", nonce="b"`}, "digest MD5", nil},
		{[]string{`Digest realm="a", nonce="b", algorithm=MD5`, `Digest realm="a", nonce="b", algorithm=SHA-256, qop="auth"`, `Basic realm="x"`}, "digest SHA-256", nil},
		{[]string{`Digest realm="a", nonce="b", algorithm=SHA-512-256`}, "digest SHA-512-256", nil},
		{[]string{`Digest realm="a, b=\"c\"", nonce="b",algorithm="md5-sess",qop=auth`}, "digest MD5", nil},
		{[]string{`Negotiate, NTLM, Basic realm="a"`}, "basic ", nil},
		{[]string{`Negotiate dGVzdA==, Digest realm="a", nonce="b"`}, "digest MD5", nil},
		{[]string{`Digest realm="a", nonce="b", qop="auth-int"`}, "", errIntegrity},
		{[]string{`Digest realm="a", nonce="b", qop="auth-int"`, `Basic realm="a"`}, "basic ", nil},
		{[]string{`Digest realm="a", nonce="b", algorithm=SHA3`}, "", errAlgorithm},
		{[]string{`Digest realm="a"`}, "", errNoChallenge},
		{[]string{`NTLM`}, "", errUnknownScheme},
		{[]string{`Bearer realm="a"`}, "", errUnknownScheme},
		{nil, "", errNoChallenge},
		{[]string{`Digest realm="a" nonce="b"`}, "digest MD5", nil}, // a comma is missing, as some cameras do
		{[]string{`Digest realm="a`}, "", errNoChallenge},
		{[]string{"Digest nonce=\"" + strings.Repeat("x", maxParameter+1) + `"`}, "", errNoChallenge},
	} {
		var h head
		for _, f := range c.fields {
			h.fields = append(h.fields, field{name: "www-authenticate", value: []byte(f)})
		}
		o, err := choose(h.challenges())
		if got := o.scheme + " " + o.algorithm.name; err != c.err || err == nil && got != c.want {
			t.Errorf("%q: got %q %v, want %q %v", c.fields, got, err, c.want, c.err)
		}
	}
}

func FuzzChallenges(f *testing.F) {
	for _, s := range []string{
		`Basic realm="a"`, `Digest realm="a", nonce="b", qop="auth,auth-int", algorithm=SHA-256, opaque="c", stale=TRUE`, `Negotiate abc==, Basic`,
		`Digest realm="a\"b", nonce=b`, `,,, Digest ,=`, `Digest nonce="`, `a=b`, `Digest a = "b" , c`, "Digest nonce=x\\",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list := parseChallenges(s)
		if len(list) > maxChallenges {
			t.Fatalf("%d challenges", len(list))
		}
		nextNonce(s)
		o, err := choose(list)
		if err != nil || !printable([]byte(s)) {
			return
		}
		value, _ := newAnswers(o, Credentials{"u", NewSecret("p")}).to("GET", "/")
		if !printable([]byte(value)) || strings.Contains(value, "\n") {
			t.Fatalf("%q is no field", value)
		}
		if o.scheme == "digest" { // what is written reads as it was meant
			back := parseChallenges(value)
			if len(back) != 1 || back[0].of("nonce") != o.of("nonce") || back[0].of("realm") != o.of("realm") || back[0].of("uri") != "/" {
				t.Fatalf("%q from %q reads as %v", value, s, back)
			}
		}
	})
}
