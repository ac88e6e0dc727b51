package acl

import "github.com/keyholed/keyhole/protocol/identity"

// Refuses says why l does not hold now: "ended", "clock not set", "outside its
// hours"; "" when it does.
func (l Limits) Refuses(clock Clock) string { return l.refuses(clock) }

// Over reports whether the user who has the key may do nothing now, by his end or
// his hours. It is false for a key that is not in the list.
func (s *Store) Over(f identity.Fingerprint) bool {
	u := s.current.Load().byKey[f]
	return u != nil && u.refusesBy(s.clock) != ""
}
