package client

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testca"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/identity"
)

// The request is one that openssl takes, and what comes back is kept in the order in
// which it is shown, without a root, in a file that other programs read.
func TestCertificates(t *testing.T) {
	root := testca.New(t, testca.Options{Subject: "/CN=Root"})
	middle := root.Intermediate(testca.Options{Subject: "/CN=Middle"})
	dir := t.TempDir()
	home, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	before := home.Key().Fingerprint()
	csr, err := home.CertificateRequest(identity.Request{CommonName: "Alice", Email: "alice@example.net"})
	if err != nil {
		t.Fatal(err)
	}
	request := exec.Command(testnet.Program(t, "openssl"), "req", "-noout", "-verify", "-text")
	request.Stdin = strings.NewReader(string(csr))
	if out, err := request.CombinedOutput(); err != nil || !strings.Contains(string(out), "email:alice@example.net") || !strings.Contains(string(out), "CN = Alice") {
		t.Errorf("openssl: %v: %s", err, out)
	}
	if _, err := home.Certificate(); !errors.Is(err, ErrNoCertificate) {
		t.Errorf("before: %v", err)
	}
	if err := home.RemoveCertificate(); !errors.Is(err, ErrNoCertificate) {
		t.Errorf("removing none: %v", err)
	}
	named := testca.Options{Ext: testca.Named("email:alice@example.net")}
	cert := middle.Sign(csr, named)
	c, err := home.InstallCertificate(testca.Chain([]byte("some text\n"), root.Cert, middle.Cert, cert))
	if err != nil || c.ID != "alice@example.net" || c.Chain != 2 || c.Until.Before(time.Now()) {
		t.Fatalf("%+v, %v", c, err)
	}
	again, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := again.Certificate(); err != nil || kept != c || again.Key().Fingerprint() != before {
		t.Errorf("kept: %+v, %v", kept, err)
	}
	if chain := again.Key().Chain(); len(chain) != 2 || string(chain[0]) != string(testca.DER(cert)[0]) || string(chain[1]) != string(testca.DER(middle.Cert)[0]) {
		t.Errorf("%d certificates, or in another order", len(chain))
	}
	if info, err := os.Stat(filepath.Join(dir, identityFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	deep := []*testca.CA{root}
	var chain []byte
	for range identity.MaxChain {
		next := deep[len(deep)-1].Intermediate(testca.Options{})
		deep, chain = append(deep, next), append(chain, next.Cert...)
	}
	for what, data := range map[string][]byte{
		"belongs to this client's key": root.Issue(named),
		"no certificate in PEM":        []byte("hello"),
		"cannot be read":               []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"extended key usage":           root.Sign(csr, testca.Options{Ext: strings.ReplaceAll(named.Ext, "clientAuth", "serverAuth")}),
		"more than one identity":       root.Sign(csr, testca.Options{Ext: testca.Named("email:a@example.net,email:b@example.net")}),
		"more than 4 certificates":     testca.Chain(deep[len(deep)-1].Sign(csr, named), chain),
		"larger than":                  make([]byte, maxChainFile+1),
	} {
		if _, err := again.InstallCertificate(data); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %q", err, what)
		}
	}
	if kept, err := again.Certificate(); err != nil || kept != c {
		t.Errorf("after what was refused: %+v, %v", kept, err)
	}
	resumption := again.resumption
	if err := again.RemoveCertificate(); err != nil {
		t.Fatal(err)
	}
	if again.resumption == resumption {
		t.Error("a resumed session would still show the certificate")
	}
	last, err := Open(dir)
	if err != nil || last.Key().Fingerprint() != before || last.Key().Chain() != nil {
		t.Errorf("removed: %v", err)
	}
}
