package acl

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// Limits of open invites.
const (
	MaxInvites     = 32 // of a device: a family and the plumber
	MaxInvitesEach = 8  // of one user, so that four can invite at once

	// maxInviteBytes is what one may take in the store: two names of 64 characters
	// and seven weekly windows are 1,100.
	maxInviteBytes = 1400

	inviteNameBytes  = 8
	maxVerifierBytes = 96
)

// An Invite lets one newcomer in, once, or adds one key to its maker's user. What
// is kept of its secret is a verifier, with which nobody can enter. It is void
// when the key that made it is off the list, or its maker may not give the role
// any more, and gone after a reset. What the store hands out is a copy.
//
// It ends by three clocks, whichever is first: the time since the kernel started,
// in the run in which it was made; the wall clock, if that was known then; the
// time floor. In another run it needs the wall clock, and refuses while that is
// unknown; one that was made while it was unknown does not outlive the run.
type Invite struct {
	Name     string               `json:"name"`     // 16 hexadecimal digits; follows from Verifier, no secret
	Verifier []byte               `json:"verifier"` // what its proofs are checked by; no secret
	Role     string               `json:"role,omitempty"`
	Myself   bool                 `json:"myself,omitempty"` // adds a key to its maker's user, in place of a role
	For      string               `json:"for,omitempty"`    // name of the user that it makes; "": as he likes
	Limits                        // of the user that it makes
	By       uint64               `json:"by"`  // user who made it
	Key      identity.Fingerprint `json:"key"` // with this key
	Since    time.Time            `json:"since"`
	End      time.Time            `json:"end,omitzero"` // by the wall clock; zero: that was unknown
	Boot     string               `json:"boot,omitempty"`
	Up       int64                `json:"up,omitempty"` // seconds that the kernel of Boot has run when it ends
}

// Errors of invites.
var (
	ErrNoInvite = errors.New("no such invite")
	ErrInvites  = errors.New("too many open invites: withdraw one first")
	ErrExceeds  = errors.New("nobody can give more than he has: this role, end or hours go beyond your own")
)

// entryOfInvite is an invite in a list.
type entryOfInvite struct {
	*Invite
	sequence uint64
	bytes    int
}

func (i *Invite) clone() *Invite {
	c := *i
	c.Verifier = slices.Clone(i.Verifier)
	c.Limits = i.Limits.clone()
	return &c
}

// check refuses an invite that no change of ours could have made.
func (i *Invite) check() error {
	if b, err := hex.DecodeString(i.Name); err != nil || len(b) != inviteNameBytes || hex.EncodeToString(b) != i.Name {
		return fmt.Errorf("%w: %q", ErrNoInvite, i.Name)
	}
	switch {
	case len(i.Verifier) == 0 || len(i.Verifier) > maxVerifierBytes, i.By == 0, i.Key.IsZero(), len(i.Boot) > maxWord, i.Up < 0:
		return fmt.Errorf("invite %s: not as it was made", i.Name)
	case i.Myself && (i.Role != "" || i.For != "" || !i.Limits.Always()):
		return fmt.Errorf("invite %s: for the maker's own device, and more", i.Name)
	case !i.Myself && (!roleName(i.Role) || i.Role == RoleOwner):
		return ErrRole
	}
	if i.For != "" {
		if name, err := CheckName(i.For); err != nil || name != i.For {
			return &NameError{Why: "not as it was checked"}
		}
	}
	return i.Limits.check()
}

// refuses returns why the invite is not good now, or "".
func (i *Invite) refuses(c Clock) string {
	same := i.Boot != "" && i.Boot == c.Boot
	switch {
	case same && c.Up >= time.Duration(i.Up)*time.Second,
		!i.End.IsZero() && !c.Floor.Before(i.End),
		!i.End.IsZero() && c.Known && !c.Now.Before(i.End):
		return whyEnded
	case same:
		return ""
	case i.End.IsZero():
		return whyEnded // made in another run, and nothing to count by
	case !c.Known, c.Now.Before(i.Since):
		return whyClock
	}
	return ""
}

// addInvite puts i in while a list is being made.
func (l *list) addInvite(i *Invite, sequence uint64) error {
	if err := i.check(); err != nil {
		return err
	}
	if l.invites[i.Name].Invite != nil || len(l.invites) >= MaxInvites {
		return ErrInvites
	}
	plain, err := json.Marshal(i)
	if err != nil {
		return err
	}
	if len(plain) > maxInviteBytes {
		return ErrTooMany
	}
	l.invites[i.Name] = entryOfInvite{i, sequence, len(plain)}
	l.bytes += len(plain)
	return nil
}

func (l *list) dropInvite(name string) {
	l.bytes -= l.invites[name].bytes
	delete(l.invites, name)
}

// inviteBy does the part of a change that is about invites.
func (l *list) inviteBy(c change) error {
	for _, name := range c.ended {
		l.dropInvite(name)
	}
	if c.invite != nil {
		if err := l.addInvite(c.invite, l.Sequence); err != nil {
			return err
		}
	}
	l.sweepInvites()
	return nil
}

// sweepInvites drops those whose maker's key is not on the list any more.
func (l *list) sweepInvites() {
	for name, i := range l.invites {
		if u := l.byKey[i.Key]; u == nil || u.ID != i.By {
			l.dropInvite(name)
		}
	}
}

func (l *list) inviteNames() []string { return slices.Sorted(maps.Keys(l.invites)) }

// ended are the invites whose time is over.
func (l *list) ended(c Clock) (names []string) {
	for _, name := range l.inviteNames() {
		if l.invites[name].refuses(c) == whyEnded {
			names = append(names, name)
		}
	}
	return names
}
