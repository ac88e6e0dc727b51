package acl

import (
	"errors"
	"slices"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// Limits of the list.
const (
	MaxUsers  = 1000 // people; the figure that decisions are measured with
	MaxKeys   = 8    // of one user: phone, laptop, tablet, and their successors
	MaxGrants = 16   // of one user

	// maxUserBytes is what one user may take in the store. bbolt may put four
	// values on one leaf and, with a fifth, split it: then 1,900 bytes make 7
	// pages in each copy, and with the line of the log a change stays under
	// 64 KiB of writing. Eight keys with ordinary names are 1,300.
	maxUserBytes = 1900
)

// A User is a person (or a program) with one or more client keys. What the
// store hands out is a copy.
type User struct {
	ID     uint64    `json:"id"` // never given to another user while the list exists
	Name   string    `json:"name"`
	Role   string    `json:"role"`
	Keys   []Key     `json:"keys"`
	Grants []Grant   `json:"grants,omitempty"`
	Limits           // of the user as a whole, grants included
	Since  time.Time `json:"since"` // by the device's clock, which may have been wrong

	// Central is a user of the vendor's list: only that changes name, role, end and keys.
	Central bool `json:"central,omitempty"`

	// Former are keys that the user gave up, newest last: they stay out (blocked.go).
	Former []identity.Fingerprint `json:"former,omitempty"`
}

// A Key is one client key of a user.
type Key struct {
	Fingerprint identity.Fingerprint `json:"fingerprint"`
	Name        string               `json:"name,omitempty"` // "Alice's laptop"
	Since       time.Time            `json:"since"`
}

// A Grant lets a user tunnel to one service, whatever the role says.
type Grant struct {
	Service string `json:"service"` // name in the configuration
	Limits
}

// Errors of what a list can hold.
var (
	ErrFull    = errors.New("the access list is full")
	ErrTooMany = errors.New("too many keys or grants, or too long names, for one user")
	ErrService = errors.New("not a service name: want [a-z][a-z0-9-]{0,31}")
)

func (u *User) clone() *User {
	c := *u
	c.Keys, c.Former = slices.Clone(u.Keys), slices.Clone(u.Former)
	c.Limits = u.Limits.clone()
	c.Grants = nil
	for _, g := range u.Grants {
		g.Limits = g.Limits.clone()
		c.Grants = append(c.Grants, g)
	}
	return &c
}

func (u *User) fingerprints() []identity.Fingerprint {
	all := make([]identity.Fingerprint, len(u.Keys))
	for i, k := range u.Keys {
		all[i] = k.Fingerprint
	}
	return all
}

// check refuses a user that no change of ours could have made: what comes from
// disk or log passes it as well.
func (u *User) check() error {
	if u.ID == 0 || !roleName(u.Role) {
		return ErrRole
	}
	if name, err := CheckName(u.Name); err != nil || name != u.Name {
		return &NameError{Why: "not as it was checked"}
	}
	if len(u.Keys) == 0 || len(u.Keys) > MaxKeys || len(u.Grants) > MaxGrants || len(u.Former) > maxFormer {
		return ErrTooMany
	}
	for _, k := range u.Keys {
		if k.Fingerprint.IsZero() {
			return identity.ErrNotFingerprint
		}
		if k.Name != "" {
			if name, err := CheckName(k.Name); err != nil || name != k.Name {
				return &NameError{Why: "not as it was checked"}
			}
		}
	}
	for _, g := range u.Grants {
		if !roleName(g.Service) {
			return ErrService
		}
		if err := g.check(); err != nil {
			return err
		}
	}
	return u.Limits.check()
}
