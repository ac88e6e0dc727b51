package daemon

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/authority"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/internal/testca"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// What the owner says while somebody comes in counts for him as well.
func TestCertifiedWhileTheOwnerSpeaks(t *testing.T) {
	ca := testca.New(t, testca.Options{})
	chain := testca.DER(ca.Issue(testca.Options{Ext: testca.Named("email:alice@example.net")}))
	a, err := authority.New(authority.Options{Name: "company", CA: ca.Cert})
	if err != nil {
		t.Fatal(err)
	}
	for _, after := range []word{{role: acl.RoleGuest}, {blocked: true}} {
		g := newGuests(func(acl.Principal) bool { return false }, func(identity.Fingerprint) {})
		c := newCertified(slog.New(slog.DiscardHandler))
		c.clock = func() acl.Clock { return acl.Clock{Now: time.Now(), Known: true} }
		said := word{role: acl.RoleAdmin}
		c.given = func(string, identity.Fingerprint) word { return said }
		c.enter = func(who guest) (func(), error) {
			leave, err := g.enter(who)
			if said.role == acl.RoleAdmin {
				said = after
				c.recheck() // and he is not among those who are here yet
			}
			return leave, err
		}
		c.ending, c.set = g.dismiss, authority.NewSet(a)
		leave := c.vouch(session.Info{Number: 1, Peer: fingerprint(1), Chain: chain})
		var roles []string
		for _, p := range g.principals(fingerprint(1)) {
			roles = append(roles, p.Roles...)
		}
		if want := after.role; strings.Join(roles, " ") != want || (leave == nil) != after.blocked {
			t.Errorf("the owner says %+v, he has %q", after, roles)
		}
		if leave != nil {
			leave()
		}
		_ = c.close()
	}
}

// A certificate lets its holder in until its end, to the second; a clock that jumps or
// is lost is noticed within recheckEvery; and what has ended does not come back with
// the clock.
func TestCertifiedGuestsInVirtualTime(t *testing.T) {
	ca := testca.New(t, testca.Options{})
	begin := time.Now()
	short := testca.DER(ca.Issue(testca.Options{Ext: testca.Named("email:alice@example.net"), Until: begin.Add(2 * time.Hour)}))
	long := testca.DER(ca.Issue(testca.Options{Ext: testca.Named("email:alice@example.net"), Until: begin.AddDate(1, 0, 0)}))
	a, err := authority.New(authority.Options{Name: "company", CA: ca.Cert})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		start, jump, known, floor := time.Now(), time.Duration(0), true, time.Time{}
		var ended []identity.Fingerprint
		g := newGuests(func(acl.Principal) bool { return false }, func(f identity.Fingerprint) { ended = append(ended, f) })
		c := newCertified(slog.New(slog.DiscardHandler))
		var mu sync.Mutex // of those four
		c.clock = func() acl.Clock {
			mu.Lock()
			defer mu.Unlock()
			return acl.Clock{Now: begin.Add(time.Since(start) + jump), Known: known, Floor: floor}
		}
		c.enter, c.ending, c.given = g.enter, g.dismiss, func(string, identity.Fingerprint) word { return word{} }
		c.set, c.config = authority.NewSet(a), []config.Authority{{Name: "company", Role: acl.RoleViewer}}
		number := uint64(0)
		come := func(chain [][]byte) (f identity.Fingerprint, leave func()) {
			number++
			f = fingerprint(number)
			return f, c.vouch(session.Info{Number: number, Peer: f, Chain: chain})
		}
		here := func(what string, f identity.Fingerprint, want bool) {
			t.Helper()
			synctest.Wait()
			if g.has(f) != want {
				t.Errorf("%s: here %v, want %v", what, !want, want)
			}
		}

		f, leave := come(short)
		time.Sleep(2*time.Hour - 2*time.Second) // certificates end with a whole second
		here("before its end", f, true)
		time.Sleep(2 * time.Second)
		here("at its end", f, false)
		if len(ended) != 1 || c.before(f) {
			t.Errorf("%d ended; known again: %v", len(ended), c.before(f))
		}
		leave()
		if _, leave := come(short); leave != nil {
			t.Error("who has ended came in again")
		}

		for what, change := range map[string]func(){
			"ten years on":   func() { jump = 10 * 365 * 24 * time.Hour },
			"ten years back": func() { jump = -10 * 365 * 24 * time.Hour },
			"clock lost":     func() { known = false },
			"floor raised":   func() { floor = begin.AddDate(2, 0, 0) },
		} {
			f, leave := come(long)
			here(what+", before", f, true)
			mu.Lock()
			change()
			mu.Unlock()
			time.Sleep(recheckEvery)
			here(what, f, false)
			if _, in := come(long); in != nil {
				t.Errorf("%s: another session came in", what)
			}
			mu.Lock()
			jump, known, floor = 0, true, time.Time{}
			mu.Unlock()
			time.Sleep(2 * recheckEvery)
			here(what+", and back", f, false)
			leave()
		}

		f, leave = come(long)
		here("come again", f, true)
		if !c.before(f) {
			t.Error("not known again")
		}
		leave()
		here("left", f, false)
		if !c.before(f) {
			t.Error("not known again after he left")
		}
		for range 2 * maxRemindedKeys {
			_, leave := come(long)
			leave()
		}
		if n := len(c.reminded); n > maxRemindedKeys {
			t.Errorf("%d keys are known again", n)
		}
		if c.timer != nil {
			t.Error("a timer runs for nobody")
		}
	})
}
