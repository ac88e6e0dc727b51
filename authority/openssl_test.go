package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testca"
	"github.com/keyholed/keyhole/protocol/identity"
)

func known(at time.Time) Clock { return Clock{Now: at, Known: true} }

func load(t testing.TB, o Options) *Authority {
	t.Helper()
	if o.Name == "" {
		o.Name = "corp"
	}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// The cases of one authority with an intermediate: what openssl issued, and whom
// it names or why it does not.
func TestChainsOfOpenSSL(t *testing.T) {
	root := testca.New(t, testca.Options{Subject: "/O=Example/CN=Root"})
	middle := root.Intermediate(testca.Options{Subject: "/O=Example/CN=Staff", Ext: testca.Issuer("")})
	mail := root.Intermediate(testca.Options{Subject: "/O=Example/CN=Mail only", Ext: testca.Issuer("nameConstraints=critical,permitted;email:example.net\n")})
	hosts := root.Intermediate(testca.Options{Subject: "/O=Example/CN=Hosts only", Ext: testca.Issuer("nameConstraints=permitted;DNS:example.net\n")})
	short := root.Intermediate(testca.Options{Subject: "/O=Example/CN=Short", Ext: "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n"})
	below := short.Intermediate(testca.Options{Subject: "/O=Example/CN=Below"})
	crlOnly := root.Intermediate(testca.Options{Subject: "/O=Example/CN=CRL only", Ext: "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,cRLSign\n"})
	notCA := root.Intermediate(testca.Options{Subject: "/O=Example/CN=No CA", Ext: "basicConstraints=critical,CA:FALSE\n"})
	servers := root.Intermediate(testca.Options{Subject: "/O=Example/CN=Servers", Ext: testca.Issuer("extendedKeyUsage=serverAuth\n")})
	stranger := testca.New(t, testca.Options{Subject: "/O=Example/CN=Root"}) // the same name, another key

	now := time.Now()
	alice := testca.Options{Ext: testca.Named("email:alice@example.net")}
	const usage = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
	for _, c := range []struct {
		name  string
		chain []byte
		id    string
		want  error
	}{
		{"by the root", root.Issue(alice), "alice@example.net", nil},
		{"by the intermediate", testca.Chain(middle.Issue(alice), middle.Cert), "alice@example.net", nil},
		{"with the root", testca.Chain(middle.Issue(alice), middle.Cert, root.Cert), "alice@example.net", nil},
		{"capitals", root.Issue(testca.Options{Ext: testca.Named("email:Alice@Example.NET")}), "alice@example.net", nil},
		{"URI", root.Issue(testca.Options{Ext: testca.Named("URI:https://ID.example.net/Alice")}), "https://id.example.net/Alice", nil},
		{"host names beside", root.Issue(testca.Options{Ext: testca.Named("email:alice@example.net,DNS:alice.example.net,IP:192.0.2.7")}), "alice@example.net", nil},
		{"subject only", root.Issue(testca.Options{Subject: "/O=Example/CN=Alice Example"}), "Alice Example", nil},
		{"mail in the subject is nothing", root.Issue(testca.Options{Subject: "/O=Example/CN=Alice/emailAddress=eve@example.net"}), "Alice", nil},
		{"constrained, inside", testca.Chain(mail.Issue(alice), mail.Cert), "alice@example.net", nil},

		{"intermediate missing", middle.Issue(alice), "", ErrUnknown},
		{"not in order", testca.Chain(middle.Issue(alice), root.Cert, middle.Cert), "", ErrOrder},
		{"another root of that name", stranger.Issue(alice), "", ErrInvalid},
		{"expired", root.Issue(testca.Options{Ext: alice.Ext, From: now.AddDate(0, -2, 0), Until: now.AddDate(0, 0, -1)}), "", ErrEnded},
		{"not yet valid", root.Issue(testca.Options{Ext: alice.Ext, From: now.AddDate(0, 0, 2)}), "", ErrNotYet},
		{"for servers", root.Issue(testca.Options{Ext: usage + "extendedKeyUsage=serverAuth\nsubjectAltName=email:alice@example.net\n"}), "", ErrPurpose},
		{"for nothing named", root.Issue(testca.Options{Ext: usage + "subjectAltName=email:alice@example.net\n"}), "", ErrPurpose},
		{"for anything", root.Issue(testca.Options{Ext: usage + "extendedKeyUsage=anyExtendedKeyUsage\nsubjectAltName=email:alice@example.net\n"}), "", ErrPurpose},
		{"for encrypting", root.Issue(testca.Options{Ext: "keyUsage=critical,keyEncipherment\nextendedKeyUsage=clientAuth\nsubjectAltName=email:alice@example.net\n"}), "", ErrPurpose},
		{"an authority itself", root.Issue(testca.Options{Ext: testca.Issuer("extendedKeyUsage=clientAuth\nsubjectAltName=email:alice@example.net\n")}), "", ErrPurpose},
		{"outside its constraint", testca.Chain(mail.Issue(testca.Options{Ext: testca.Named("email:alice@example.org")}), mail.Cert), "", ErrInvalid},
		{"of a kind that no constraint is about", testca.Chain(mail.Issue(testca.Options{Ext: testca.Named("URI:https://id.example.org/alice")}), mail.Cert), "", ErrInvalid},
		{"common name past a constraint", testca.Chain(mail.Issue(testca.Options{Subject: "/CN=Alice"}), mail.Cert), "", ErrInvalid},
		{"mail past a constraint on hosts", testca.Chain(hosts.Issue(alice), hosts.Cert), "", ErrInvalid},
		{"common name that looks like mail", root.Issue(testca.Options{Subject: "/CN=alice@example.net"}), "", ErrIdentity},
		{"two addresses", root.Issue(testca.Options{Ext: testca.Named("email:alice@example.net,email:bob@example.net")}), "", ErrAmbiguous},
		{"the same address twice", root.Issue(testca.Options{Ext: testca.Named("email:alice@example.net,email:alice@example.net")}), "", ErrAmbiguous},
		{"address and URI", root.Issue(testca.Options{Ext: testca.Named("email:alice@example.net,URI:https://id.example.net/alice")}), "", ErrAmbiguous},
		{"two common names", root.Issue(testca.Options{Subject: "/CN=Alice/CN=Bob"}), "", ErrAmbiguous},
		{"nobody", root.Issue(testca.Options{Subject: "/O=Example"}), "", ErrNoIdentity},
		{"path too long", testca.Chain(below.Issue(alice), below.Cert, short.Cert), "", ErrInvalid},
		{"by one who may sign lists only", testca.Chain(crlOnly.Issue(alice), crlOnly.Cert), "", ErrInvalid},
		{"by one who is no authority", testca.Chain(notCA.Issue(alice), notCA.Cert), "", ErrInvalid},
		{"by one for servers", testca.Chain(servers.Issue(alice), servers.Cert), "", ErrInvalid},
		{"SHA-1", root.Issue(testca.Options{Ext: alice.Ext, Digest: "sha1"}), "", ErrAlgorithm},
		{"critical extension that nobody knows", root.Issue(testca.Options{Ext: alice.Ext + "1.2.3.4=critical,ASN1:UTF8String:x\n"}), "", ErrInvalid},
		{"five certificates", testca.Chain(middle.Issue(alice), middle.Cert, root.Cert, mail.Cert, hosts.Cert), "", ErrTooLarge},
		{"too many bytes", root.Issue(testca.Options{Ext: alice.Ext + "1.2.3.4=ASN1:UTF8String:" + strings.Repeat("x", identity.MaxChainBytes) + "\n"}), "", ErrTooLarge},
	} {
		a := load(t, Options{CA: root.Cert})
		p, err := NewSet(a).Check(testca.DER(c.chain), known(now))
		if !errors.Is(err, c.want) || p.ID != c.id || c.want == nil && p.Authority != "corp" {
			t.Errorf("%s: %+v, %v, want %q, %v", c.name, p, err, c.id, c.want)
		}
	}
	// An intermediate in the file of the authority need not be shown, and is trusted
	// no further than the root says.
	a := NewSet(load(t, Options{CA: testca.Chain(root.Cert, middle.Cert, mail.Cert)}))
	if p, err := a.Check(testca.DER(middle.Issue(alice)), known(now)); err != nil || p.ID != "alice@example.net" {
		t.Errorf("intermediate of the file: %v, %v", p, err)
	}
	if _, err := a.Check(testca.DER(mail.Issue(testca.Options{Ext: testca.Named("email:alice@example.org")})), known(now)); !errors.Is(err, ErrInvalid) {
		t.Errorf("intermediate of the file outside its constraint: %v", err)
	}
}

func TestRSAKeys(t *testing.T) {
	strong := testca.New(t, testca.Options{Key: "rsa:2048"})
	alice := testca.Options{Ext: testca.Named("email:alice@example.net")}
	set := NewSet(load(t, Options{CA: strong.Cert}))
	if p, err := set.Check(testca.DER(strong.Issue(alice)), known(time.Now())); err != nil {
		t.Errorf("RSA of 2048 bits: %v, %v", p, err)
	}
	weak := strong.Intermediate(testca.Options{Key: "rsa:1024"})
	if _, err := set.Check(testca.DER(testca.Chain(weak.Issue(alice), weak.Cert)), known(time.Now())); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("RSA of 1024 bits: %v", err)
	}
	if _, err := New(Options{CA: testca.New(t, testca.Options{Key: "rsa:1024"}).Cert}); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("a root of 1024 bits: %v", err)
	}
}

// One key, two authorities: the certificate that is shown says who the holder is.
func TestOneKeyTwoAuthorities(t *testing.T) {
	corp, club := testca.New(t, testca.Options{Subject: "/CN=Corp"}), testca.New(t, testca.Options{Subject: "/CN=Club"})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := NewSet(
		load(t, Options{Name: "corp", CA: corp.Cert, Domains: []string{"example.net"}}),
		load(t, Options{Name: "club", CA: club.Cert}),
	)
	named := func(id string) testca.Options { return testca.Options{Ext: testca.Named("email:" + id)} }
	for _, c := range []struct {
		chain []byte
		id    string
		by    string
		want  error
	}{
		{corp.IssueTo(key, named("alice@example.net")), "alice@example.net", "corp", nil},
		{club.IssueTo(key, named("alice@example.org")), "alice@example.org", "club", nil},
		{club.IssueTo(key, named("alice@example.net")), "", "", ErrDomain}, // the other one's people
		{corp.IssueTo(key, named("alice@example.org")), "", "", ErrDomain},
		{corp.IssueTo(key, testca.Options{Subject: "/CN=Alice"}), "", "", ErrDomain},
		{club.IssueTo(key, testca.Options{Subject: "/CN=Alice"}), "Alice", "club", nil},
	} {
		p, err := set.Check(testca.DER(c.chain), known(time.Now()))
		if !errors.Is(err, c.want) || p.ID != c.id || p.Authority != c.by {
			t.Errorf("%+v, %v, want %q of %q, %v", p, err, c.id, c.by, c.want)
		}
	}
}

func TestRevocationLists(t *testing.T) {
	root := testca.New(t, testca.Options{Subject: "/CN=Root"})
	middle := root.Intermediate(testca.Options{Subject: "/CN=Staff"})
	other := testca.New(t, testca.Options{Subject: "/CN=Root"})
	now := time.Now()
	soon := now.AddDate(0, 0, 7)
	named := func(id string) testca.Options { return testca.Options{Ext: testca.Named("email:" + id)} }
	alice, bob := root.Issue(named("alice@example.net")), root.Issue(named("bob@example.net"))
	carol := testca.Chain(middle.Issue(named("carol@example.net")), middle.Cert)
	first := root.List(soon)
	root.Revoke(bob)
	second := root.List(soon)
	ca := testca.Chain(root.Cert, middle.Cert)

	check := func(what string, a *Authority, chain []byte, clock Clock, want error) {
		t.Helper()
		p, err := NewSet(a).Check(testca.DER(chain), clock)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if err == nil && p.Until.After(soon) {
			t.Errorf("%s: until %v, after the list has ended", what, p.Until)
		}
	}
	a := load(t, Options{CA: ca, Revoked: second})
	check("good", a, alice, known(now), nil)
	check("revoked", a, bob, known(now), ErrRevoked)
	check("no list of the issuer", a, carol, known(now), ErrNoList)
	check("list ended", a, alice, known(soon.Add(time.Second)), ErrOldList)
	check("list ended by the floor", a, alice, Clock{Now: now, Known: true, Floor: soon.Add(time.Second)}, ErrOldList)
	check("list of tomorrow", a, alice, known(now.Add(-12*time.Hour)), ErrOldList)
	check("before the revocation", load(t, Options{CA: ca, Revoked: first}), bob, known(now), nil)

	both := load(t, Options{CA: ca, Revoked: testca.Chain(second, middle.List(soon))})
	check("list of the intermediate", both, carol, known(now), nil)
	root.Revoke(middle.Cert)
	both = load(t, Options{CA: ca, Revoked: testca.Chain(root.List(soon), middle.List(soon))})
	check("intermediate revoked", both, carol, known(now), ErrRevoked)
	check("DER", load(t, Options{CA: ca, Revoked: testca.DER(second)[0]}), bob, known(now), ErrRevoked)
	check("older beside newer", load(t, Options{CA: ca, Revoked: testca.Chain(second, first)}), bob, known(now), ErrRevoked)

	floors, changed := Floors(nil).Raise(a)
	if !changed || len(floors) != 1 {
		t.Fatalf("floors %v, %v", floors, changed)
	}
	if again, changed := floors.Raise(a); changed || len(again) != 1 {
		t.Error("the same list raises the floor again")
	}
	for what, o := range map[string]Options{
		"lower than one that was in force": {CA: ca, Revoked: first, Floors: floors},
		"signed by none":                   {CA: ca, Revoked: other.List(soon)},
		"no revocation list":               {CA: ca, Revoked: root.Cert},
		"cannot be read":                   {CA: ca, Revoked: []byte("nonsense")},
		"no list in an empty file":         {CA: ca, Revoked: []byte{}},
		"delta list":                       {CA: ca, Revoked: delta(t, root)},
		"algorithm":                        {CA: ca, Revoked: root.List(soon, "-md", "sha1")},
	} {
		_, err := New(o)
		var wrong *FileError
		if !errors.As(err, &wrong) || !wrong.List {
			t.Errorf("%s: %v", what, err)
		} else if text := err.Error(); what != "no list in an empty file" && !strings.Contains(text, what) {
			t.Errorf("%s: %q", what, text)
		}
	}
	if _, err := New(Options{CA: ca, Revoked: second, Floors: floors}); err != nil {
		t.Errorf("the list that made the floor: %v", err)
	}
	ends := both.Ends()
	if len(ends) != 4 || !ends[0].List || !slices.IsSortedFunc(ends, func(a, b End) int { return a.At.Compare(b.At) }) {
		t.Errorf("ends %v", ends)
	}
}

// delta is a list that only says what is new, marked critical as RFC 5280 §5.2.4 wants.
func delta(t *testing.T, ca *testca.CA) []byte {
	t.Helper()
	return ca.ListWith("2.5.29.27=critical,DER:02:01:01\n", time.Now().AddDate(0, 0, 7))
}

func TestFilesThatAreNoAuthority(t *testing.T) {
	root := testca.New(t, testca.Options{Subject: "/CN=Root"})
	leaf := root.Issue(testca.Options{Subject: "/CN=Alice"})
	for want, data := range map[string][]byte{
		"no certificate in PEM":   []byte("hello"),
		"no CA:TRUE":              testca.Chain(root.Cert, leaf),
		"certificate 1 (":         leaf,
		"want certificates alone": testca.Chain(root.Cert, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")),
		"cannot be read":          []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"key usage":               testca.New(t, testca.Options{Ext: "basicConstraints=CA:TRUE\nkeyUsage=cRLSign\n"}).Cert,
		"SHA1":                    testca.New(t, testca.Options{Digest: "sha1"}).Cert,
	} {
		if _, err := New(Options{CA: data}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	many := []byte{}
	for i := range maxCertificates + 1 {
		many = append(many, testca.New(t, testca.Options{Subject: fmt.Sprintf("/CN=%d", i)}).Cert...)
	}
	if _, err := New(Options{CA: many}); err == nil || !strings.Contains(err.Error(), "more than 16") {
		t.Errorf("%v", err)
	}
}
