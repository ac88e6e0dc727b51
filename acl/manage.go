package acl

import (
	"errors"
	"slices"

	"github.com/keyholed/keyhole/protocol/identity"
)

// edit changes a copy of the user that who names (see Store.User). do says
// whether the user may do less from then on.
func (s *Store) edit(who string, by By, what What, do func(*list, *User, *Event) (smaller bool, err error)) (User, error) {
	var after *User
	err := s.run(by, func(l *list) (*step, error) {
		old, _, err := l.find(who)
		if err != nil {
			return nil, err
		}
		after = old.clone()
		st := &step{change: change{put: after}}
		st.event = Event{What: what}
		if old.Central && what != WhatGranted && what != WhatGrantRemoved {
			return nil, ErrCentral
		}
		smaller, err := do(l, after, &st.event)
		if errors.Is(err, errSame) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		st.event.User, st.event.Role = after.Name, after.Role
		if smaller {
			st.smaller = old.fingerprints()
		}
		return st, nil
	})
	if err != nil {
		return User{}, err
	}
	return *after.clone(), nil
}

// errSame means that there is nothing to change.
var errSame = errors.New("it is so already")

// AddKey gives a user one key more. Errors: ErrNoUser, ErrKeyTaken, ErrTooMany,
// *NameError. A key that the user has already is no error.
func (s *Store) AddKey(who string, f identity.Fingerprint, name string, by By) (User, error) {
	return s.edit(who, by, WhatKeyAdded, func(l *list, u *User, e *Event) (bool, error) {
		e.Fingerprint = f
		if other := l.byKey[f]; other != nil {
			if other.ID == u.ID {
				return false, errSame
			}
			return false, ErrKeyTaken
		}
		if len(u.Keys) >= MaxKeys {
			return false, ErrTooMany
		}
		key, err := s.newKey(f, name)
		if err != nil {
			return false, err
		}
		if f.IsZero() {
			return false, identity.ErrNotFingerprint
		}
		u.Keys = append(u.Keys, key)
		u.Former = slices.DeleteFunc(u.Former, func(k identity.Fingerprint) bool { return k == f })
		return false, nil
	})
}

// RemoveKey takes a key from the user who has it: ErrNoUser, or ErrLastKey when it
// is the only one.
func (s *Store) RemoveKey(f identity.Fingerprint, by By) error {
	return s.run(by, func(l *list) (*step, error) {
		old := l.byKey[f]
		switch {
		case old == nil:
			return nil, ErrNoUser
		case len(old.Keys) == 1:
			return nil, ErrLastKey
		}
		return withoutKey(old, f), nil
	})
}

// withoutKey takes a key from a user, and keeps it out.
func withoutKey(old *User, f identity.Fingerprint) *step {
	u := old.clone()
	u.Keys = slices.DeleteFunc(u.Keys, func(k Key) bool { return k.Fingerprint == f })
	u.Former = addFormer(u.Former, f)
	return &step{
		change:  change{put: u},
		event:   about(WhatKeyRemoved, u, f),
		smaller: []identity.Fingerprint{f},
	}
}

// SetRole gives a user another role: ErrNoUser, ErrRole, ErrLastOwner. A user who
// becomes owner has no end and no hours from then on.
func (s *Store) SetRole(who, role string, by By) (User, error) {
	return s.edit(who, by, WhatRoleChanged, func(l *list, u *User, e *Event) (bool, error) {
		if err := s.checkRole(role); err != nil {
			return false, err
		}
		if u.Role == role {
			return false, errSame
		}
		if u.Role == RoleOwner && l.owners() == 1 {
			return false, ErrLastOwner
		}
		e.Detail = "was " + u.Role
		smaller := !s.role(role).includes(s.role(u.Role))
		u.Role = role
		if role == RoleOwner {
			u.Limits = Limits{}
		}
		return smaller, nil
	})
}

// SetLimits sets when a user may do anything at all; the zero Limits are always.
// An owner has none: ErrLimits.
func (s *Store) SetLimits(who string, limits Limits, by By) (User, error) {
	return s.edit(who, by, WhatLimited, func(_ *list, u *User, _ *Event) (bool, error) {
		if u.Role == RoleOwner && !limits.Always() {
			return false, ErrOwnerLimits
		}
		u.Limits = limits.clone()
		return true, limits.check()
	})
}

// Rename gives a user another name: *NameError, *NameTakenError, ErrNoUser.
func (s *Store) Rename(who, name string, by By) (User, error) {
	return s.edit(who, by, WhatRenamed, func(l *list, u *User, e *Event) (bool, error) {
		name, err := freeName(l, name, u.ID)
		if err != nil {
			return false, err
		}
		if u.Name == name {
			return false, errSame
		}
		e.Detail = "was " + u.Name
		u.Name = name
		return false, nil
	})
}

// Grant lets a user tunnel to one service, beyond what the role allows (or, with
// role guest, instead of it). It replaces an earlier grant of that service.
func (s *Store) Grant(who string, g Grant, by By) (User, error) {
	return s.edit(who, by, WhatGranted, func(_ *list, u *User, e *Event) (bool, error) {
		e.Service = g.Service
		if !roleName(g.Service) {
			return false, ErrService
		}
		g.Limits = g.Limits.clone()
		i := slices.IndexFunc(u.Grants, func(have Grant) bool { return have.Service == g.Service })
		if i >= 0 {
			u.Grants[i] = g // it may end sooner than the old one
			return true, g.check()
		}
		if len(u.Grants) >= MaxGrants {
			return false, ErrTooMany
		}
		u.Grants = append(u.Grants, g)
		return false, g.check()
	})
}

// RevokeGrant takes a grant back: ErrNoUser, ErrNoGrant.
func (s *Store) RevokeGrant(who, service string, by By) (User, error) {
	return s.edit(who, by, WhatGrantRemoved, func(_ *list, u *User, e *Event) (bool, error) {
		e.Service = service
		n := len(u.Grants)
		u.Grants = slices.DeleteFunc(u.Grants, func(g Grant) bool { return g.Service == service })
		if len(u.Grants) == n {
			return false, ErrNoGrant
		}
		return true, nil
	})
}

// Revoke ends a user's permission, or one key's, and returns the keys that are out:
// who is a name, or a fingerprint or the unique beginning of one. A user whose
// only key that is goes with it. Who has a name of ParseBlock is blocked instead,
// and no keys are returned. Errors: ErrNoUser, ErrAmbiguous, ErrLastOwner. It works
// on a full disk.
func (s *Store) Revoke(who string, by By) ([]identity.Fingerprint, error) {
	var out []identity.Fingerprint
	err := s.run(by, func(l *list) (*step, error) {
		u, key, err := l.find(who)
		if kind, name, ok := ParseBlock(who); err != nil && ok {
			return s.blockStep(l, kind, name)
		}
		if err != nil {
			return nil, err
		}
		if key != nil && len(u.Keys) > 1 {
			st := withoutKey(u, key.Fingerprint)
			out = st.smaller
			return st, nil
		}
		if u.Role == RoleOwner && l.owners() == 1 {
			return nil, ErrLastOwner
		}
		out = u.fingerprints()
		st := &step{change: change{gone: u.ID}, event: about(WhatRevoked, u, out[0]), smaller: out}
		if u.Central {
			s.putOut(l, &st.change, u)
		} else {
			s.remember(l, &st.change, u)
		}
		return st, nil
	})
	if err != nil {
		return nil, err
	}
	return slices.Clone(out), nil
}
