package daemon

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/authority"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

const (
	// maxRemindedKeys of certified users are known again when they ask to be
	// introduced; the one whose certificate ends first is forgotten.
	maxRemindedKeys = 256
	// recheckEvery is how soon a jump of the clock is noticed where somebody is here
	// by a certificate. Its ordinary end is a timer of its own.
	recheckEvery = 30 * time.Second
	// maxRefusedShown are shown in the status: who came with a certificate of ours and
	// was not let in, so that the owner can see to whom he might give a role.
	maxRefusedShown = 8
)

// certified is the daemon's side of certificate authorities: whose word is taken,
// and who is here by it. A certificate makes its holder a guest as long as his
// session lives, the certificate holds and he has a role; else it is as if he had
// not shown it. What is known of a key on the list is not touched by any of that.
//
// Lock order: certified.mu is held for no call to another room.
type certified struct {
	log    *slog.Logger
	clock  func() acl.Clock
	enter  func(guest) (leave func(), err error)
	ending func(func(acl.Principal) bool) int             // guests.dismiss
	given  func(id string, key identity.Fingerprint) word // what the owner said

	checking sync.Mutex // held by recheck; taken before mu

	mu       sync.Mutex
	set      *authority.Set
	config   []config.Authority
	faults   []string // authorities that are configured and not in force, in words
	live     map[*holder]bool
	timer    *time.Timer // of recheck; armed while live has somebody
	reminded map[identity.Fingerprint]reminder
	refused  []control.Refused
	pace     *complaints
}

// A holder is a session whose certificate holds. Person and role are guarded by
// certified.mu.
type holder struct {
	peer   identity.Fingerprint
	chain  [][]byte
	person authority.Person
	role   string
	leave  func()
}

// A word is what the owner has said about a certified user: a role, or that he
// stays out. The zero value is that nothing was said.
type word struct {
	role    string
	blocked bool
}

// A reminder is of a key that was certified, until the certificate's end on the
// monotonic clock.
type reminder struct {
	id    string
	until time.Time
}

func newCertified(log *slog.Logger) *certified {
	return &certified{log: log, live: map[*holder]bool{}, reminded: map[identity.Fingerprint]reminder{}, pace: newComplaints(log)}
}

func (c *certified) now() authority.Clock {
	clock := c.clock()
	return authority.Clock{Now: clock.Now, Known: clock.Known, Floor: clock.Floor}
}

// vouch is session.Config.Vouch.
func (c *certified) vouch(s session.Info) (leave func()) {
	for {
		h, set, err := c.judge(s)
		if err != nil {
			c.refuse(s, h, err)
			return nil
		}
		if h == nil {
			return nil
		}
		c.mu.Lock()
		same := c.set == set // else the files were read again meanwhile, and who is in live was looked at
		if same {
			c.live[h] = true
			c.remindLocked(h)
			c.armLocked()
			c.log.Info("certified", "user", h.person.ID, "authority", h.person.Authority, "role", h.role, "peer", h.peer.Short(), "until", h.person.Until)
		}
		person, entered := h.person, h.role
		c.mu.Unlock()
		if !same {
			h.leave()
			continue
		}
		if role, err := c.roleOf(person, h.peer); err == nil && role == entered {
			return func() { c.left(h) }
		}
		c.left(h) // the owner has said another thing, before recheck could find h
	}
}

// errNoRole is why somebody whose certificate holds is nobody all the same.
var errNoRole = errors.New("nobody has given a role")

// judge finds out whom a session's chain names and lets him in. Nobody and no error
// is a device without authorities. With an error, holder may say who it was.
func (c *certified) judge(s session.Info) (*holder, *authority.Set, error) {
	c.mu.Lock()
	set := c.set
	c.mu.Unlock()
	if set.Empty() {
		return nil, set, nil
	}
	clock := c.now()
	person, err := set.Check(s.Chain, clock)
	if err != nil {
		return nil, set, err
	}
	h := &holder{peer: s.Peer, chain: s.Chain, person: person}
	if h.role, err = c.roleOf(person, s.Peer); err != nil {
		return h, set, err
	}
	h.leave, err = c.enter(h.guest(clock))
	return h, set, err
}

// guest is what a holder is to the rest of the daemon.
func (h *holder) guest(clock authority.Clock) guest {
	return guest{
		principal:   acl.Principal{Kind: acl.KindAuthority, Name: h.person.ID, Roles: []string{h.role}},
		fingerprint: h.peer,
		until:       time.Now().Add(h.person.Until.Sub(clock.Now)), // from here on the monotonic clock counts
		info:        "certified by " + h.person.Authority,
	}
}

// roleOf says what role somebody has: the owner's word before the configuration's.
func (c *certified) roleOf(p authority.Person, key identity.Fingerprint) (string, error) {
	switch w := c.given(p.ID, key); {
	case w.blocked:
		return "", errBlocked
	case w.role != "":
		return w.role, nil
	}
	role := ""
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.config {
		if a.Name == p.Authority {
			role = a.RoleOf(p.ID)
		}
	}
	if role == "" {
		return "", errNoRole
	}
	return role, nil
}

// refuse notes that a certificate was worth nothing. Who showed it is told nothing:
// his session is that of the bare key.
func (c *certified) refuse(s session.Info, h *holder, err error) {
	if h == nil {
		c.pace.say("certificate refused", "peer", s.Peer.Short(), "remote", s.Remote.String(), "error", err)
		return
	}
	c.pace.say("certified, but not let in", "user", h.person.ID, "authority", h.person.Authority, "peer", s.Peer.Short(), "why", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = slices.DeleteFunc(c.refused, func(r control.Refused) bool { return r.ID == h.person.ID })
	c.refused = append(c.refused, control.Refused{ID: h.person.ID, Authority: h.person.Authority, Why: err.Error()})
	c.refused = c.refused[max(0, len(c.refused)-maxRefusedShown):]
}

// left takes a holder whose session has ended off the books.
func (c *certified) left(h *holder) {
	c.mu.Lock()
	delete(c.live, h)
	if len(c.live) == 0 && c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	leave := h.leave
	c.mu.Unlock()
	leave()
}

func (c *certified) armLocked() {
	if c.timer == nil {
		c.timer = time.AfterFunc(recheckEvery, c.tick)
	}
}

func (c *certified) tick() {
	c.recheck()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = nil
	if len(c.live) > 0 {
		c.armLocked()
	}
}

// close stops the timer.
func (c *certified) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live = map[*holder]bool{}
	if c.timer != nil {
		c.timer.Stop()
	}
	return nil
}

// holders are those who are here now.
func (c *certified) holders() (all []*holder, set *authority.Set) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for h := range c.live {
		all = append(all, h)
	}
	return all, c.set
}

// recheck looks at everybody who is here again: the clock, the files or the roles
// may be others now. Who does not hold any more is gone when it returns, with all
// that he had open.
func (c *certified) recheck() {
	c.checking.Lock() // one that read the owner's word before a change does not undo the one after it
	defer c.checking.Unlock()
	all, set := c.holders()
	clock := c.now()
	for _, h := range all {
		person, err := set.Check(h.chain, clock)
		role := ""
		if err == nil {
			role, err = c.roleOf(person, h.peer)
		}
		c.mu.Lock()
		_, here := c.live[h]
		before := h.person.ID // person is nobody where the certificate holds no more
		changed := h.role != role || h.person != person
		if err != nil {
			delete(c.live, h)
			delete(c.reminded, h.peer)
		} else {
			h.role, h.person = role, person
		}
		c.mu.Unlock()
		switch {
		case !here:
		case err != nil:
			c.log.Info("no longer certified", "user", before, "peer", h.peer.Short(), "why", err)
			c.end(h)
		case changed:
			c.renew(h, clock)
		}
	}
}

// renew has a holder enter once more: the last word about roles counts.
func (c *certified) renew(h *holder, clock authority.Clock) {
	c.mu.Lock()
	who := h.guest(clock)
	c.mu.Unlock()
	next, err := c.enter(who)
	if err != nil {
		c.end(h)
		return
	}
	c.mu.Lock()
	here, before := c.live[h], h.leave
	if here {
		h.leave = func() { before(); next() }
	}
	c.mu.Unlock()
	if !here {
		next() // his session has ended meanwhile
	}
}

// end has a guest leave, whoever holds the door for him.
func (c *certified) end(h *holder) {
	c.ending(func(p acl.Principal) bool {
		return p.Kind == acl.KindAuthority && p.Fingerprint == h.peer
	})
}

func (c *certified) remindLocked(h *holder) {
	if _, there := c.reminded[h.peer]; !there && len(c.reminded) >= maxRemindedKeys {
		var first identity.Fingerprint
		for f, r := range c.reminded {
			if first.IsZero() || r.until.Before(c.reminded[first].until) {
				first = f
			}
		}
		delete(c.reminded, first)
	}
	c.reminded[h.peer] = reminder{id: h.person.ID, until: h.guest(c.now()).until}
}

// before reports whether the holder of a key was here by a certificate that would
// still hold, so that he need not wait among strangers.
func (c *certified) before(f identity.Fingerprint) bool {
	c.mu.Lock()
	r, ok := c.reminded[f]
	c.mu.Unlock()
	return ok && time.Now().Before(r.until) && !c.given(r.id, f).blocked
}

// any reports whether somebody who is not known could come with a certificate.
func (c *certified) any() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.set.Empty()
}
