package admin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/keyholed/keyhole/internal/durable"
)

const (
	// CertificateFile is the certificate that OwnCertificate makes: the file for
	// curl --cacert.
	CertificateFile = "api.pem"
	keyFile         = "api.key"

	maxPEMBytes = 64 << 10
	// certificateLife is long because nobody but this machine's own operator
	// relies on it, by holding the file; removing both files makes new ones.
	certificateLife = 10 * 365 * 24 * time.Hour
)

// LoadCertificate reads a certificate, with its chain, and its key from PEM
// files. The key's must be its owner's alone.
func LoadCertificate(certificate, key string) (*tls.Certificate, error) {
	chain, err := os.ReadFile(certificate)
	if err != nil {
		return nil, err
	}
	secret, err := durable.ReadPrivate(key, maxPEMBytes)
	if err != nil {
		return nil, err
	}
	c, err := tls.X509KeyPair(chain, secret)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", certificate, key, err)
	}
	return &c, nil
}

// OwnCertificate reads the certificate in the data directory, or makes one for
// localhost, this machine's name, its loopback addresses, and names, which are
// host names or IP addresses.
func OwnCertificate(dir string, names []string) (*tls.Certificate, error) {
	certificate, key := filepath.Join(dir, CertificateFile), filepath.Join(dir, keyFile)
	c, err := LoadCertificate(certificate, key)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	chain, secret, err := selfSigned(names, time.Now())
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	if err := durable.WriteFile(key, secret, 0o600); err != nil {
		return nil, err
	}
	if err := durable.WriteFile(certificate, chain, 0o644); err != nil {
		return nil, err
	}
	return LoadCertificate(certificate, key)
}

func selfSigned(names []string, now time.Time) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "keyhole-basestation"},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(certificateLife), // clocks differ
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if host, err := os.Hostname(); err == nil && host != "localhost" {
		t.DNSNames = append(t.DNSNames, host)
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), nil
}
