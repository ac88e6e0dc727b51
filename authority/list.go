package authority

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"
)

// A list is a revocation list, checked once when it is read: signed by a
// certificate of the CA file, complete (no delta, nothing indirect), numbered,
// and with an end. Whoever has a list that has ended lets nobody in by that
// issuer: a revocation may be in the next one.
type list struct {
	from    string // the issuer's name, for people
	number  *big.Int
	this    time.Time
	next    time.Time
	revoked map[string]bool // serial numbers in hexadecimal
}

const (
	// maxLists is as many as there can be issuers in the CA file.
	maxLists = maxCertificates
	// listAhead is how far in the future a list may have been made: an authority's
	// clock may go a little ahead of ours.
	listAhead = 10 * time.Minute
	// maxNumberBits is RFC 5280 §5.2.3: not longer than 20 octets.
	maxNumberBits = 160
)

// Floors are the lowest numbers that revocation lists may have, by issuer. A list
// that was in force keeps an older one from coming back, so that nobody takes a
// revocation back by replacing a file with an old copy. The zero value holds none.
type Floors map[string]string

// Raise returns floors that a's lists put up, and whether that changes any.
// Authorities that are not configured any more lose theirs with the next list
// that comes when there are too many.
func (f Floors) Raise(sets ...*Authority) (Floors, bool) {
	raised, changed := maps.Clone(f), false
	if raised == nil {
		raised = Floors{}
	}
	for _, a := range sets {
		for from, l := range a.lists {
			key, number := hex.EncodeToString(from[:]), l.number.Text(16)
			if raised[key] != number && raised.allows(from, l.number) {
				raised[key], changed = number, true
			}
		}
	}
	return raised, changed
}

// allows reports whether a list may have this number.
func (f Floors) allows(from issuer, number *big.Int) bool {
	text, ok := f[hex.EncodeToString(from[:])]
	if !ok {
		return true
	}
	floor, ok := new(big.Int).SetString(text, 16)
	return !ok || number.Cmp(floor) >= 0 // what is no number was not written by us
}

func (a *Authority) readLists(data []byte, floors Floors) error {
	a.listed = true
	lists, err := parseLists(data)
	if err != nil {
		return err
	}
	for i, l := range lists {
		if err := a.addList(l, floors); err != nil {
			return fmt.Errorf("revocation list %d: %w", i+1, err)
		}
	}
	return nil
}

func parseLists(data []byte) ([]*x509.RevocationList, error) {
	var blocks [][]byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "X509 CRL" {
			blocks = append(blocks, block.Bytes)
		}
	}
	if len(blocks) == 0 && !strings.Contains(string(data[:min(len(data), 64)]), "-----BEGIN") {
		blocks = [][]byte{data} // DER, as authorities publish it
	}
	switch n := len(blocks); {
	case n == 0:
		return nil, errors.New("no revocation list in it")
	case n > maxLists:
		return nil, fmt.Errorf("%d revocation lists: at most %d are allowed", n, maxLists)
	}
	lists := make([]*x509.RevocationList, len(blocks))
	for i, der := range blocks {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("revocation list %d cannot be read", i+1)
		}
		lists[i] = l
	}
	return lists, nil
}

func (a *Authority) addList(l *x509.RevocationList, floors Floors) error {
	from, err := a.issuerOfList(l)
	if err != nil {
		return err
	}
	if err := checkList(l); err != nil {
		return err
	}
	key := issuerOf(from)
	if !floors.allows(key, l.Number) {
		return fmt.Errorf("number %v is lower than one that was in force: an old copy", l.Number)
	}
	if there := a.lists[key]; there != nil && there.number.Cmp(l.Number) >= 0 {
		return nil // of two, the newer counts
	}
	revoked := make(map[string]bool, len(l.RevokedCertificateEntries))
	for _, e := range l.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			if x.Critical {
				return errors.New("it lists certificates of other issuers, which is not supported")
			}
		}
		revoked[e.SerialNumber.Text(16)] = true // a hold is a revocation to us
	}
	a.lists[key] = &list{from: nameOf(from), number: l.Number, this: l.ThisUpdate, next: l.NextUpdate, revoked: revoked}
	return nil
}

// issuerOfList finds who has signed a list.
func (a *Authority) issuerOfList(l *x509.RevocationList) (*x509.Certificate, error) {
	if !allowedSignature(l.SignatureAlgorithm) {
		return nil, ErrAlgorithm
	}
	for _, c := range slices.Concat(a.anchors, a.helpers) {
		if string(c.RawSubject) == string(l.RawIssuer) && l.CheckSignatureFrom(c) == nil {
			return c, nil
		}
	}
	return nil, errors.New("signed by none of the certificates in the ca file (an intermediate authority belongs there too)")
}

func checkList(l *x509.RevocationList) error {
	for _, x := range l.Extensions {
		if x.Critical { // RFC 5280 §5.2: delta lists and partial ones are marked so
			return errors.New("a delta list or a partial one: want a complete list")
		}
	}
	switch {
	case l.Number == nil || l.Number.Sign() < 0 || l.Number.BitLen() > maxNumberBits:
		return errors.New("it has no number (RFC 5280 §5.2.3)")
	case l.NextUpdate.IsZero():
		return errors.New("it does not say when the next one comes")
	case l.NextUpdate.Before(l.ThisUpdate):
		return errors.New("it ends before it begins")
	}
	return nil
}

// refuses says what the lists hold against c, which parent has issued: ErrRevoked,
// ErrOldList, or ErrNoList where one is needed. end is when the list ends.
func (a *Authority) refuses(c, parent *x509.Certificate, needed bool, clock Clock) (end time.Time, err error) {
	l := a.lists[issuerOf(parent)]
	switch {
	case l == nil && needed:
		return end, ErrNoList
	case l == nil:
		return end, nil
	case l.revoked[c.SerialNumber.Text(16)]:
		return end, ErrRevoked
	case !clock.Floor.Before(l.next) || !clock.Now.Before(l.next), clock.Now.Add(listAhead).Before(l.this):
		return end, ErrOldList
	}
	return l.next, nil
}
