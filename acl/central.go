package acl

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyholed/keyhole/internal/names"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Users whom the vendor's list names stand among the others, and everything counts
// for them that counts for others, but for who writes them: MergeCentral brings in a
// whole version of the list, in one change with one line of the log, and nobody
// else changes their name, role, end or keys. The owner can revoke and block them,
// and grant them services.

const (
	// keptForLocal places of MaxUsers are never the vendor's: without them a long list
	// could keep the owner's household out of its own device.
	keptForLocal = 16
	maxCentral   = MaxUsers - keptForLocal
	// maxBatchBytes is a line of the log with all that a list can hold.
	maxBatchBytes = MaxListBytes + 64<<10
)

// ErrCentral means that a change is the vendor's to make.
var ErrCentral = errors.New("the entry comes from the vendor's list: revoke the user, or have the vendor change it")

// ErrNoOwner means that an invite of somebody on the vendor's list would let in the
// first user who is not on it, who is the owner.
var ErrNoOwner = errors.New("nobody has paired with this device yet: who does so first, at the device, becomes its owner")

// A CentralUser is an entry of the vendor's list.
type CentralUser struct {
	Name  string
	Role  string // never RoleOwner
	Keys  []identity.Fingerprint
	Until time.Time // zero: no end
}

// A Batch is many users in one change: a version of the vendor's list.
type Batch struct {
	Put  []*User  `json:"put,omitempty"`  // as they are from here on
	Gone []uint64 `json:"gone,omitempty"` // ids of those who are no more
}

// Merged is what became of a version of the vendor's list.
type Merged struct {
	Added, Changed, Removed int
	Refused                 []Refused // in the order of the list
}

// Refused is an entry of the list, or part of one, that did not come in.
type Refused struct{ Name, Why string }

// Reasons why an entry does not come in.
const (
	whyOwner    = "the vendor's list makes nobody owner"
	whyNoSuch   = "no such role"
	whyLocal    = "a user of this name was paired here"
	whyKeyLocal = "the key is that of a user who was paired here"
	whyOut      = "the owner has put out this name, or every key"
	whyNoRoom   = "the access list is full"
	whyTooLong  = "too many keys, or too long names, for one user"
	whyDouble   = "a name or a key is there twice"
)

// MergeCentral makes the users of the vendor's list those that people says, in one
// change: who is not there any more is revoked and may come back by a later list,
// whom the owner has put out stays out, and where an entry and somebody paired here
// are after the same name or key, the one who was paired has it. detail is for the
// log. Nothing to change is no error and writes nothing. On a full disk those who
// are to go are gone, and the error says that the others did not come.
func (s *Store) MergeCentral(people []CentralUser, detail string, by By) (Merged, error) {
	var m Merged
	merge := func(onlyLess bool) error {
		return s.run(by, func(l *list) (*step, error) {
			p := s.planMerge(l, people)
			if onlyLess {
				p.keepLess(l)
			}
			m = p.Merged
			return p.step(detail), nil
		})
	}
	err := merge(false)
	if full(err) {
		if less := merge(true); less != nil {
			return Merged{}, less
		}
	}
	return m, err
}

// A merging is a change that is being put together.
type merging struct {
	Merged
	batch   Batch
	smaller []identity.Fingerprint
	words   []string
	bytes   int // of the list, roughly
	seats   int // that central users may still take
	nextID  uint64
	names   map[string]bool
	keys    map[identity.Fingerprint]bool
}

// planMerge looks at what is and what shall be. Those who go come first, so that their
// places, names and keys are free.
func (s *Store) planMerge(l *list, people []CentralUser) *merging {
	p := &merging{bytes: l.bytes, nextID: l.nextID, seats: maxCentral, names: map[string]bool{}, keys: map[identity.Fingerprint]bool{}}
	local := l.local()
	p.seats = min(maxCentral, MaxUsers-local)
	stay := map[uint64]bool{}
	var wanted []*User
	for i := range people {
		u, why := s.centralUser(l, p, &people[i])
		if why != "" {
			p.Refused = append(p.Refused, Refused{people[i].Name, why})
			continue
		}
		stay[u.ID] = true
		wanted = append(wanted, u)
	}
	for _, id := range l.ids() {
		if old := l.users[id]; old.Central && !stay[id] {
			p.Removed++
			p.bytes -= old.bytes
			p.batch.Gone = append(p.batch.Gone, id)
			p.smaller = append(p.smaller, old.fingerprints()...)
			p.words = append(p.words, "gone "+old.Name)
		}
	}
	for _, u := range wanted {
		s.put(l, p, u)
	}
	return p
}

// centralUser is an entry as it would stand in the list; its ID is 0 for somebody new.
func (s *Store) centralUser(l *list, p *merging, c *CentralUser) (u *User, why string) {
	name, err := checkUserName(c.Name)
	if err != nil || name != c.Name {
		return nil, errorText(err)
	}
	fold := names.Fold(name)
	old := l.byName[fold]
	switch {
	case c.Role == RoleOwner:
		return nil, whyOwner
	case s.role(c.Role) == nil:
		return nil, whyNoSuch
	case p.names[fold]:
		return nil, whyDouble
	case old != nil && !old.Central:
		return nil, whyLocal
	case l.blocks.byName[foldBlock(KindCentral, name)] != nil:
		return nil, whyOut
	}
	keys, why := p.freeKeys(l, c.Keys)
	if why != "" {
		return nil, why
	}
	p.names[fold] = true
	u = &User{Name: name, Since: s.now()}
	if old != nil {
		u = old.clone()
	}
	u.Central, u.Role, u.Limits, u.Name = true, c.Role, Limits{Until: c.Until}, name
	u.Keys = slices.DeleteFunc(u.Keys, func(k Key) bool { return !slices.Contains(keys, k.Fingerprint) })
	for _, f := range keys {
		p.keys[f] = true
		if !slices.ContainsFunc(u.Keys, func(k Key) bool { return k.Fingerprint == f }) {
			u.Keys = append(u.Keys, Key{Fingerprint: f, Since: s.now()})
		}
	}
	return u, ""
}

// freeKeys are those of an entry that it may bring.
func (p *merging) freeKeys(l *list, wanted []identity.Fingerprint) (keys []identity.Fingerprint, why string) {
	for _, f := range wanted {
		switch other := l.byKey[f]; {
		case p.keys[f] || slices.Contains(keys, f):
			return nil, whyDouble
		case other != nil && !other.Central:
			return nil, whyKeyLocal
		case l.blocks.byKey[f] > 0:
			continue // the owner has put it out
		}
		keys = append(keys, f)
	}
	switch {
	case len(keys) == 0:
		return nil, whyOut
	case len(keys) > MaxKeys:
		return nil, whyTooLong
	}
	return keys, ""
}

// put takes a user into the change, if there is something to change and room for it.
// Who is there already and finds no room for what is new goes.
func (s *Store) put(l *list, p *merging, u *User) {
	old := l.users[u.ID]
	if old.User == nil {
		u.ID = p.nextID
	}
	plain, err := json.Marshal(u)
	if old.User != nil && err == nil && string(plain) == string(old.plain()) {
		p.seats--
		return
	}
	why := ""
	switch {
	case err != nil || u.check() != nil || len(plain) > maxUserBytes:
		why = whyTooLong
	case p.seats <= 0 || p.bytes-old.bytes+len(plain) > MaxListBytes && len(plain) > old.bytes:
		why = whyNoRoom
	}
	switch {
	case why != "" && old.User == nil:
		p.Refused = append(p.Refused, Refused{u.Name, why})
		return
	case why != "":
		p.Refused = append(p.Refused, Refused{u.Name, why})
		p.Removed++
		p.bytes -= old.bytes
		p.batch.Gone = append(p.batch.Gone, u.ID)
		p.smaller = append(p.smaller, old.fingerprints()...)
		p.words = append(p.words, "gone "+u.Name)
		return
	case old.User == nil:
		p.nextID++
		p.Added++
		p.words = append(p.words, "new "+u.Name)
	default:
		p.Changed++
		p.words = append(p.words, "changed "+u.Name)
		p.smaller = append(p.smaller, s.less(old.User, u)...)
	}
	p.seats--
	p.bytes += len(plain) - old.bytes
	p.batch.Put = append(p.batch.Put, u)
}

// less are the keys of a user that may do less from now on, or might.
func (s *Store) less(old, now *User) (out []identity.Fingerprint) {
	if !s.role(now.Role).includes(s.role(old.Role)) || !now.Until.Equal(old.Until) && !now.Until.IsZero() && (old.Until.IsZero() || now.Until.Before(old.Until)) {
		return old.fingerprints()
	}
	for _, k := range old.Keys {
		if !slices.ContainsFunc(now.Keys, func(n Key) bool { return n.Fingerprint == k.Fingerprint }) {
			out = append(out, k.Fingerprint)
		}
	}
	return out
}

// keepLess leaves of a change what takes permission away: it is for a full disk.
func (p *merging) keepLess(l *list) {
	less := p.batch.Put[:0]
	for _, u := range p.batch.Put {
		if old := l.users[u.ID].User; old != nil && slices.ContainsFunc(old.fingerprints(), func(f identity.Fingerprint) bool { return slices.Contains(p.smaller, f) }) {
			less = append(less, u)
		}
	}
	p.batch.Put = less
	p.Added, p.Changed = 0, len(less)
}

func (p *merging) step(detail string) *step {
	if len(p.batch.Put)+len(p.batch.Gone) == 0 {
		return nil
	}
	slices.Sort(p.batch.Gone)
	return &step{
		change: change{batch: &p.batch}, smaller: p.smaller,
		event: Event{What: WhatCentralList, Kind: KindCentral.String(), Detail: detail + ": " + strings.Join(p.words, ", ")},
	}
}

// plain is what is sealed of a user.
func (e entryOf) plain() []byte {
	plain, err := json.Marshal(e.User)
	if err != nil {
		return nil
	}
	return plain
}

func errorText(err error) string {
	if err == nil {
		return "not as it was checked"
	}
	return err.Error()
}

// local counts the users who were paired here.
func (l *list) local() int {
	n := 0
	for _, u := range l.users {
		if !u.Central {
			n++
		}
	}
	return n
}

// batchBy does that part of a change: first who goes, then everybody else, so that
// names and keys may change hands.
func (l *list) batchBy(b *Batch) error {
	if b == nil {
		return nil
	}
	for _, id := range b.Gone {
		l.drop(id)
	}
	for _, u := range b.Put {
		l.drop(u.ID)
	}
	for _, u := range b.Put {
		if err := l.add(u, l.Sequence); err != nil {
			return fmt.Errorf("user %d: %w", u.ID, err)
		}
	}
	return nil
}

// putOut is the change by which the owner puts out a user of the vendor's list: name
// and keys stay out of later lists, and of the vendor's grants. Where there is no
// room for one name more, the keys do.
func (s *Store) putOut(l *list, c *change, u *User) {
	if _, names := l.blocks.count(); names >= maxBlockedNames {
		s.remember(l, c, u)
		return
	}
	c.block = &Block{ID: u.ID, Kind: KindCentral, Name: u.Name, Keys: addFormer(u.Former, u.fingerprints()...), Since: s.now()}
}
