package daemon

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// maxGuests bounds who may be here without being on the list: a household with
// certified keys and a hotline are a handful, and a decision looks through all.
const maxGuests = 64

// errTooManyGuests means that maxGuests are here.
var errTooManyGuests = errors.New("too many are here who are not on the list")

// errBlocked means that the owner has revoked the key or blocked the name.
var errBlocked = errors.New("the owner does not let him in")

// A guest is somebody who may enter for a while without being on the list: the
// holder of a support code, a user whom an authority or the vendor vouches for.
// Whoever lets him in has checked that, and says what he is.
type guest struct {
	principal   acl.Principal // its Fingerprint is set by enter
	fingerprint identity.Fingerprint
	until       time.Time // on the monotonic clock; zero: until he leaves
	info        string    // for the status: what let him in
}

// guests are those who are here. They may enter by several doors at once (two
// sessions with one certificate): such a guest is one, and stays until the last
// of them is left, or until his time is up.
type guests struct {
	blocked func(acl.Principal) bool
	ended   func(identity.Fingerprint) // told after a guest has gone, without locks held
	now     func() time.Time

	mu  sync.Mutex
	all []*stay
}

// A stay is a guest with those who hold the door open for him. Guarded by guests.mu.
type stay struct {
	guest
	holders int
	timer   *time.Timer // nil without an end
	over    bool
}

func newGuests(blocked func(acl.Principal) bool, ended func(identity.Fingerprint)) *guests {
	return &guests{blocked: blocked, ended: ended, now: time.Now}
}

// enter lets a guest in. leave takes that back and may be called again, after his
// time too. Who is here already, by fingerprint, kind and name, stays as long as the
// longer of the two says, and has the roles that were given last; with a role that he did
// not have before, as long as that was given for. Errors: errBlocked,
// errTooManyGuests.
func (g *guests) enter(who guest) (leave func(), err error) {
	who.principal.Fingerprint = who.fingerprint
	who.principal.Roles = slices.Clone(who.principal.Roles)
	g.mu.Lock()
	if g.blocked(who.principal) { // under mu: who is blocked from here on is dismissed
		g.mu.Unlock()
		return nil, errBlocked
	}
	s, less := g.stayLocked(who)
	if s != nil {
		s.holders++
		g.scheduleLocked(s)
	}
	g.mu.Unlock()
	if s == nil {
		return nil, errTooManyGuests
	}
	if less {
		g.ended(who.fingerprint) // what lives by the roles that are gone
	}
	return sync.OnceFunc(func() { g.left(s) }), nil
}

// stayLocked is the stay of a guest, a new one if need be, nil when the house is
// full. less means that he may do less than before.
func (g *guests) stayLocked(who guest) (s *stay, less bool) {
	for _, s := range g.all {
		if !s.is(who.fingerprint, who.principal.Kind, who.principal.Name) {
			continue
		}
		until := s.until
		switch more := slices.ContainsFunc(who.principal.Roles, func(r string) bool { return !slices.Contains(s.principal.Roles, r) }); {
		case more: // nobody has given those roles for longer
			until = who.until
		case until.IsZero() || who.until.IsZero():
			until = time.Time{}
		case who.until.After(until):
			until = who.until
		}
		less = slices.ContainsFunc(s.principal.Roles, func(r string) bool { return !slices.Contains(who.principal.Roles, r) })
		s.guest, s.until = who, until
		return s, less
	}
	if len(g.all) >= maxGuests {
		return nil, false
	}
	s = &stay{guest: who}
	g.all = append(g.all, s)
	return s, false
}

func (s *stay) is(f identity.Fingerprint, kind acl.Kind, name string) bool {
	return s.fingerprint == f && s.principal.Kind == kind && s.principal.Name == name
}

func (g *guests) scheduleLocked(s *stay) {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if !s.until.IsZero() {
		s.timer = time.AfterFunc(s.until.Sub(g.now()), func() { g.expire(s) })
	}
}

// expire ends a stay whose time is up.
func (g *guests) expire(s *stay) {
	g.mu.Lock()
	over := !s.until.IsZero() && !g.now().Before(s.until) && g.removeLocked(s)
	g.mu.Unlock()
	if over {
		g.ended(s.fingerprint)
	}
}

func (g *guests) left(s *stay) {
	g.mu.Lock()
	s.holders--
	over := s.holders == 0 && g.removeLocked(s)
	g.mu.Unlock()
	if over {
		g.ended(s.fingerprint)
	}
}

// removeLocked reports whether the stay was not over before.
func (g *guests) removeLocked(s *stay) bool {
	if s.over {
		return false
	}
	s.over = true
	if s.timer != nil {
		s.timer.Stop()
	}
	g.all = slices.DeleteFunc(g.all, func(other *stay) bool { return other == s })
	return true
}

// dismiss ends the stays that match picks, whoever holds the door, and says how
// many they were.
func (g *guests) dismiss(match func(acl.Principal) bool) int {
	g.mu.Lock()
	var gone []*stay
	for _, s := range slices.Clone(g.all) {
		if match(s.principal) && g.removeLocked(s) {
			gone = append(gone, s)
		}
	}
	g.mu.Unlock()
	for _, s := range gone {
		g.ended(s.fingerprint)
	}
	return len(gone)
}

// principals are what the holder of a key may act as, besides what the list says
// of him, in the order in which he entered. The zero guests have nobody.
func (g *guests) principals(f identity.Fingerprint) []acl.Principal {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []acl.Principal
	for _, s := range g.all {
		if s.fingerprint == f && g.hereLocked(s) {
			out = append(out, s.principal)
		}
	}
	return out
}

// of are the stays of the holder of a key.
func (g *guests) of(f identity.Fingerprint) []guest {
	return slices.DeleteFunc(g.list(), func(one guest) bool { return one.fingerprint != f })
}

// has reports whether the holder of a key is here.
func (g *guests) has(f identity.Fingerprint) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.all, func(s *stay) bool { return s.fingerprint == f && g.hereLocked(s) })
}

func (g *guests) hereLocked(s *stay) bool { return s.until.IsZero() || g.now().Before(s.until) }

// list tells who is here, in the order in which they entered.
func (g *guests) list() []guest {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]guest, 0, len(g.all))
	for _, s := range g.all {
		if g.hereLocked(s) {
			out = append(out, s.guest)
		}
	}
	return out
}

// close ends all timers; nobody is told. The device stops.
func (g *guests) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.all) > 0 {
		g.removeLocked(g.all[0])
	}
	return nil
}

// guestEnded ends what a guest had open, unless his key is on the list: such a
// one keeps his sessions, and loses the streams that only the guest could have.
func (d *Daemon) guestEnded(f identity.Fingerprint) {
	d.support.guestGone(f)
	if d.store.Known(f) {
		d.recheck(f)
		return
	}
	d.station.dismiss([]identity.Fingerprint{f})
	his := func(s session.Info) bool { return s.Peer == f }
	if slices.ContainsFunc(d.server.Sessions(), his) { // who leaves by himself has none, and costs nobody his resumption ticket
		d.server.CloseSessions(his)
	}
}

// cutGuests ends the stay of whoever goes by a name that was blocked.
func (d *Daemon) cutGuests(kind acl.Kind, _ string) {
	d.guests.dismiss(func(p acl.Principal) bool { return p.Kind == kind && d.store.IsBlocked(p) })
}

// known reports whether the holder of a key is more than a stranger: he is on the
// list, or a guest.
func (d *Daemon) known(f identity.Fingerprint) bool { return d.store.Known(f) || d.guests.has(f) }

// principalsOf are what the holder of a key may act as: his entry on the list
// before what he is as a guest. None: a stranger.
func (d *Daemon) principalsOf(f identity.Fingerprint) []acl.Principal {
	guests := d.guests.principals(f)
	if !d.store.Known(f) {
		return guests
	}
	return append([]acl.Principal{{Kind: acl.KindKey, Fingerprint: f}}, guests...)
}

// nameOf says who holds a key: the user, else what he is as a guest, else "".
func (d *Daemon) nameOf(f identity.Fingerprint) string {
	if u, listed := d.store.UserOf(f); listed {
		return u.Name
	}
	if guests := d.guests.principals(f); len(guests) > 0 {
		return guests[0].String()
	}
	return ""
}
