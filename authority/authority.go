// Package authority says which person a certificate chain names, according to
// the certificate authorities that a device's owner or vendor configured. The
// daemon asks it when a session's client has shown more than its bare key.
//
// It reads certificates and revocation lists and knows nothing of sessions, of
// roles or of what anybody may do: a name is all that it gives, and a name gives
// no right. It never looks at the system's own trust store, fetches nothing, and
// asks no clock: the caller brings the time and says whether it is to be believed.
//
// What it holds against a chain, in this order; the first that costs a signature
// is the fifth:
//
//	1  size: at most identity.MaxChain certificates, identity.MaxChainBytes
//	   in all, before any is parsed
//	2  order: each certificate is issued by the next, no name twice
//	3  an authority has the name of an issuer among its own
//	4  algorithms and key sizes of every certificate
//	5  crypto/x509: signatures, dates, basic constraints, path length, key usage,
//	   extended key usage (client), name constraints, critical extensions
//	6  the leaf is a person's: no CA, meant for clients, names exactly one identity
//	7  name constraints vouch for that kind of identity, the authority for its domain
//	8  the revocation lists, if the authority has any
package authority

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A Clock is what the caller believes about the time. The zero value is an
// unknown clock.
type Clock struct {
	Now   time.Time
	Known bool      // synchronised, or told by somebody trusted
	Floor time.Time // it is not earlier than this, whatever Now says
}

// A Person is whom a chain names, and when that holds.
type Person struct {
	Authority string    // its name in the configuration
	ID        string    // canonical: "alice@example.net", "https://id.example.net/alice", "Alice Example"
	Kind      Kind      // what of the certificate the ID was
	From      time.Time // the latest beginning of the certificates
	Until     time.Time // exclusive: the earliest end of certificates and revocation lists
}

// Reasons why a chain names nobody. They are for the log: a peer is not told.
var (
	ErrNone      = errors.New("no certificate of an authority")
	ErrTooLarge  = identity.ErrChainSize
	ErrMalformed = errors.New("a certificate that cannot be read")
	ErrOrder     = errors.New("the certificates are not in order: each is to be issued by the next")
	ErrUnknown   = errors.New("issued by no authority that is configured")
	ErrAlgorithm = errors.New("an algorithm or a key size that is not accepted")
	ErrInvalid   = errors.New("the chain does not hold")
	ErrPurpose   = errors.New("not a client's certificate")
	ErrClock     = errors.New("clock not set")
	ErrEnded     = errors.New("the certificate has ended")
	ErrNotYet    = errors.New("the certificate is not valid yet")
	ErrRevoked   = errors.New("the certificate is revoked")
	ErrNoList    = errors.New("there is no revocation list of its issuer")
	ErrOldList   = errors.New("the revocation list is out of date")
)

// Refuses says why a person is not let in at a time: ErrClock, ErrEnded,
// ErrNotYet, or nil.
func (p Person) Refuses(clock Clock) error {
	switch {
	case !clock.Floor.Before(p.Until):
		return ErrEnded // whatever the clock says: it was later already
	case !clock.Known:
		return ErrClock
	case !clock.Now.Before(p.Until):
		return ErrEnded
	case clock.Now.Before(p.From):
		return ErrNotYet
	}
	return nil
}

// A Set is the authorities of one configuration. It is never changed; a reload
// makes another. Nil vouches for nobody.
type Set struct {
	all []*Authority
}

// NewSet joins authorities whose names and domains are apart (see CheckDomains).
func NewSet(all ...*Authority) *Set { return &Set{slices.Clone(all)} }

// All returns the authorities, in the order of the configuration.
func (s *Set) All() []*Authority {
	if s == nil {
		return nil
	}
	return slices.Clone(s.all)
}

// Empty reports that no chain can hold.
func (s *Set) Empty() bool { return s == nil || len(s.all) == 0 }

// Check returns whom a chain of DER certificates names, the peer's own first. The
// key in the first one is not looked at: that it is the peer's is proven by TLS.
func (s *Set) Check(chain [][]byte, clock Clock) (Person, error) {
	if s.Empty() || len(chain) == 0 {
		return Person{}, ErrNone
	}
	certificates, err := parseChain(chain)
	if err != nil {
		return Person{}, err
	}
	reason := ErrUnknown
	for _, a := range s.all {
		if !a.mayHaveIssued(certificates) {
			continue
		}
		p, err := a.check(certificates, clock)
		if err == nil {
			err = s.vouchesFor(&p)
		}
		if err == nil {
			return p, nil
		}
		reason = fmt.Errorf("%s: %w", a.name, err)
	}
	return Person{}, reason
}

// parseChain looks at sizes, then at form, and at no signature.
func parseChain(chain [][]byte) ([]*x509.Certificate, error) {
	total := 0
	for _, der := range chain {
		total += len(der)
	}
	if len(chain) > identity.MaxChain || total > identity.MaxChainBytes {
		return nil, ErrTooLarge
	}
	certificates := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, ErrMalformed
		}
		certificates[i] = c
	}
	return certificates, inOrder(certificates)
}

// inOrder holds what a client can have crypto/x509 try to one signature a step.
func inOrder(chain []*x509.Certificate) error {
	for i, c := range chain {
		if i > 0 && string(chain[i-1].RawIssuer) != string(c.RawSubject) {
			return ErrOrder
		}
		for _, earlier := range chain[:i] {
			if string(earlier.RawSubject) == string(c.RawSubject) {
				return ErrOrder
			}
		}
	}
	return nil
}
