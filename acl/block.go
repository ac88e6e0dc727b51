package acl

import (
	"slices"

	"github.com/keyholed/keyhole/internal/names"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Block keeps a principal out who is no user: whatever an authority, the vendor or a
// hotline says of him, the answer is no from here on. Errors: ErrBlockName (a kind
// that cannot be blocked, or no name), ErrFull. Who is blocked already is no error.
func (s *Store) Block(kind Kind, name string, by By) error {
	return s.run(by, func(l *list) (*step, error) { return s.blockStep(l, kind, name) })
}

func (s *Store) blockStep(l *list, kind Kind, name string) (*step, error) {
	b := &Block{ID: l.nextID, Kind: kind, Name: name, Since: s.now()}
	if err := b.check(); err != nil || kind == KindKey {
		return nil, ErrBlockName
	}
	old := l.blocks.byName[foldBlock(kind, name)]
	if old != nil && old.Role == "" {
		return nil, nil
	}
	if old != nil { // an appointment, whose place this takes
		b.ID = old.ID
	} else if _, blocked := l.blocks.count(); blocked >= maxBlockedNames {
		return nil, ErrFull
	}
	st := &step{
		change:  change{block: b},
		event:   Event{What: WhatBlocked, User: name, Kind: kind.String()},
		blocked: b,
	}
	if u := l.byName[names.Fold(name)]; kind == KindCentral && u != nil && u.Central {
		st.gone, st.smaller = u.ID, u.fingerprints()
		b.ID, b.Keys = u.ID, addFormer(u.Former, st.smaller...)
	}
	return st, nil
}

// Unblock takes a Block back: ErrNotBlocked. Keys of former users are let in again
// by pairing them.
func (s *Store) Unblock(kind Kind, name string, by By) error {
	return s.run(by, func(l *list) (*step, error) {
		b := l.blocks.byName[foldBlock(kind, name)]
		if b == nil || b.Role != "" {
			return nil, ErrNotBlocked
		}
		return &step{
			change: change{unblock: []uint64{b.ID}},
			event:  Event{What: WhatUnblocked, User: b.Name, Kind: kind.String()},
		}, nil
	})
}

// Blocked returns everybody who stays out, in the order in which they became known
// to the list.
func (s *Store) Blocked() []Block {
	l := s.current.Load()
	all := make([]Block, 0, len(l.blocks.byID))
	for _, id := range l.blocks.ids() {
		b := l.blocks.byID[id].clone()
		former := len(b.Keys) > 0
		b.Keys = slices.DeleteFunc(b.Keys, func(f identity.Fingerprint) bool { return l.byKey[f] != nil }) // paired again
		if b.Role == "" && (b.Kind != KindKey || len(b.Keys) > 0 || !former) {
			all = append(all, *b)
		}
	}
	return all
}

// IsBlocked reports whether a principal who is no user stays out, by key or by name.
// It is false for every KindKey.
func (s *Store) IsBlocked(p Principal) bool {
	if p.Kind == KindKey {
		return false
	}
	key, name := s.current.Load().blocked(&p)
	return key || name
}

// OnBlock sets what is told of a principal who was blocked by name, before the change
// returns. It is called without locks held. Keys are told to OnRevoke.
func (s *Store) OnBlock(f func(kind Kind, name string)) { s.onBlock.Store(&f) }

// remember adds to the end of a user that his keys stay out.
func (s *Store) remember(l *list, c *change, u *User) {
	if users, _ := l.blocks.count(); users >= maxBlockedUsers {
		c.unblock = append(c.unblock, l.blocks.oldestUser())
	}
	keys := addFormer(u.Former, u.fingerprints()...)
	c.block = &Block{ID: u.ID, Kind: KindKey, Name: u.Name, Keys: keys, Since: s.now()}
}

// addFormer adds keys that are given up, newest last.
func addFormer(former []identity.Fingerprint, keys ...identity.Fingerprint) []identity.Fingerprint {
	former = slices.DeleteFunc(slices.Clone(former), func(f identity.Fingerprint) bool { return slices.Contains(keys, f) })
	former = append(former, keys...)
	return former[max(0, len(former)-maxFormer):]
}
