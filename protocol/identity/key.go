package identity

import (
	"crypto"
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
	"time"

	"github.com/keyholed/keyhole/internal/durable"
)

// maxKeyFileBytes is many times the largest accepted key file (RSA 8192 with
// its certificate is under 10 kB).
const maxKeyFileBytes = 64 << 10

// A Key is an identity: a private key behind crypto.Signer and the self-signed
// certificate that carries its public half. It never changes and may be used by
// several goroutines. Printing one shows the fingerprint only.
type Key struct {
	signer      crypto.Signer
	certificate tls.Certificate
	fingerprint Fingerprint
}

// New makes a Key from a signer: a private key in memory, or one that never
// leaves its chip. The certificate is made anew; its dates mean nothing.
func New(signer crypto.Signer) (*Key, error) {
	der, err := selfSign(signer)
	if err != nil {
		return nil, err
	}
	return newKey(signer, [][]byte{der})
}

// Generate makes a new ECDSA P-256 identity. It blocks until the kernel's random
// pool is ready, as crypto/rand does on Linux.
func Generate() (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return New(private)
}

// LoadOrCreate reads the identity at path, or makes one when there is none. The
// file holds private key and certificate in PEM with mode 0600, so that other
// TLS programs can be the same peer (curl --cert FILE).
func LoadOrCreate(path string) (*Key, error) {
	k, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if k, err = Generate(); err != nil {
		return nil, err
	}
	data, err := k.marshalPEM()
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(path, data, 0o600); err != nil {
		return nil, fmt.Errorf("write identity: %w", err)
	}
	return k, nil
}

// Load reads an identity from a PEM file. A missing file is fs.ErrNotExist; one
// that others may read is refused, as ssh does.
func Load(path string) (*Key, error) {
	data, err := durable.ReadPrivate(path, maxKeyFileBytes)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	k, err := ParsePEM(data)
	if err != nil {
		return nil, fmt.Errorf("identity %s: %w", path, err)
	}
	return k, nil
}

// ParsePEM reads a private key (PKCS #8, or what `openssl ecparam -genkey` and
// `openssl genrsa` write) and, where there are any, its certificate and the chain
// of the authority that issued it. A key without a certificate gets one; a first
// certificate of another key is an error.
func ParsePEM(data []byte) (*Key, error) {
	if len(data) > maxKeyFileBytes {
		return nil, fmt.Errorf("larger than %d bytes", maxKeyFileBytes)
	}
	var signer crypto.Signer
	var chain [][]byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			chain = append(chain, block.Bytes)
		case "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY":
			s, err := parsePrivate(block)
			if err != nil {
				return nil, err
			}
			signer = s
		}
	}
	switch {
	case signer == nil:
		return nil, errors.New("no private key found")
	case chain == nil:
		return New(signer)
	case len(chain) > MaxChain:
		return nil, ErrChainSize
	}
	return newKey(signer, chain)
}

func parsePrivate(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		// The parser's own text may quote key material; its kind is enough.
		return nil, fmt.Errorf("the %s block cannot be read", block.Type)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, ErrKeyKind
	}
	return signer, nil
}

func newKey(signer crypto.Signer, chain [][]byte) (*Key, error) {
	fingerprint, err := FingerprintOf(signer.Public())
	if err != nil {
		return nil, err
	}
	leaf, err := parseChain(chain, fingerprint)
	if err != nil {
		return nil, err
	}
	return &Key{
		signer:      signer,
		fingerprint: fingerprint,
		certificate: tls.Certificate{Certificate: chain, PrivateKey: signer, Leaf: leaf},
	}, nil
}

// Fingerprint of the key.
func (k *Key) Fingerprint() Fingerprint { return k.fingerprint }

// ID of the key.
func (k *Key) ID() ID { return k.fingerprint.ID() }

// Public returns the public key.
func (k *Key) Public() crypto.PublicKey { return k.signer.Public() }

// CertificatePEM is the certificate alone, for programs that pin a file
// (curl --cacert FILE).
func (k *Key) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.certificate.Certificate[0]})
}

func (k *Key) String() string { return "key " + k.fingerprint.String() }

func (k *Key) marshalPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.signer)
	if err != nil {
		return nil, err
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return append(private, encodeChain(k.certificate.Certificate)...), nil
}

// Dates of every certificate: RFC 5280 §4.1.2.5 gives 99991231235959Z to those
// that have no good expiration date. We check neither; foreign programs may.
var (
	notBefore = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// selfSign wraps the public key. The name is `<id>.local`, the name that mDNS
// gives the device, so that a foreign client can check it like any other.
func selfSign(signer crypto.Signer) ([]byte, error) {
	fingerprint, err := FingerprintOf(signer.Public())
	if err != nil {
		return nil, err
	}
	id := string(fingerprint.ID())
	serial := new(big.Int).SetBytes(fingerprint[:16])
	serial.SetBit(serial, 127, 0) // positive in 16 bytes
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: id},
		DNSNames:     []string{id + ".local"},
		NotBefore:    notBefore,
		NotAfter:     notAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	return x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
}
