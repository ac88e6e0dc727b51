package acl

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/keyholed/keyhole/protocol/identity"
)

// What the owner revoked stays refused, also to an authority, the vendor and a
// hotline, which could vouch for it again. So the list remembers who is out:
// the keys of users who are no more, and keys that users gave up, until they are
// paired again; and names of principals that are no users, until the owner takes
// that back.

// Limits of what is remembered. A household revokes a few people a year; a device
// that is let to guests, one a day.
const (
	maxBlockedUsers = 500 // former users; the oldest is forgotten
	maxBlockedNames = 500 // then nobody can be blocked by name before another is unblocked
	// maxFormer keys of one user: those he had at once and some before; the oldest is
	// forgotten. Half a kilobyte in the store, with 8 keys beside them still a user.
	maxFormer = MaxKeys
	// maxPrincipalName is the longest e-mail address (RFC 5321 §4.5.3.1.3, without the
	// brackets); with the name of an authority before it, it has to be shorter.
	maxPrincipalName = 254
)

// A Block is somebody who stays out, or, with a role, somebody to whom the owner gave
// it (see Appointment).
type Block struct {
	ID    uint64                 `json:"id"`             // that of the user there was, or one of its own
	Kind  Kind                   `json:"kind"`           // KindKey: a former user's keys; else a name
	Name  string                 `json:"name"`           // of the former user, or of the principal
	Keys  []identity.Fingerprint `json:"keys,omitempty"` // of KindKey, and of a user of the vendor's list, newest last
	Role  string                 `json:"role,omitempty"` // of an Appointment, only with KindAuthority
	Since time.Time              `json:"since"`          // by the device's clock, which may have been wrong
}

// Errors of blocking.
var (
	ErrBlockName  = errors.New("not a name that can be blocked: want 1 to 254 printable characters")
	ErrNotBlocked = errors.New("nobody of that name is blocked")
)

// String is what ParseBlock reads: "ca:NAME", "central:NAME", "support:NAME"; the name
// alone for a former user.
func (b Block) String() string {
	for _, p := range blockPrefixes {
		if p.kind == b.Kind {
			return p.prefix + b.Name
		}
	}
	return b.Name
}

// blockPrefixes tell names of principals from those of users, who may have none
// that begins so.
var blockPrefixes = []struct {
	kind   Kind
	prefix string
}{
	{KindAuthority, "ca:"},
	{KindCentral, "central:"},
	{KindSupport, "support:"},
}

// ParseBlock reads the name of a principal that is no user: "ca:NAME" for one that
// an authority certified, "central:NAME" for one that the vendor vouches for.
func ParseBlock(who string) (kind Kind, name string, ok bool) {
	for _, p := range blockPrefixes {
		if len(who) > len(p.prefix) && strings.EqualFold(who[:len(p.prefix)], p.prefix) {
			return p.kind, who[len(p.prefix):], true
		}
	}
	return 0, "", false
}

// blockName finds a blocked name. The name is in lower case as far as it is ASCII:
// mail domains do not care, and who is out shall not come back as ALICE@example.net.
type blockName struct {
	kind Kind
	name string
}

// blockOf is a Block in a list, with what sealing needs.
type blockOf struct {
	*Block
	sequence uint64 // of the change that wrote it
}

// blocks are part of a list.
type blocks struct {
	byID   map[uint64]blockOf
	byKey  map[identity.Fingerprint]int // in how many of them, and of User.Former
	byName map[blockName]*Block
}

func emptyBlocks() blocks {
	return blocks{map[uint64]blockOf{}, map[identity.Fingerprint]int{}, map[blockName]*Block{}}
}

func (b blocks) clone() blocks {
	return blocks{maps.Clone(b.byID), maps.Clone(b.byKey), maps.Clone(b.byName)}
}

// has reports whether a principal who is no user is blocked, by the key or by the
// name. It allocates nothing. A key that is on the list again is not.
func (l *list) blocked(p *Principal) (key, name bool) {
	b := &l.blocks
	key = b.byKey[p.Fingerprint] > 0 && l.byKey[p.Fingerprint] == nil
	if len(b.byName) == 0 {
		return key, false
	}
	var buf [maxPrincipalName]byte
	if len(p.Name) > len(buf) {
		return key, true
	}
	for i := range len(p.Name) {
		buf[i] = lower(p.Name[i])
	}
	said := b.byName[blockName{p.Kind, string(buf[:len(p.Name)])}]
	return key, said != nil && said.Role == ""
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func foldBlock(kind Kind, name string) blockName {
	return blockName{kind, strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf {
			return rune(lower(byte(r)))
		}
		return r
	}, name)}
}

// ids are those of all blocks, in order.
func (b blocks) ids() []uint64 { return slices.Sorted(maps.Keys(b.byID)) }

// add puts one in while a list is being made.
func (b blocks) add(one *Block, sequence uint64) error {
	if err := one.check(); err != nil {
		return err
	}
	if b.byID[one.ID].Block != nil {
		return fmt.Errorf("block %d is there twice", one.ID)
	}
	b.byID[one.ID] = blockOf{one, sequence}
	if one.Kind != KindKey {
		name := foldBlock(one.Kind, one.Name)
		if b.byName[name] != nil {
			return fmt.Errorf("%s is blocked twice", one)
		}
		b.byName[name] = one
	}
	for _, f := range one.Keys {
		b.byKey[f]++
	}
	return nil
}

func (b blocks) drop(id uint64) {
	old := b.byID[id].Block
	if old == nil {
		return
	}
	delete(b.byID, id)
	if old.Kind != KindKey {
		delete(b.byName, foldBlock(old.Kind, old.Name))
	}
	b.free(old.Keys)
}

func (b blocks) free(keys []identity.Fingerprint) {
	for _, f := range keys {
		if b.byKey[f]--; b.byKey[f] == 0 {
			delete(b.byKey, f)
		}
	}
}

// count says how many former users and how many names are blocked.
func (b blocks) count() (users, names int) {
	return len(b.byID) - len(b.byName), len(b.byName)
}

// oldestUser is the former user who was changed first, 0 when there is none.
func (b blocks) oldestUser() uint64 {
	oldest := uint64(0)
	for id, one := range b.byID {
		if one.Kind == KindKey && (oldest == 0 || one.sequence < b.byID[oldest].sequence) {
			oldest = id
		}
	}
	return oldest
}

// check refuses what no change of ours could have made.
func (b *Block) check() error {
	if b.ID == 0 {
		return ErrBlockName
	}
	for i, f := range b.Keys {
		if f.IsZero() || slices.Contains(b.Keys[:i], f) {
			return identity.ErrNotFingerprint
		}
	}
	switch b.Kind {
	case KindKey:
		if len(b.Keys) == 0 || len(b.Keys) > maxFormer {
			return ErrTooMany
		}
	case KindCentral: // with keys if it was a user of the vendor's list
		if len(b.Keys) > maxFormer {
			return ErrTooMany
		}
	case KindAuthority, KindSupport:
		if len(b.Keys) > 0 {
			return ErrTooMany
		}
	default:
		return ErrBlockName
	}
	if b.Role != "" && (b.Kind != KindAuthority || b.Role == RoleOwner || !roleName(b.Role)) {
		return ErrRole
	}
	return checkPrincipalName(b.Name)
}

// checkPrincipalName takes what an authority or a vendor may call somebody.
func checkPrincipalName(name string) error {
	if name == "" || len(name) > maxPrincipalName || !utf8.ValidString(name) {
		return ErrBlockName
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return ErrBlockName
		}
	}
	return nil
}

func (b *Block) clone() *Block {
	c := *b
	c.Keys = slices.Clone(b.Keys)
	return &c
}

// MarshalText gives what String gives.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText accepts what MarshalText gives for the kinds that there are.
func (k *Kind) UnmarshalText(text []byte) error {
	for one := KindKey; one <= KindCentral; one++ {
		if one.String() == string(text) {
			*k = one
			return nil
		}
	}
	return fmt.Errorf("no kind of principal: %.20q", text)
}
