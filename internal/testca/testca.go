// Package testca runs certificate authorities for tests, with the openssl program:
// certificates as people's own authorities make them, not as crypto/x509 would.
package testca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
)

// A CA is an authority with its key, its list of what it has issued, and what it
// has revoked, in a directory of the test.
type CA struct {
	t       testing.TB
	openssl string
	dir     string
	Cert    []byte // PEM
	parent  *CA    // nil: a root
	issued  int
}

// Options of a certificate. Zero fields are what a person's certificate has.
type Options struct {
	Subject string    // "/CN=Alice"; "": "/O=Example"
	Ext     string    // lines of an openssl extension section; "": clientAuth, no CA
	From    time.Time // zero: yesterday
	Until   time.Time // zero: in a month
	Digest  string    // "sha256"
	Key     string    // of a CA: openssl's -newkey; "": "ec:P-256"
}

const (
	person = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n"
	issuer = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
)

// Named is the extensions of a person's certificate with a subjectAltName, such as
// "email:alice@example.net".
func Named(san string) string { return person + "subjectAltName=" + san + "\n" }

// Issuer is the extensions of an authority's certificate with more lines.
func Issuer(more string) string { return issuer + more }

// New makes a root.
func New(t testing.TB, o Options) *CA { return newCA(t, nil, o) }

// Intermediate makes an authority that ca has certified.
func (ca *CA) Intermediate(o Options) *CA { return newCA(ca.t, ca, o) }

func newCA(t testing.TB, parent *CA, o Options) *CA {
	t.Helper()
	ca := &CA{t: t, openssl: testnet.Program(t, "openssl"), dir: t.TempDir(), parent: parent}
	ca.write("index.txt", "")
	ca.write("crlnumber", "1000\n")
	ca.write("serial", "1000\n")
	ca.write("ca.cnf", fmt.Sprintf(`[ca]
default_ca = here
[here]
dir = %[1]s
database = %[1]s/index.txt
crlnumber = %[1]s/crlnumber
serial = %[1]s/serial
new_certs_dir = %[1]s
private_key = %[1]s/key.pem
certificate = %[1]s/cert.pem
default_md = sha256
default_days = 30
policy = any
unique_subject = no
email_in_dn = yes
preserve = yes
[any]
countryName = optional
organizationName = optional
organizationalUnitName = optional
commonName = optional
emailAddress = optional
[req]
distinguished_name = none
[none]
`, ca.dir))
	if o.Subject == "" {
		o.Subject = fmt.Sprintf("/O=Example/CN=CA %d", time.Now().UnixNano()%1e9)
	}
	if o.Ext == "" {
		o.Ext = issuer
	}
	if o.Until.IsZero() {
		o.Until = time.Now().AddDate(5, 0, 0)
	}
	key := []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"}
	if o.Key != "" {
		key = []string{"-newkey", o.Key}
	}
	ca.run(append([]string{"req", "-new", "-nodes", "-config", ca.path("ca.cnf"), "-subj", o.Subject, "-keyout", ca.path("key.pem"), "-out", ca.path("csr.pem")}, key...)...)
	if parent != nil {
		ca.Cert = parent.sign(ca.path("csr.pem"), o)
	} else {
		ca.Cert = ca.sign(ca.path("csr.pem"), o, "-selfsign")
	}
	ca.write("cert.pem", string(ca.Cert))
	return ca
}

// Issue signs a certificate for a new key and returns it in PEM.
func (ca *CA) Issue(o Options) []byte {
	ca.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.t.Fatal(err)
	}
	return ca.IssueTo(key, o)
}

// IssueTo signs a certificate for a key and returns it in PEM.
func (ca *CA) IssueTo(key crypto.Signer, o Options) []byte {
	ca.t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		ca.t.Fatal(err)
	}
	return ca.Sign(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), o)
}

// Sign signs a certificate for a request in PEM and returns it in PEM.
func (ca *CA) Sign(csr []byte, o Options) []byte {
	ca.t.Helper()
	if o.Subject == "" {
		o.Subject = "/O=Example"
	}
	if o.Ext == "" {
		o.Ext = person
	}
	if o.Until.IsZero() {
		o.Until = time.Now().AddDate(0, 1, 0)
	}
	ca.write("csr.pem", string(csr))
	return ca.sign(ca.path("csr.pem"), o)
}

func (ca *CA) sign(csr string, o Options, more ...string) []byte {
	ca.t.Helper()
	ca.issued++
	if o.From.IsZero() {
		o.From = time.Now().AddDate(0, 0, -1)
	}
	if o.Digest == "" {
		o.Digest = "sha256"
	}
	ext, out := ca.path("ext.cnf"), ca.path(fmt.Sprintf("out%d.pem", ca.issued))
	ca.write("ext.cnf", o.Ext)
	const layout = "20060102150405Z"
	ca.run(append([]string{"ca", "-batch", "-notext", "-config", ca.path("ca.cnf"), "-in", csr, "-out", out, "-extfile", ext, "-subj", o.Subject,
		"-startdate", o.From.UTC().Format(layout), "-enddate", o.Until.UTC().Format(layout), "-md", o.Digest}, more...)...)
	return ca.read(out)
}

// Revoke puts a certificate on the list that List makes from then on.
func (ca *CA) Revoke(cert []byte) {
	ca.t.Helper()
	ca.write("revoke.pem", string(cert))
	ca.run("ca", "-config", ca.path("ca.cnf"), "-revoke", ca.path("revoke.pem"))
}

// List makes the next revocation list, in PEM, good from a minute ago to until.
func (ca *CA) List(until time.Time, more ...string) []byte {
	ca.t.Helper()
	const layout = "20060102150405Z"
	ca.run(append([]string{"ca", "-config", ca.path("ca.cnf"), "-gencrl", "-out", ca.path("list.pem"),
		"-crl_lastupdate", time.Now().Add(-time.Minute).UTC().Format(layout), "-crl_nextupdate", until.UTC().Format(layout)}, more...)...)
	return ca.read(ca.path("list.pem"))
}

// ListWith is List with lines of an extension section.
func (ca *CA) ListWith(ext string, until time.Time) []byte {
	ca.t.Helper()
	ca.write("list.cnf", string(ca.read(ca.path("ca.cnf")))+"[listed]\n"+ext)
	const layout = "20060102150405Z"
	ca.run("ca", "-config", ca.path("list.cnf"), "-gencrl", "-crlexts", "listed", "-out", ca.path("list.pem"), "-crl_nextupdate", until.UTC().Format(layout))
	return ca.read(ca.path("list.pem"))
}

// Chain joins certificates in PEM.
func Chain(certs ...[]byte) []byte {
	var all []byte
	for _, c := range certs {
		all = append(all, c...)
	}
	return all
}

// DER takes the blocks of PEM apart.
func DER(data []byte) [][]byte {
	var all [][]byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		all = append(all, block.Bytes)
	}
	return all
}

func (ca *CA) path(name string) string { return filepath.Join(ca.dir, name) }

func (ca *CA) write(name, text string) {
	ca.t.Helper()
	if err := os.WriteFile(ca.path(name), []byte(text), 0o600); err != nil {
		ca.t.Fatal(err)
	}
}

func (ca *CA) read(path string) []byte {
	ca.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		ca.t.Fatal(err)
	}
	return data
}

func (ca *CA) run(args ...string) {
	ca.t.Helper()
	if out, err := exec.Command(ca.openssl, args...).CombinedOutput(); err != nil {
		ca.t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
