package central

import (
	"crypto"
	"fmt"
	"time"

	"github.com/keyholed/keyhole/internal/names"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Figures of a list.
const (
	// MaxListBytes has room for 1,000 people with four keys and long names.
	MaxListBytes = 1 << 20
	// MaxPeople is how many a device has room for, and MaxKeysEach how many keys of
	// one person: as in its access list.
	MaxPeople   = 1000
	MaxKeysEach = 8
)

// A List is who may enter one device, in the vendor's words. Its claims:
//
//	aud      id of the device
//	version  1, 2, 3 …: of two lists the higher one counts
//	exp      when the list is over unless a newer one came, in seconds since
//	         1970; missing: it stays
//	users    [{"name": …, "role": …, "keys": [fingerprint, 64 hexadecimal digits, …],
//	         "until": seconds since 1970, missing: no end}, …]
type List struct {
	Device  identity.ID
	Version uint64
	Expires time.Time // zero: never
	People  []Person
}

// A Person is one entry of a list.
type Person struct {
	Name  string
	Role  string
	Keys  []identity.Fingerprint
	Until time.Time // zero: no end
}

type listClaims struct {
	Audience string        `json:"aud"`
	Version  int64         `json:"version"`
	Expires  *int64        `json:"exp,omitempty"`
	Users    []personClaim `json:"users"`
}

type personClaim struct {
	Name  string   `json:"name"`
	Role  string   `json:"role"`
	Keys  []string `json:"keys"`
	Until *int64   `json:"until,omitempty"`
}

// ReadList checks the form of a list and that one of the keys has signed it. What
// it says may still be about another device, or older than what is known. Errors:
// ErrMalformed, ErrSignature.
func (k Keys) ReadList(token []byte) (List, error) {
	text, err := k.open(token, typeList, MaxListBytes)
	if err != nil {
		return List{}, fmt.Errorf("list: %w", err)
	}
	var c listClaims
	if err := decodeJSON(text, &c, "aud", "version", "exp", "users", "name", "role", "keys", "until"); err != nil {
		return List{}, fmt.Errorf("list: %w", err)
	}
	l, err := c.list()
	if err != nil {
		return List{}, fmt.Errorf("list: %w", err)
	}
	return l, nil
}

func (c listClaims) list() (l List, err error) {
	if l.Device, err = identity.ParseID(c.Audience); err != nil {
		return List{}, fmt.Errorf("%w: claim aud", ErrMalformed)
	}
	if c.Version <= 0 {
		return List{}, fmt.Errorf("%w: claim version", ErrMalformed)
	}
	l.Version = uint64(c.Version)
	if l.Expires, err = seconds(c.Expires); err != nil {
		return List{}, fmt.Errorf("%w: claim exp", ErrMalformed)
	}
	if c.Users == nil || len(c.Users) > MaxPeople {
		return List{}, fmt.Errorf("%w: claim users: want up to %d", ErrMalformed, MaxPeople)
	}
	name, key := map[string]bool{}, map[identity.Fingerprint]bool{}
	for i, u := range c.Users {
		p, err := u.person()
		if err != nil {
			return List{}, fmt.Errorf("entry %d: %w", i+1, err)
		}
		if name[names.Fold(p.Name)] {
			return List{}, fmt.Errorf("entry %d: %w: the name is there twice", i+1, ErrMalformed)
		}
		name[names.Fold(p.Name)] = true
		for _, f := range p.Keys {
			if key[f] {
				return List{}, fmt.Errorf("entry %d: %w: a key is there twice", i+1, ErrMalformed)
			}
			key[f] = true
		}
		l.People = append(l.People, p)
	}
	return l, nil
}

func (c personClaim) person() (p Person, err error) {
	if p.Name, err = names.Check(c.Name); err != nil || p.Name != c.Name {
		return Person{}, fmt.Errorf("%w: name", ErrMalformed)
	}
	if !roleName.MatchString(c.Role) {
		return Person{}, fmt.Errorf("%w: role", ErrMalformed)
	}
	p.Role = c.Role
	if len(c.Keys) == 0 || len(c.Keys) > MaxKeysEach {
		return Person{}, fmt.Errorf("%w: want 1 to %d keys", ErrMalformed, MaxKeysEach)
	}
	for _, text := range c.Keys {
		f, err := identity.ParseFingerprint(text)
		if err != nil || f.String() != text || f.IsZero() {
			return Person{}, fmt.Errorf("%w: a key", ErrMalformed)
		}
		p.Keys = append(p.Keys, f)
	}
	if p.Until, err = seconds(c.Until); err != nil {
		return Person{}, fmt.Errorf("%w: until", ErrMalformed)
	}
	return p, nil
}

// seconds reads a NumericDate; one that is missing is the zero time.
func seconds(n *int64) (time.Time, error) {
	switch {
	case n == nil:
		return time.Time{}, nil
	case *n <= 0 || *n > maxSeconds:
		return time.Time{}, ErrMalformed
	}
	return time.Unix(*n, 0).UTC(), nil
}

// Sign makes the token, at most MaxListBytes long, with a key of ECDSA P-256.
func (l List) Sign(key crypto.Signer) (string, error) {
	c := listClaims{Audience: string(l.Device), Version: int64(l.Version), Expires: numeric(l.Expires), Users: []personClaim{}}
	for _, p := range l.People {
		entry := personClaim{Name: p.Name, Role: p.Role, Until: numeric(p.Until)}
		for _, f := range p.Keys {
			entry.Keys = append(entry.Keys, f.String())
		}
		c.Users = append(c.Users, entry)
	}
	if _, err := c.list(); err != nil {
		return "", fmt.Errorf("list: %w", err)
	}
	token, err := sign(key, typeList, c)
	if err == nil && len(token) > MaxListBytes {
		err = fmt.Errorf("list: %d bytes, at most %d are allowed", len(token), MaxListBytes)
	}
	if err != nil {
		return "", err
	}
	return token, nil
}

func numeric(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	n := t.Unix()
	return &n
}
