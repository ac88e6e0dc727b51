package authority

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
)

// mayHaveIssued reports whether an issuer in the chain has a name of the
// authority: a question that costs no signature, so that a stranger who shows
// somebody else's chain costs none.
func (a *Authority) mayHaveIssued(chain []*x509.Certificate) bool {
	return slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return a.subjects[string(c.RawIssuer)] })
}

func (a *Authority) check(chain []*x509.Certificate, clock Clock) (Person, error) {
	for _, c := range chain {
		if err := checkAlgorithms(c); err != nil {
			return Person{}, err
		}
	}
	leaf := chain[0]
	if err := checkLeaf(leaf); err != nil {
		return Person{}, err
	}
	id, kind, err := IDOf(leaf)
	if err != nil {
		return Person{}, err
	}
	if !clock.Known {
		// Without a time nothing more can be said but that it ended long ago.
		return Person{}, Person{From: leaf.NotBefore, Until: leaf.NotAfter}.Refuses(clock)
	}
	paths, err := leaf.Verify(x509.VerifyOptions{
		Roots: a.roots, Intermediates: a.intermediates(chain[1:]), CurrentTime: clock.Now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return Person{}, a.reasonOf(err, leaf, clock)
	}
	var first error
	for _, path := range paths {
		p := Person{Authority: a.name, ID: id, Kind: kind}
		if err = a.checkPath(&p, path, clock); err == nil {
			return p, nil
		}
		if first == nil {
			first = err
		}
	}
	return Person{}, first
}

// reasonOf tells a date from everything else that crypto/x509 finds.
func (a *Authority) reasonOf(err error, leaf *x509.Certificate, clock Clock) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		if clock.Now.Before(invalid.Cert.NotBefore) {
			return ErrNotYet
		}
		return ErrEnded
	}
	return fmt.Errorf("%w: %w", ErrInvalid, err)
}

func (a *Authority) intermediates(shown []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range slices.Concat(shown, a.helpers) {
		pool.AddCert(c)
	}
	return pool
}

// checkPath looks at what crypto/x509 does not, on one path from the leaf to an
// anchor, and finishes p.
func (a *Authority) checkPath(p *Person, path []*x509.Certificate, clock Clock) error {
	p.From, p.Until = path[0].NotBefore, path[0].NotAfter
	for i, c := range path {
		if c.NotBefore.After(p.From) {
			p.From = c.NotBefore
		}
		if c.NotAfter.Before(p.Until) {
			p.Until = c.NotAfter
		}
		if i > 0 && !vouches(c, p.Kind) {
			return fmt.Errorf("%w: a constrained authority, and no constraint is about identities of this kind", ErrInvalid)
		}
		if i == len(path)-1 {
			break // nobody revokes an anchor but who configures it
		}
		end, err := a.refuses(c, path[i+1], i == 0 && a.listed, clock)
		if err != nil {
			return err
		}
		if !end.IsZero() && end.Before(p.Until) {
			p.Until = end
		}
	}
	return p.Refuses(clock)
}

// checkLeaf wants a client's certificate that says so.
func checkLeaf(c *x509.Certificate) error {
	switch {
	case c.IsCA:
		return fmt.Errorf("%w: an authority is no person", ErrPurpose)
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return fmt.Errorf("%w: its key usage does not include signing", ErrPurpose)
	case !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth):
		return fmt.Errorf("%w: its extended key usage does not include clientAuth", ErrPurpose)
	}
	return nil
}

// oidNameConstraints is RFC 5280 §4.2.1.10.
var oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}

// vouches reports whether an authority on the path may name identities of a kind.
// To RFC 5280 a constraint says nothing about names of other kinds, so that one
// who may issue for "example.net" mail alone could name any URI; and no constraint
// is about common names. We want the constraint to be about the kind itself.
func vouches(c *x509.Certificate, kind Kind) bool {
	constrained := false
	for _, x := range c.Extensions {
		constrained = constrained || x.Id.Equal(oidNameConstraints)
	}
	switch {
	case !constrained:
		return true
	case kind == KindEmail:
		return len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses) > 0
	case kind == KindURI:
		return len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) > 0
	}
	return false
}

// allowedSignature is a list of what is accepted; SHA-1 and MD5 are not on it.
func allowedSignature(s x509.SignatureAlgorithm) bool {
	switch s {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519:
		return true
	}
	return false
}

const (
	minRSABits = 2048
	// maxRSABits of certificates: verifying with 4,096 bits takes 0.1 ms here and a
	// few on slow boards, and strangers may have us do it.
	maxRSABits = 4096
)

func checkAlgorithms(c *x509.Certificate) error {
	if !allowedSignature(c.SignatureAlgorithm) {
		return fmt.Errorf("%w: signed with %v", ErrAlgorithm, c.SignatureAlgorithm)
	}
	switch key := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() || key.Curve == elliptic.P521() {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits >= minRSABits && bits <= maxRSABits {
			return nil
		}
		return fmt.Errorf("%w: an RSA key of %d bits", ErrAlgorithm, key.N.BitLen())
	}
	return fmt.Errorf("%w: a key of this kind", ErrAlgorithm)
}
