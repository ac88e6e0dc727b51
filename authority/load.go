package authority

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// Limits of what the owner's files may be.
const (
	MaxAuthorities   = 8         // of one configuration: an employer, a vendor, a few landlords
	maxCertificates  = 16        // of one file: roots that follow each other, and intermediates
	maxCAFileBytes   = 64 << 10  // sixteen of them have 40 KiB
	maxListFileBytes = 512 << 10 // some 12,000 revoked certificates; parsing takes ten times that
)

// Options of an Authority: the contents of its files.
type Options struct {
	Name    string
	CA      []byte   // PEM: what is trusted, and intermediates that clients need not send
	Revoked []byte   // PEM or DER: revocation lists, one of each issuer; nil: there are none
	Domains []string // the only domains it vouches for; none: every one that no other authority has
	Floors  Floors   // the lowest number that a revocation list may have
}

// An Authority is a certificate authority that the device trusts. It never changes.
type Authority struct {
	name     string
	domains  []string
	anchors  []*x509.Certificate
	helpers  []*x509.Certificate // issued by an anchor or another helper
	roots    *x509.CertPool      // of the anchors
	subjects map[string]bool     // raw subject names of both
	listed   bool                // there are revocation lists, so that every leaf needs one
	lists    map[issuer]*list
}

// An issuer is a name together with a key: SHA-256 over both.
type issuer [sha256.Size]byte

func issuerOf(c *x509.Certificate) issuer {
	h := sha256.New()
	h.Write(c.RawSubject) // both are DER, which says where it ends
	h.Write(c.RawSubjectPublicKeyInfo)
	return issuer(h.Sum(nil))
}

// ReadFiles reads the two files of an authority; revoked may be "".
func ReadFiles(o Options, ca, revoked string) (Options, error) {
	var err error
	if o.CA, err = readFile(ca, maxCAFileBytes); err != nil {
		return o, &FileError{File: ca, Err: err}
	}
	if revoked == "" {
		return o, nil
	}
	if o.Revoked, err = readFile(revoked, maxListFileBytes); err != nil {
		return o, &FileError{File: revoked, List: true, Err: err}
	}
	return o, nil
}

// A FileError says which of the two files is wrong.
type FileError struct {
	File string // "" where the bytes came from no file
	List bool   // the revocation list, not the authority's certificates
	Err  error
}

func (e *FileError) Error() string {
	if e.File == "" {
		return e.Err.Error()
	}
	return e.File + ": " + e.Err.Error()
}

func (e *FileError) Unwrap() error { return e.Err }

func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		var inner interface{ Unwrap() error }
		if errors.As(err, &inner) {
			err = inner.Unwrap() // the path stands in front already
		}
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("not a file") // a fifo would have us wait
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("larger than %d bytes", most)
	}
	return data, nil
}

// New makes an authority. Its errors are *FileError without a file.
func New(o Options) (*Authority, error) {
	a := &Authority{name: o.Name, domains: slices.Clone(o.Domains), subjects: map[string]bool{}, roots: x509.NewCertPool(), lists: map[issuer]*list{}}
	certificates, err := parseCA(o.CA)
	if err != nil {
		return nil, &FileError{Err: err}
	}
	for i, c := range certificates {
		a.subjects[string(c.RawSubject)] = true
		if helper(c, slices.Delete(slices.Clone(certificates), i, i+1)) {
			a.helpers = append(a.helpers, c)
			continue
		}
		a.anchors = append(a.anchors, c)
		a.roots.AddCert(c)
	}
	if len(a.anchors) == 0 {
		return nil, &FileError{Err: errors.New("the certificates have issued each other, and none is a root")}
	}
	if o.Revoked != nil {
		if err := a.readLists(o.Revoked, o.Floors); err != nil {
			return nil, &FileError{List: true, Err: err}
		}
	}
	return a, nil
}

// Name of the authority in the configuration.
func (a *Authority) Name() string { return a.name }

// Domains it vouches for alone; none: whatever is on no other's list.
func (a *Authority) Domains() []string { return slices.Clone(a.domains) }

// parseCA reads a PEM file of certificates that may issue others.
func parseCA(data []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a %q block: want certificates alone", block.Type)
		}
		if len(all) == maxCertificates {
			return nil, fmt.Errorf("more than %d certificates", maxCertificates)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read", len(all)+1)
		}
		if err := checkCA(c); err != nil {
			return nil, fmt.Errorf("certificate %d (%s): %w", len(all)+1, nameOf(c), err)
		}
		if !slices.ContainsFunc(all, c.Equal) {
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no certificate in PEM in it")
	}
	return all, nil
}

func checkCA(c *x509.Certificate) error {
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return errors.New("not the certificate of an authority: it has no CA:TRUE")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("its key usage does not include signing certificates")
	}
	return checkAlgorithms(c)
}

// helper reports whether c is there because another of the file has issued it:
// then it is trusted as far as that one says, and no further.
func helper(c *x509.Certificate, others []*x509.Certificate) bool {
	return slices.ContainsFunc(others, func(other *x509.Certificate) bool {
		return string(c.RawIssuer) == string(other.RawSubject) && string(c.RawSubject) != string(other.RawSubject) && c.CheckSignatureFrom(other) == nil
	})
}

// nameOf names a certificate to its owner, not to peers.
func nameOf(c *x509.Certificate) string {
	text := []rune(c.Subject.String())
	if len(text) > 80 {
		text = append(text[:79], '…')
	}
	return fmt.Sprintf("%q", string(text))
}

// An End is something of an authority that will not be valid any more some day.
type End struct {
	What string // in words: `certificate "CN=Example CA"`, `revocation list of "CN=Example CA"`
	List bool
	At   time.Time
}

// Ends lists what of an authority ends and when, the earliest first.
func (a *Authority) Ends() []End {
	var ends []End
	for _, c := range slices.Concat(a.anchors, a.helpers) {
		ends = append(ends, End{What: "certificate " + nameOf(c), At: c.NotAfter})
	}
	for _, l := range a.lists {
		ends = append(ends, End{What: "revocation list of " + l.from, List: true, At: l.next})
	}
	slices.SortStableFunc(ends, func(x, y End) int { return x.At.Compare(y.At) })
	return ends
}
