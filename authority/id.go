package authority

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/keyholed/keyhole/internal/names"
)

// A Kind is what of a certificate an identity was. The forms of the three never
// meet: mail has an @ and no colon, a URI has "://", a common name has neither.
type Kind uint8

// The kinds.
const (
	KindEmail  Kind = iota + 1 // rfc822Name in subjectAltName
	KindURI                    // uniformResourceIdentifier in subjectAltName
	KindCommon                 // the subject's common name, where there is neither
)

func (k Kind) String() string { return [...]string{"", "e-mail", "URI", "common name"}[k] }

// MaxID is the longest identity in bytes: what the access list and a line of the
// audit log take.
const MaxID = 128

// Reasons why a certificate names nobody.
var (
	ErrNoIdentity = errors.New("the certificate names nobody: want one e-mail address or URI in subjectAltName, or a common name")
	ErrAmbiguous  = errors.New("the certificate names more than one identity")
	ErrIdentity   = errors.New("the certificate's identity is not accepted")
)

// oidCommonName is X.520's, RFC 5280 appendix A.1.
var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// IDOf returns the one identity that a certificate names, canonical: the e-mail
// address or URI in subjectAltName, where there is exactly one of both together;
// the common name where there is none. Other alternative names (of hosts) and
// other parts of the subject mean nothing. Errors: ErrNoIdentity, ErrAmbiguous,
// ErrIdentity.
func IDOf(c *x509.Certificate) (string, Kind, error) {
	switch n := len(c.EmailAddresses) + len(c.URIs); {
	case n > 1:
		return "", 0, ErrAmbiguous
	case len(c.EmailAddresses) == 1:
		return checked(KindEmail, c.EmailAddresses[0], canonicalEmail)
	case len(c.URIs) == 1:
		return checked(KindURI, c.URIs[0].String(), canonicalURI)
	}
	name, count := "", 0
	for _, part := range c.Subject.Names {
		if part.Type.Equal(oidCommonName) {
			text, _ := part.Value.(string) // another type is no name, and refused as an empty one
			name, count = text, count+1
		}
	}
	switch count {
	case 0:
		return "", 0, ErrNoIdentity
	case 1:
		return checked(KindCommon, name, canonicalCommon)
	}
	return "", 0, ErrAmbiguous
}

func checked(k Kind, text string, canonical func(string) (string, error)) (string, Kind, error) {
	id, err := canonical(text)
	if err != nil {
		return "", 0, fmt.Errorf("%w: %s: %w", ErrIdentity, k, err)
	}
	return id, k, nil
}

// Canonical returns the form in which an identity is compared, of what a person or
// a configuration wrote.
func Canonical(text string) (string, Kind, error) {
	switch {
	case strings.Contains(text, "://"):
		return checked(KindURI, text, canonicalURI)
	case strings.Contains(text, "@"):
		return checked(KindEmail, text, canonicalEmail)
	}
	return checked(KindCommon, text, canonicalCommon)
}

// LooksCertified reports whether text has the form of an identity that no name of a
// paired user has: an e-mail address or a URI.
func LooksCertified(text string) bool {
	_, kind, err := Canonical(text)
	return err == nil && kind != KindCommon
}

const (
	maxLocalBytes  = 64  // RFC 5321 §4.5.3.1.1
	maxDomainBytes = 253 // RFC 1035 §2.3.4, as text
)

// canonicalEmail wants a mailbox of plain characters. All of it becomes lower
// case: RFC 5321 §2.4 lets a host tell local parts apart by case, but none in use
// does, and a person who was blocked shall not come back with a capital letter.
func canonicalEmail(s string) (string, error) {
	if len(s) > MaxID {
		return "", errTooLong
	}
	local, domain, found := strings.Cut(s, "@")
	if !found || local == "" || len(local) > maxLocalBytes || !only(local, "!#$%&'*+-/=?^_`{|}~.") ||
		strings.HasPrefix(local, ".") || strings.HasSuffix(local, ".") || strings.Contains(local, "..") {
		return "", errors.New("want a plain address such as alice@example.net")
	}
	if domain, found = canonicalDomain(domain); !found {
		return "", errDomain
	}
	return strings.ToLower(local) + "@" + domain, nil
}

var (
	errTooLong = fmt.Errorf("longer than %d bytes", MaxID)
	errDomain  = errors.New("its domain is no host name (of another alphabet it is written as xn--…)")
)

// canonicalURI wants scheme://host/path and nothing that could be written in two
// ways: no user, port, query, fragment, percent sign or dot segment.
func canonicalURI(s string) (string, error) {
	if len(s) > MaxID {
		return "", errTooLong
	}
	scheme, rest, found := strings.Cut(s, "://")
	host, path, slash := strings.Cut(rest, "/")
	if !found || scheme == "" || !only(scheme, "+-.") || !letter(scheme[0]) {
		return "", errors.New("want one such as https://id.example.net/alice")
	}
	host, found = canonicalDomain(host)
	switch {
	case !found:
		return "", errDomain
	case !only(path, "-._~/@:+=,"), strings.Contains("/"+path+"/", "//") && path != "", strings.Contains("/"+path+"/", "/./"), strings.Contains("/"+path+"/", "/../"):
		return "", errors.New("want a path of plain characters, written in one way only")
	}
	id := strings.ToLower(scheme) + "://" + host
	if slash {
		id += "/" + path
	}
	if _, err := url.Parse(id); err != nil {
		return "", errors.New("not a URI")
	}
	return id, nil
}

// canonicalCommon wants what a user of the list could be called, and nothing that
// could be taken for another kind of identity or for a fingerprint.
func canonicalCommon(s string) (string, error) {
	name, err := names.Check(s)
	switch {
	case err != nil:
		return "", err
	case len(name) > MaxID:
		return "", errTooLong
	case strings.ContainsAny(name, "@:/"):
		return "", errors.New("it has the form of an address: want that in subjectAltName, where name constraints are about it")
	}
	return name, nil
}

// canonicalDomain returns a host name in lower case: labels of letters, digits and
// hyphens (RFC 1123 §2.1), at least one, no final dot, no address.
func canonicalDomain(s string) (string, bool) {
	if s == "" || len(s) > maxDomainBytes {
		return "", false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || !only(label, "-") {
			return "", false
		}
		last = label
	}
	if !strings.ContainsFunc(last, func(r rune) bool { return r < '0' || r > '9' }) {
		return "", false // an IPv4 address is nobody's domain
	}
	return strings.ToLower(s), true
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// only reports whether s has ASCII letters, digits and the characters of more, and
// nothing else.
func only(s, more string) bool {
	for _, c := range []byte(s) {
		if !letter(c) && (c < '0' || c > '9') && !strings.Contains(more, string(rune(c))) {
			return false
		}
	}
	return true
}

// domainOf returns the domain that a canonical identity belongs to, "" for common
// names.
func domainOf(id string, k Kind) string {
	switch k {
	case KindEmail:
		return id[strings.LastIndexByte(id, '@')+1:]
	case KindURI:
		_, rest, _ := strings.Cut(id, "://")
		host, _, _ := strings.Cut(rest, "/")
		return host
	}
	return ""
}
