package acl

import "time"

// An Appointment is a role that the owner has given to somebody whom an authority
// certifies. It is kept with those who stay out, because it is about the same names:
// one is either blocked, or appointed, or nothing was said.
type Appointment struct {
	Name  string
	Role  string
	Since time.Time // by the device's clock, which may have been wrong
}

// Appoint gives a role to a certified user id, whether anybody has come by it or
// not; "" takes it back, and what the configuration says counts again. Who was
// blocked is let in again by it. Errors: ErrRole (owner is for paired keys),
// ErrBlockName, ErrFull, ErrNoUser for taking back what was not given.
func (s *Store) Appoint(name, role string, by By) error {
	return s.run(by, func(l *list) (*step, error) {
		old := l.blocks.byName[foldBlock(KindAuthority, name)]
		if role == "" {
			if old == nil || old.Role == "" {
				return nil, ErrNoUser
			}
			return &step{
				change: change{unblock: []uint64{old.ID}},
				event:  Event{What: WhatRoleChanged, User: old.Name, Kind: KindAuthority.String(), Detail: "was " + old.Role},
			}, nil
		}
		if err := s.checkRole(role); err != nil || role == RoleOwner {
			return nil, ErrRole
		}
		b := &Block{ID: l.nextID, Kind: KindAuthority, Name: name, Role: role, Since: s.now()}
		if err := b.check(); err != nil {
			return nil, err
		}
		e := Event{What: WhatRoleChanged, User: name, Kind: KindAuthority.String(), Role: role}
		switch {
		case old == nil:
			if _, names := l.blocks.count(); names >= maxBlockedNames {
				return nil, ErrFull
			}
		case old.Role == role && old.Name == name:
			return nil, nil
		case old.Role == "":
			b.ID, e.Detail = old.ID, "was blocked"
		default:
			b.ID, e.Detail = old.ID, "was "+old.Role
		}
		return &step{change: change{block: b}, event: e}, nil
	})
}

// Appointed returns the role that the owner gave to a certified user id, "" for none.
// The name must be the same to the letter.
func (s *Store) Appointed(name string) string {
	b := s.current.Load().blocks.byName[foldBlock(KindAuthority, name)]
	if b == nil || b.Name != name {
		return ""
	}
	return b.Role
}

// Appointments returns them all, in the order in which they became known to the list.
func (s *Store) Appointments() []Appointment {
	l := s.current.Load()
	var all []Appointment
	for _, id := range l.blocks.ids() {
		if b := l.blocks.byID[id]; b.Role != "" {
			all = append(all, Appointment{Name: b.Name, Role: b.Role, Since: b.Since})
		}
	}
	return all
}
