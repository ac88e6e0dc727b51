package acl

import (
	"fmt"

	"github.com/keyholed/keyhole/internal/names"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A Newcomer is who pairing lets in.
type Newcomer struct {
	Fingerprint identity.Fingerprint
	User        string // name wanted
	KeyName     string // "Alice's laptop"; may be empty
	Role        string // of everybody but the first, who becomes owner
	Limits      Limits // of everybody but the first
}

// Enter makes a new user of a newcomer and returns it. In an empty list that is
// the owner. A key that is in the list already keeps its user, whatever is asked.
// Errors: *NameError, *NameTakenError, ErrRole, ErrOwner, ErrLimits, ErrFull, and
// those of every change.
func (s *Store) Enter(n Newcomer, by By) (User, error) {
	var entered *User
	err := s.run(by, func(l *list) (*step, error) {
		if known := l.byKey[n.Fingerprint]; known != nil && known.Central && l.local() == 0 {
			// The first to pair is the owner, also if the vendor has listed his key.
			u := known.clone()
			u.Central, u.Role, u.Limits = false, RoleOwner, Limits{}
			entered = u
			return &step{change: change{put: u}, event: about(WhatPaired, u, n.Fingerprint)}, nil
		} else if known != nil {
			entered = known
			return nil, nil
		}
		u, err := s.newUser(l, n)
		if err != nil {
			return nil, err
		}
		entered = u
		return &step{change: change{put: u}, event: about(WhatPaired, u, n.Fingerprint)}, nil
	})
	if err != nil {
		return User{}, err
	}
	return *entered.clone(), nil
}

func (s *Store) newUser(l *list, n Newcomer) (*User, error) {
	if n.Fingerprint.IsZero() {
		return nil, identity.ErrNotFingerprint
	}
	if len(l.users) >= MaxUsers {
		return nil, ErrFull
	}
	name, err := freeName(l, n.User, 0)
	if err != nil {
		return nil, err
	}
	key, err := s.newKey(n.Fingerprint, n.KeyName)
	if err != nil {
		return nil, err
	}
	u := &User{ID: l.nextID, Name: name, Role: RoleOwner, Keys: []Key{key}, Since: key.Since}
	if l.local() == 0 {
		return u, nil
	}
	if err := s.checkRole(n.Role); err != nil {
		return nil, err
	}
	if n.Role == RoleOwner {
		return nil, ErrOwner
	}
	u.Role, u.Limits = n.Role, n.Limits.clone()
	return u, u.Limits.check()
}

// freeName checks a name that nobody but user may have.
func freeName(l *list, wanted string, user uint64) (string, error) {
	name, err := checkUserName(wanted)
	if err != nil {
		return "", err
	}
	if other := l.byName[names.Fold(name)]; other != nil && other.ID != user {
		taken := func(s string) bool { return l.byName[names.Fold(s)] != nil }
		return "", &NameTakenError{Name: name, Suggestion: suggest(name, taken)}
	}
	return name, nil
}

func (s *Store) newKey(f identity.Fingerprint, name string) (Key, error) {
	if name != "" {
		var err error
		if name, err = CheckName(name); err != nil {
			return Key{}, err
		}
	}
	return Key{Fingerprint: f, Name: name, Since: s.now()}, nil
}

func (s *Store) checkRole(name string) error {
	if s.role(name) == nil {
		return fmt.Errorf("%w: %q", ErrRole, name)
	}
	return nil
}

// about is an event that tells of a user.
func about(what What, u *User, f identity.Fingerprint) Event {
	return Event{What: what, User: u.Name, Role: u.Role, Fingerprint: f}
}
