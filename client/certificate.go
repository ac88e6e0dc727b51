package client

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/keyholed/keyhole/authority"
	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// A Certificate is what an authority says of this client's key. Every device is
// shown it once it has proven its own key; those that trust the authority take it
// for who somebody is, and others see the same key as ever.
type Certificate struct {
	ID     string    `json:"id"`     // who its holder is to devices: "alice@example.net"
	Kind   string    `json:"kind"`   // "e-mail", "URI", "common name"
	Issuer string    `json:"issuer"` // the subject of who issued it
	Serial string    `json:"serial"` // in hexadecimal, as revocation lists and openssl have it
	From   time.Time `json:"from"`
	Until  time.Time `json:"until"`
	Chain  int       `json:"certificates"` // its own and intermediate ones
}

// Errors of certificates.
var (
	ErrNoCertificate = errors.New("this client has no certificate of an authority")
	ErrNoneOfThisKey = errors.New("none of the certificates belongs to this client's key")
)

// maxChainFile bounds a file of certificates, with the text that openssl writes
// around them.
const maxChainFile = 64 << 10

// CertificateRequest makes a request for this client's key in PEM, to be signed by
// an authority.
func (h *Home) CertificateRequest(r identity.Request) ([]byte, error) { return h.key.Request(r) }

// Certificate is the one that was installed, or ErrNoCertificate.
func (h *Home) Certificate() (Certificate, error) {
	chain := h.key.Chain()
	if chain == nil {
		return Certificate{}, ErrNoCertificate
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return Certificate{}, err
	}
	return describe(leaf, len(chain))
}

func describe(leaf *x509.Certificate, certificates int) (Certificate, error) {
	id, kind, err := authority.IDOf(leaf)
	return Certificate{
		ID: id, Kind: kind.String(), Issuer: leaf.Issuer.String(), Serial: leaf.SerialNumber.Text(16),
		From: leaf.NotBefore, Until: leaf.NotAfter, Chain: certificates,
	}, err
}

// InstallCertificate puts the certificate of an authority into the Home. Data is
// PEM in any order: the certificate for this client's key, intermediate ones, and
// what else there is, which is left out. Errors: ErrNoneOfThisKey,
// identity.ErrChainSize, or why no device would take it.
func (h *Home) InstallCertificate(data []byte) (Certificate, error) {
	all, err := parseCertificates(data)
	if err != nil {
		return Certificate{}, err
	}
	chain, err := chainFor(h.key.Fingerprint(), all)
	if err != nil {
		return Certificate{}, err
	}
	leaf := chain[0]
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return Certificate{}, errors.New("the certificate is not for clients: ask for one with the extended key usage clientAuth")
	}
	c, err := describe(leaf, len(chain))
	if err != nil {
		return Certificate{}, err
	}
	return c, h.changeKey(func(k *identity.Key) (*identity.Key, error) {
		var der [][]byte
		for _, c := range chain {
			der = append(der, c.Raw)
		}
		return k.WithChain(der)
	})
}

// RemoveCertificate makes the Home one with its bare key again: ErrNoCertificate
// where it is that already.
func (h *Home) RemoveCertificate() error {
	if h.key.Chain() == nil {
		return ErrNoCertificate
	}
	return h.changeKey((*identity.Key).WithoutChain)
}

// changeKey changes what stands beside the private key in its file.
func (h *Home) changeKey(change func(*identity.Key) (*identity.Key, error)) error {
	return h.locked(func() error {
		path := filepath.Join(h.dir, identityFile)
		k, err := identity.Load(path)
		if err != nil {
			return err
		}
		if k, err = change(k); err != nil {
			return err
		}
		data, err := k.MarshalPEM()
		if err != nil {
			return err
		}
		if err := durable.WriteFile(path, data, 0o600); err != nil {
			return fmt.Errorf("identity: %w", err)
		}
		h.key = k
		h.resumption = session.NewResumption() // a resumed session shows what the first one showed
		return nil
	})
}

func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	if len(data) > maxChainFile {
		return nil, fmt.Errorf("larger than %d bytes", maxChainFile)
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read", len(all)+1)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("no certificate in PEM in it")
	}
	return all, nil
}

// chainFor orders certificates from the one of a key to the last whose issuer is not
// among them. A root is left out: who trusts it has it.
func chainFor(key identity.Fingerprint, all []*x509.Certificate) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for _, c := range all {
		if f, err := identity.FingerprintOf(c.PublicKey); err == nil && f == key && string(c.RawIssuer) != string(c.RawSubject) {
			chain = []*x509.Certificate{c}
			break
		}
	}
	if chain == nil {
		return nil, ErrNoneOfThisKey
	}
	for len(chain) <= identity.MaxChain {
		last := chain[len(chain)-1]
		i := slices.IndexFunc(all, func(c *x509.Certificate) bool {
			return string(c.RawSubject) == string(last.RawIssuer) && string(c.RawIssuer) != string(c.RawSubject) && !slices.Contains(chain, c)
		})
		if i < 0 {
			return chain, nil
		}
		chain = append(chain, all[i])
	}
	return nil, identity.ErrChainSize
}
