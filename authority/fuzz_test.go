package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// issue makes an authority and a certificate without openssl, for fuzzing.
func issue(t testing.TB) (ca, leaf, list []byte) {
	t.Helper()
	must := func(b []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root"}, NotBefore: time.Unix(0, 0), NotAfter: never,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1},
	}
	ca = must(x509.CreateCertificate(rand.Reader, root, root, key.Public(), key))
	person := &x509.Certificate{
		SerialNumber: big.NewInt(2), EmailAddresses: []string{"alice@example.net"}, NotBefore: time.Unix(0, 0), NotAfter: never,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	leaf = must(x509.CreateCertificate(rand.Reader, person, root, key.Public(), key))
	list = must(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(7), ThisUpdate: time.Unix(0, 0), NextUpdate: never,
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(3), RevocationTime: time.Unix(0, 0)}},
	}, root, key))
	return ca, leaf, list
}

var never = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)

func inPEM(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }

// Whatever is shown, nobody comes in but by a signature of the authority.
func FuzzCheck(f *testing.F) {
	ca, leaf, _ := issue(f)
	a, err := New(Options{Name: "root", CA: inPEM(ca)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(leaf, ca, uint16(0))
	f.Add(ca, ca, uint16(0))
	f.Add(leaf, []byte{}, uint16(3))
	f.Add([]byte{0x30, 0x80}, leaf, uint16(0))
	set, clock := NewSet(a), Clock{Now: time.Unix(1e9, 0), Known: true}
	if p, err := set.Check([][]byte{leaf}, clock); err != nil || p.ID != "alice@example.net" {
		f.Fatal(p, err)
	}
	f.Fuzz(func(t *testing.T, first, second []byte, more uint16) {
		chain := [][]byte{first}
		if len(second) > 0 {
			chain = append(chain, second)
		}
		for range more % 5 {
			chain = append(chain, second)
		}
		p, err := set.Check(chain, clock)
		if err == nil && (p.ID != "alice@example.net" || string(first) != string(leaf)) {
			t.Errorf("%+v came in", p)
		}
		if total := len(first) + (len(chain)-1)*len(second); err == nil && (total > identity.MaxChainBytes || len(chain) > identity.MaxChain) {
			t.Errorf("%d certificates, %d bytes", len(chain), total)
		}
	})
}

// An identity has one form, of one kind, that can be shown and stored.
func FuzzID(f *testing.F) {
	for _, s := range []string{
		"alice@example.net", "Alice@EXAMPLE.net", "a@b@example.net", "\"a b\"@example.net", "alice@[192.0.2.7]", "alice@192.0.2.7", "alice@xn--bcher-kva.example",
		"https://id.example.net/alice", "HTTPS://ID.example.net", "https://id.example.net/", "https://a@id.example.net/", "https://id.example.net:443/a", "https://id.example.net/a/../b",
		"https://id.example.net/%61", "spiffe://example.net/ns/x", "://x", "urn:uuid:1", "Alice Example", "ca:x", "a\u202eb", "", "@", ".@example.net", strings.Repeat("a", 200) + "@example.net",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, kind, err := Canonical(s)
		if err != nil {
			return
		}
		if again, k, err := Canonical(id); err != nil || again != id || k != kind {
			t.Errorf("%q becomes %q (%v), then %q (%v), %v", s, id, kind, again, k, err)
		}
		if len(id) == 0 || len(id) > MaxID || (kind == KindCommon) == strings.ContainsAny(id, "@:/") || (kind == KindCommon) == (domainOf(id, kind) != "") {
			t.Errorf("%q is %q of kind %v", s, id, kind)
		}
		c := &x509.Certificate{}
		switch kind {
		case KindEmail:
			c.EmailAddresses = []string{s}
		case KindURI:
			u, err := url.Parse(s)
			if err != nil {
				return
			}
			c.URIs = []*url.URL{u}
		default:
			c.Subject.Names = []pkix.AttributeTypeAndValue{{Type: oidCommonName, Value: s}}
		}
		if of, k, err := IDOf(c); err == nil && (of != id || k != kind) {
			t.Errorf("in a certificate %q is %q (%v), typed %q (%v)", s, of, k, id, kind)
		}
	})
}

// A list counts with a signature alone.
func FuzzLists(f *testing.F) {
	ca, _, list := issue(f)
	f.Add(list)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list}))
	f.Add([]byte("-----BEGIN X509 CRL-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := New(Options{CA: inPEM(ca), Revoked: data})
		if err != nil {
			return
		}
		for _, l := range a.lists {
			if l.number.Int64() != 7 || !l.revoked["3"] {
				t.Errorf("a list of number %v", l.number)
			}
		}
	})
}

// FuzzFile is the file of an authority.
func FuzzFile(f *testing.F) {
	ca, leaf, _ := issue(f)
	f.Add(inPEM(ca))
	f.Add(append(inPEM(ca), inPEM(leaf)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := New(Options{CA: data}); err == nil && len(a.anchors) == 0 {
			t.Error("an authority without a root")
		}
	})
}
