package acl

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// good returns an invite that lets somebody in now, and its maker.
func (s *Store) good(l *list, name string, c Clock) (*Invite, *User, error) {
	i := l.invites[name].Invite
	if i == nil {
		return nil, nil, ErrNoInvite
	}
	if why := i.refuses(c); why != "" {
		return nil, nil, fmt.Errorf("%w: %s", ErrNoInvite, why)
	}
	maker := l.byKey[i.Key] // sweepInvites has seen to it that there is one
	if maker.refuses(c) == whyEnded {
		return nil, nil, fmt.Errorf("%w: its maker's time has ended", ErrNoInvite)
	}
	if !i.Myself && s.mayGive(maker, i) != nil {
		return nil, nil, fmt.Errorf("%w: its maker may not give this role any more", ErrNoInvite)
	}
	return i, maker, nil
}

// mayGive says whether a user could make this invite now.
func (s *Store) mayGive(maker *User, i *Invite) error {
	role := s.role(i.Role)
	switch {
	case role == nil:
		return fmt.Errorf("%w: %q", ErrRole, i.Role)
	case i.Role == RoleOwner:
		return ErrOwner
	}
	own := s.role(maker.Role)
	if own == nil || own.actions&ActionUsers.bit() == 0 || !own.includes(role) {
		return ErrExceeds
	}
	if !i.Within(maker.Limits) {
		return ErrExceeds
	}
	return nil
}

// Within reports whether l holds at no time at which outer does not. Weekly windows
// are not worked out: with any in outer, l has the same.
func (l Limits) Within(outer Limits) bool {
	if !outer.Until.IsZero() && (l.Until.IsZero() || l.Until.After(outer.Until)) {
		return false
	}
	return len(outer.Hours) == 0 || slices.EqualFunc(outer.Hours, l.Hours, sameWindow)
}

func sameWindow(a, b Window) bool {
	return a.From == b.From && a.To == b.To && slices.Equal(a.Days, b.Days)
}

// Invite keeps a new invite of the user who has the key by.Fingerprint, good for
// life, and returns it as it is kept. Name, Verifier, Role or Myself, For and Limits
// are the caller's; where his own time is limited, so is that of whom he
// invites. Errors: ErrNoUser, ErrRole, ErrOwner, ErrExceeds, ErrLimits,
// ErrInvites, *NameError, and those of every change.
func (s *Store) Invite(i Invite, life time.Duration, by By) (Invite, error) {
	var made *Invite
	err := s.run(by, func(l *list) (*step, error) {
		maker := l.byKey[by.Fingerprint]
		if maker == nil {
			return nil, ErrNoUser
		}
		made = i.clone()
		if made.For != "" {
			name, err := checkUserName(made.For)
			if err != nil {
				return nil, err
			}
			made.For = name
		}
		made.By, made.Key = maker.ID, by.Fingerprint
		clock := s.clock()
		made.count(clock, life)
		if !made.Myself {
			made.inherit(maker)
			if err := s.mayGive(maker, made); err != nil {
				return nil, err
			}
		}
		ended := l.ended(clock)
		if err := roomForInvite(l, maker, ended); err != nil {
			return nil, err
		}
		return &step{change: change{invite: made, ended: ended}, event: inviteEvent(WhatInvited, made, maker)}, nil
	})
	if err != nil {
		return Invite{}, err
	}
	return *made.clone(), nil
}

// count sets when the invite ends.
func (i *Invite) count(c Clock, life time.Duration) {
	i.Since, i.End = wallTime(c.Now), time.Time{}
	if c.Known {
		i.End = wallTime(c.Now.Add(life))
	}
	i.Boot, i.Up = c.Boot, int64((c.Up+life)/time.Second)
}

// inherit gives whom somebody invites his own limits where he says none.
func (i *Invite) inherit(maker *User) {
	if i.Until.IsZero() {
		i.Until = maker.Until
	}
	if len(i.Hours) == 0 {
		i.Hours = maker.Limits.clone().Hours
	}
}

func roomForInvite(l *list, maker *User, ended []string) error {
	all, his := 0, 0
	for name, i := range l.invites {
		if slices.Contains(ended, name) {
			continue
		}
		all++
		if i.By == maker.ID {
			his++
		}
	}
	if all >= MaxInvites || his >= MaxInvitesEach {
		return ErrInvites
	}
	return nil
}

func inviteEvent(what What, i *Invite, maker *User) Event {
	e := Event{What: what, User: i.For, Role: i.Role, Detail: "invite " + i.Name}
	if i.Myself {
		e.User = maker.Name
	}
	return e
}

// An OpenInvite is an invite with what it is now.
type OpenInvite struct {
	Invite
	Maker string // name of the user who made it
	Void  string // why it lets nobody in at the moment; "": it does
}

// Invites returns those that have not ended, by name.
func (s *Store) Invites() []OpenInvite {
	l, clock := s.current.Load(), s.clock()
	var all []OpenInvite
	for _, name := range l.inviteNames() {
		i := l.invites[name].Invite
		why := i.refuses(clock)
		if why == whyEnded {
			continue
		}
		o := OpenInvite{Invite: *i.clone(), Maker: l.byKey[i.Key].Name, Void: why}
		if _, _, err := s.good(l, name, clock); err != nil && why == "" {
			o.Void = err.Error()
		}
		all = append(all, o)
	}
	return all
}

// GoodInvite returns an invite that lets somebody in now. It reads memory only.
func (s *Store) GoodInvite(name string) (Invite, bool) {
	l := s.current.Load()
	if l.invites[name].Invite == nil {
		return Invite{}, false
	}
	i, _, err := s.good(l, name, s.clock())
	if err != nil {
		return Invite{}, false
	}
	return *i.clone(), true
}

// HasInvites reports whether some invite lets somebody in now.
func (s *Store) HasInvites() bool {
	l := s.current.Load()
	if len(l.invites) == 0 {
		return false
	}
	clock := s.clock()
	for name := range l.invites {
		if _, _, err := s.good(l, name, clock); err == nil {
			return true
		}
	}
	return false
}

// Redeem enters a newcomer by an invite and ends the invite, in one change. Its
// role and limits are the invite's, whatever the Newcomer has, and so is its name
// where the invite says one. by names the maker in the log. Errors: ErrNoInvite,
// ErrKeyTaken, *NameError, *NameTakenError, ErrFull, ErrTooMany, ErrNoOwner (nobody
// has paired yet), ErrCentral (a key for a user of the vendor's list), and those of
// every change; the invite stays then.
func (s *Store) Redeem(name string, n Newcomer, by By) (User, error) {
	var entered *User
	err := s.run(by, func(l *list) (*step, error) {
		i, maker, err := s.good(l, name, s.clock())
		if err != nil {
			return nil, err
		}
		if l.byKey[n.Fingerprint] != nil {
			return nil, ErrKeyTaken
		}
		what := WhatPaired
		if i.Myself {
			what = WhatKeyAdded
			entered, err = s.oneKeyMore(maker, n)
		} else if l.local() == 0 {
			err = ErrNoOwner // else somebody of the vendor's list could make one from afar
		} else {
			n.Role, n.Limits = i.Role, i.Limits
			if i.For != "" {
				n.User = i.For
			}
			entered, err = s.newUser(l, n)
		}
		if err != nil {
			return nil, err
		}
		e := about(what, entered, n.Fingerprint)
		e.Detail = "invite " + name + " of " + maker.Name
		return &step{change: change{put: entered, ended: []string{name}}, event: e}, nil
	})
	if err != nil {
		return User{}, err
	}
	return *entered.clone(), nil
}

func (s *Store) oneKeyMore(maker *User, n Newcomer) (*User, error) {
	if n.Fingerprint.IsZero() {
		return nil, identity.ErrNotFingerprint
	}
	if maker.Central {
		return nil, ErrCentral
	}
	if len(maker.Keys) >= MaxKeys {
		return nil, ErrTooMany
	}
	key, err := s.newKey(n.Fingerprint, n.KeyName)
	if err != nil {
		return nil, err
	}
	u := maker.clone()
	u.Keys = append(u.Keys, key)
	return u, nil
}

// Uninvite withdraws an invite: ErrNoInvite. It works on a full disk.
func (s *Store) Uninvite(name string, by By) error {
	return s.run(by, func(l *list) (*step, error) {
		i := l.invites[name].Invite
		if i == nil {
			return nil, ErrNoInvite
		}
		return &step{change: change{ended: []string{name}}, event: inviteEvent(WhatUninvited, i, l.byKey[i.Key]), takes: true}, nil
	})
}

// EndInvites drops the invites whose time is over from the disk too, so that no
// later clock brings them back, and says when to call it again; 0: none is open.
func (s *Store) EndInvites() (next time.Duration, err error) {
	err = s.run(By{Via: "time"}, func(l *list) (*step, error) {
		ended := l.ended(s.clock())
		if len(ended) == 0 {
			return nil, nil
		}
		return &step{change: change{ended: ended}, event: Event{What: WhatInviteEnded, Times: uint64(len(ended))}, takes: true}, nil
	})
	clock := s.clock()
	for _, i := range s.current.Load().invites {
		left := i.left(clock)
		if next == 0 || left < next {
			next = left
		}
	}
	return next, err
}

// left is how long the invite is still good, at least a second, so that nobody who
// waits for it turns in circles.
func (i *Invite) left(c Clock) time.Duration {
	left := time.Hour
	if i.Boot != "" && i.Boot == c.Boot {
		left = min(left, time.Duration(i.Up)*time.Second-c.Up)
	}
	if c.Known && !i.End.IsZero() {
		left = min(left, i.End.Sub(c.Now))
	}
	return max(left, time.Second)
}
