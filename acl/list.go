package acl

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keyholed/keyhole/internal/names"
	"github.com/keyholed/keyhole/protocol/identity"
)

// position orders states of the list. A reset raises epoch and starts sequence
// anew; every change raises sequence by one.
type position struct {
	Epoch    uint64 `json:"epoch"`
	Sequence uint64 `json:"seq"`
}

func (p position) before(q position) bool {
	return p.Epoch < q.Epoch || p.Epoch == q.Epoch && p.Sequence < q.Sequence
}

func (p position) String() string { return fmt.Sprintf("%d.%d", p.Epoch, p.Sequence) }

// entryOf is a user in a list, with what deciding and sealing need.
type entryOf struct {
	*User
	sequence uint64 // of the change that wrote it: part of its seal
	bytes    int    // as stored, before sealing
}

// list is the access list at one position. It never changes once it is in force.
type list struct {
	position
	seen   witness // the end of the audit log when the list was stored
	nextID uint64
	bytes  int // of all users as stored, before sealing
	users  map[uint64]entryOf
	byKey  map[identity.Fingerprint]*User
	byName map[string]*User // by folded name
	blocks blocks

	invites map[string]entryOfInvite
}

func emptyList(epoch uint64) *list {
	return &list{
		position: position{Epoch: epoch},
		nextID:   1,
		users:    map[uint64]entryOf{},
		byKey:    map[identity.Fingerprint]*User{},
		byName:   map[string]*User{},
		blocks:   emptyBlocks(),
		invites:  map[string]entryOfInvite{},
	}
}

// A change is what one step of the list does: one user written or gone, who stays
// out because of it or does no longer, one invite made, some ended. What becomes of
// others by it (the invites of who is gone) follows from it, in with.
type change struct {
	put     *User
	gone    uint64
	block   *Block   // written; it takes the place of one of the same id
	unblock []uint64 // forgotten
	invite  *Invite
	ended   []string // names of invites
	batch   *Batch
}

// add puts u in while a list is being made. It refuses what would make two users
// of one key or name.
func (l *list) add(u *User, sequence uint64) error {
	if err := u.check(); err != nil {
		return err
	}
	if l.users[u.ID].User != nil || l.byName[names.Fold(u.Name)] != nil {
		return fmt.Errorf("user %d is there twice", u.ID)
	}
	for _, k := range u.Keys {
		if l.byKey[k.Fingerprint] != nil {
			return fmt.Errorf("key %s is there twice", k.Fingerprint.Short())
		}
		l.byKey[k.Fingerprint] = u
	}
	for _, f := range u.Former {
		l.blocks.byKey[f]++
	}
	plain, err := json.Marshal(u)
	if err != nil {
		return err
	}
	l.users[u.ID] = entryOf{u, sequence, len(plain)}
	l.bytes += len(plain)
	l.byName[names.Fold(u.Name)] = u
	l.nextID = max(l.nextID, u.ID+1)
	return nil
}

func (l *list) drop(id uint64) {
	old := l.users[id].User
	if old == nil {
		return
	}
	l.bytes -= l.users[id].bytes
	delete(l.users, id)
	delete(l.byName, names.Fold(old.Name))
	for _, k := range old.Keys {
		delete(l.byKey, k.Fingerprint)
	}
	l.blocks.free(old.Former)
}

// with returns the list after c, one sequence on. l stays as it is.
func (l *list) with(c change) (*list, error) {
	next := &list{
		position: position{l.Epoch, l.Sequence + 1},
		seen:     l.seen,
		nextID:   l.nextID,
		bytes:    l.bytes,
		users:    maps.Clone(l.users),
		byKey:    maps.Clone(l.byKey),
		byName:   maps.Clone(l.byName),
		blocks:   l.blocks.clone(),
		invites:  maps.Clone(l.invites),
	}
	next.drop(c.gone)
	if c.put != nil {
		next.drop(c.put.ID)
		if err := next.add(c.put, next.Sequence); err != nil {
			return nil, err
		}
	}
	if err := next.batchBy(c.batch); err != nil {
		return nil, err
	}
	if err := next.block(c); err != nil {
		return nil, err
	}
	return next, next.inviteBy(c)
}

// block does that part of a change.
func (l *list) block(c change) error {
	for _, id := range c.unblock {
		l.blocks.drop(id)
	}
	if c.block == nil {
		return nil
	}
	l.blocks.drop(c.block.ID)
	l.nextID = max(l.nextID, c.block.ID+1)
	return l.blocks.add(c.block, l.Sequence)
}

// ids are those of all users, in order.
func (l *list) ids() []uint64 { return slices.Sorted(maps.Keys(l.users)) }

func (l *list) owners() int {
	n := 0
	for _, u := range l.users {
		if u.Role == RoleOwner {
			n++
		}
	}
	return n
}

// find returns the user with that name, or the one who has the key whose
// fingerprint or unique prefix of it (at least 8 digits) that is.
func (l *list) find(who string) (*User, *Key, error) {
	if u := l.byName[names.Fold(who)]; u != nil {
		return u, nil, nil
	}
	hexed := strings.ToLower(strings.ReplaceAll(who, ":", ""))
	if !isFingerprintPrefix(hexed) {
		return nil, nil, ErrNoUser
	}
	var user *User
	var key *Key
	for f, u := range l.byKey {
		if !strings.HasPrefix(f.String(), hexed) {
			continue
		}
		if user != nil {
			return nil, nil, fmt.Errorf("%q: %w", who, ErrAmbiguous)
		}
		user = u
		key = &u.Keys[slices.IndexFunc(u.Keys, func(k Key) bool { return k.Fingerprint == f })]
	}
	if user == nil {
		return nil, nil, ErrNoUser
	}
	return user, key, nil
}
