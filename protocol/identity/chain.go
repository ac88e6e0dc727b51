package identity

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
)

// Figures of a certificate chain beside a key. Whoever reads one holds it to them
// before parsing.
const (
	// MaxChain certificates: one's own, two intermediate authorities, and a root
	// that need not be shown but many programs show.
	MaxChain = 4
	// MaxChainBytes in all: four certificates with RSA keys of 4,096 bits and
	// generous names have 9,000. QUIC carries little more in a handshake.
	MaxChainBytes = 16 << 10
)

// Errors of a chain.
var (
	ErrChainSize  = fmt.Errorf("more than %d certificates or %d bytes", MaxChain, MaxChainBytes)
	ErrOtherKey   = errors.New("the certificate belongs to another key")
	errUnreadable = errors.New("a certificate that cannot be read")
)

// ChainOf returns what the other side of a TLS connection has shown beside its
// bare key: the certificates in DER, its own first. It is nil for a certificate
// that a key has made for itself, which says nothing, and for more than MaxChain
// or MaxChainBytes. What they say is proven to nobody: TLS has shown that the
// peer holds the key in the first, and that alone.
func ChainOf(state tls.ConnectionState) [][]byte {
	shown := state.PeerCertificates
	if len(shown) == 0 || len(shown) > MaxChain || len(shown) == 1 && selfIssued(shown[0]) {
		return nil
	}
	chain, total := make([][]byte, len(shown)), 0
	for i, c := range shown {
		chain[i] = c.Raw // crypto/tls keeps it as long as the connection: no copy
		total += len(c.Raw)
	}
	if total > MaxChainBytes {
		return nil
	}
	return chain
}

func selfIssued(c *x509.Certificate) bool { return string(c.RawIssuer) == string(c.RawSubject) }

// WithChain returns the same key with certificates of an authority in place of the
// self-signed one, in DER, the key's own first. Errors: ErrChainSize, ErrOtherKey,
// or that one cannot be read. Whether the chain holds is for who is shown it.
func (k *Key) WithChain(chain [][]byte) (*Key, error) {
	total := 0
	for _, der := range chain {
		total += len(der)
	}
	if len(chain) == 0 || len(chain) > MaxChain || total > MaxChainBytes {
		return nil, ErrChainSize
	}
	return newKey(k.signer, chain)
}

// WithoutChain returns the same key with a certificate that it has made for itself.
func (k *Key) WithoutChain() (*Key, error) { return New(k.signer) }

// Chain returns the certificates that an authority has given to this key, in DER,
// its own first; nil where the key has made its certificate itself.
func (k *Key) Chain() [][]byte {
	if selfIssued(k.certificate.Leaf) {
		return nil
	}
	return k.certificate.Certificate
}

// A Request is what a key asks an authority to certify. Authorities decide
// themselves what they sign; these are suggestions.
type Request struct {
	CommonName string
	Email      string // for subjectAltName
}

// Request makes a PKCS #10 request (RFC 2986) in PEM, signed with the key.
func (k *Key) Request(r Request) ([]byte, error) {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: r.CommonName}}
	if r.Email != "" {
		template.EmailAddresses = []string{r.Email}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, k.signer)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// MarshalPEM is the file that Load reads and that other programs take as well
// (curl --cert FILE): private key, then the certificates, one's own first. It fails
// for a key that does not leave its chip.
func (k *Key) MarshalPEM() (Secret, error) { return k.marshalPEM() }

// A Secret is bytes that do not print.
type Secret []byte

func (Secret) String() string   { return "(secret)" }
func (Secret) GoString() string { return "(secret)" }

// parseChain reads the certificates of a chain and checks that the first is that
// of the key.
func parseChain(chain [][]byte, fingerprint Fingerprint) (leaf *x509.Certificate, err error) {
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, errUnreadable
		}
		if i == 0 {
			leaf = c
		}
	}
	if inside, err := FingerprintOf(leaf.PublicKey); err != nil || inside != fingerprint {
		return nil, ErrOtherKey
	}
	return leaf, nil
}

func encodeChain(chain [][]byte) []byte {
	var out []byte
	for _, der := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}
