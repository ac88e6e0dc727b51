package acl

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// testInvite is the n-th invented invite for a role.
func testInvite(n int, role string) Invite {
	return Invite{
		Name: hex.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(n))), Verifier: []byte("verifier of an invite, 32 bytes."), Role: role,
	}
}

// A testClock is a clock that tests set.
type testClock struct {
	mu sync.Mutex
	c  Clock
}

func (c *testClock) now() Clock {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.c
}

func (c *testClock) set(change func(*Clock)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.c)
}

var someDay = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newInviting is a store with Alice, its owner, and a clock that tests set.
func newInviting(t testing.TB) (*bench, *testClock) {
	b := newBench(t)
	clock := &testClock{c: Clock{Now: someDay, Known: true, Boot: "first", Up: time.Hour}}
	b.opts.Clock = clock.now
	b.reopen()
	b.enter(1, "Alice", "")
	return b, clock
}

func (b *bench) invite(i Invite, by By) Invite {
	b.t.Helper()
	made, err := b.Invite(i, 24*time.Hour, by)
	if err != nil {
		b.t.Fatal(err)
	}
	return made
}

func (b *bench) redeem(name string, n int, user string) (User, error) {
	return b.Redeem(name, Newcomer{Fingerprint: fp(n), User: user, KeyName: "phone", Role: RoleOwner}, testBy)
}

func TestInviteLetsOneIn(t *testing.T) {
	b, _ := newInviting(t)
	i := testInvite(1, RoleViewer)
	i.Until = someDay.Add(48 * time.Hour)
	i.Hours = []Window{{Days: []time.Weekday{1, 2}, From: 480, To: 1080}}
	made := b.invite(i, testBy)
	if made.End != someDay.Add(24*time.Hour) || made.Up != 25*3600 || made.By != 1 || made.Key != fp(1) {
		t.Fatalf("%+v", made)
	}
	b.reopen()
	open := b.Invites()
	if len(open) != 1 || !reflect.DeepEqual(open[0], OpenInvite{Invite: made, Maker: "Alice"}) {
		t.Fatalf("after a restart: %+v", open)
	}
	u, err := b.redeem(made.Name, 2, "Bob")
	if err != nil || u.Role != RoleViewer || u.Name != "Bob" || !u.Until.Equal(i.Until) || len(u.Hours) != 1 {
		t.Fatalf("%+v, %v", u, err)
	}
	_, err = b.redeem(made.Name, 3, "Carol")
	want(t, err, ErrNoInvite)
	b.reopen()
	_, err = b.redeem(made.Name, 3, "Carol")
	want(t, err, ErrNoInvite)
	if len(b.Users()) != 2 || len(b.Invites()) != 0 || b.HasInvites() {
		t.Fatalf("%+v", b.Users())
	}
	b.sound()
}

func TestInviteNamesTheUser(t *testing.T) {
	b, _ := newInviting(t)
	i := testInvite(1, RoleGuest)
	i.For = "Bob"
	b.invite(i, testBy)
	u, err := b.redeem(i.Name, 2, "Alice 2")
	if err != nil || u.Name != "Bob" || u.Role != RoleGuest {
		t.Fatalf("%+v, %v", u, err)
	}
}

func TestInviteAddsAKeyToItsMaker(t *testing.T) {
	b, _ := newInviting(t)
	b.enter(2, "Bob", RoleGuest)
	bob := By{User: "Bob", Fingerprint: fp(2)}
	i := testInvite(1, "")
	i.Myself = true
	b.invite(i, bob)
	if _, err := b.redeem(i.Name, 1, ""); !errors.Is(err, ErrKeyTaken) {
		t.Fatalf("by a key of somebody else: %v", err)
	}
	u, err := b.redeem(i.Name, 22, "whoever")
	if err != nil || u.Name != "Bob" || len(u.Keys) != 2 || u.Keys[1].Fingerprint != fp(22) || u.Role != RoleGuest {
		t.Fatalf("%+v, %v", u, err)
	}
	_, err = b.redeem(i.Name, 23, "")
	want(t, err, ErrNoInvite)
	// A guest may not invite others.
	_, err = b.Invite(testInvite(2, RoleGuest), time.Hour, bob)
	want(t, err, ErrExceeds)
}

// Nobody gives what he has not: not a larger role, nor a longer time.
func TestInvitesStayWithinTheirMaker(t *testing.T) {
	b, _ := newInviting(t)
	b.opts.Roles = []Role{{Name: "porter", Actions: []Action{ActionMe, ActionUsers, ActionDevice}}, {Name: "lodger", Actions: []Action{ActionMe}}}
	b.reopen()
	b.enter(2, "Bob", RoleAdmin)
	b.enter(3, "Carol", "porter")
	b.enter(4, "Dave", RoleViewer)
	end := someDay.Add(time.Hour)
	hours := []Window{{Days: []time.Weekday{0}, From: 0, To: 1440}}
	b.enter(5, "Eve", RoleAdmin)
	if _, err := b.SetLimits("Eve", Limits{Until: end, Hours: hours}, testBy); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range []struct {
		maker  int
		role   string
		limits Limits
		err    error
	}{
		{1, RoleAdmin, Limits{}, nil}, {1, RoleOwner, Limits{}, ErrRole}, {1, "emperor", Limits{}, ErrRole}, {1, "", Limits{}, ErrRole},
		{2, RoleAdmin, Limits{}, nil}, {2, RoleViewer, Limits{}, nil}, {2, RoleOwner, Limits{}, ErrOwner},
		{3, "lodger", Limits{}, nil}, {3, "porter", Limits{}, nil}, {3, RoleViewer, Limits{}, ErrExceeds}, {3, RoleAdmin, Limits{}, ErrExceeds},
		{4, RoleViewer, Limits{}, ErrExceeds}, {4, RoleGuest, Limits{}, ErrExceeds},
		{5, RoleViewer, Limits{}, nil}, {5, RoleViewer, Limits{Until: end.Add(1)}, ErrExceeds}, {5, RoleViewer, Limits{Until: end.Add(-1), Hours: hours}, nil},
		{5, RoleViewer, Limits{Hours: []Window{{Days: []time.Weekday{1}, From: 0, To: 1440}}}, ErrExceeds},
		{1, RoleViewer, Limits{Hours: make([]Window, 8)}, ErrLimits},
		{9, RoleViewer, Limits{}, ErrNoUser},
	} {
		n++
		i := testInvite(n, c.role)
		i.Limits = c.limits
		made, err := b.Invite(i, time.Hour, By{Fingerprint: fp(c.maker)})
		if (err == nil) != (c.err == nil) || c.err != nil && !errors.Is(err, c.err) && !(errors.Is(c.err, ErrRole) && errors.Is(err, ErrOwner)) {
			t.Errorf("maker %d gives %q %+v: %v, want %v", c.maker, c.role, c.limits, err, c.err)
		}
		if err == nil && c.maker == 5 && (!made.Until.Before(end.Add(1)) || len(made.Hours) != 1) {
			t.Errorf("Eve's guest has more time than Eve: %+v", made.Limits)
		}
	}
}

// What its maker loses, the invite loses.
func TestInvitesEndWithTheirMaker(t *testing.T) {
	for name, c := range map[string]struct {
		lose func(*bench) error
		gone bool // else it stays and is not good
	}{
		"the user is revoked":   {func(b *bench) error { _, err := b.Revoke("Bob", testBy); return err }, true},
		"the key is revoked":    {func(b *bench) error { _, err := b.Revoke(fp(2).String(), testBy); return err }, true},
		"the key is removed":    {func(b *bench) error { return b.RemoveKey(fp(2), testBy) }, true},
		"the role is smaller":   {func(b *bench) error { _, err := b.SetRole("Bob", RoleViewer, testBy); return err }, false},
		"the user's time ended": {func(b *bench) error { _, err := b.SetLimits("Bob", Limits{Until: someDay}, testBy); return err }, false},
		"it is withdrawn":       {func(b *bench) error { return b.Uninvite(testInvite(1, "").Name, testBy) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := newInviting(t)
			b.enter(2, "Bob", RoleAdmin)
			if _, err := b.AddKey("Bob", fp(22), "laptop", testBy); err != nil {
				t.Fatal(err)
			}
			i := b.invite(testInvite(1, RoleViewer), By{Fingerprint: fp(2)})
			other := b.invite(testInvite(2, RoleViewer), testBy)
			if err := c.lose(b); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, good := b.GoodInvite(i.Name); good {
					t.Fatal("it is good")
				}
				_, err := b.redeem(i.Name, 3, "Carol")
				want(t, err, ErrNoInvite)
				if _, good := b.GoodInvite(other.Name); !good {
					t.Fatal("the other one is gone as well")
				}
				if open := b.Invites(); (len(open) == 1) != c.gone || !c.gone && open[0].Void == "" {
					t.Fatalf("%+v", open)
				}
				b.reopen()
			}
			b.sound()
		})
	}
}

// No clock, and no restart, brings back what has ended.
func TestInvitesAndTheClock(t *testing.T) {
	const good, refused, ended = 0, 1, 2
	boot := func(c *Clock) { c.Boot, c.Up = "second", time.Minute }
	for name, c := range map[string]struct {
		made, now func(*Clock)
		want      int
	}{
		"at once":                               {nil, func(c *Clock) {}, good},
		"a day later":                           {nil, func(c *Clock) { c.Up += 24 * time.Hour; c.Now = c.Now.Add(24 * time.Hour) }, ended},
		"a second before":                       {nil, func(c *Clock) { c.Up += 24*time.Hour - time.Second; c.Now = c.Now.Add(24*time.Hour - time.Second) }, good},
		"the clock goes back ten years":         {nil, func(c *Clock) { c.Now = c.Now.AddDate(-10, 0, 0) }, good}, // counted by this run
		"and a day passes":                      {nil, func(c *Clock) { c.Now = c.Now.AddDate(-10, 0, 0); c.Up += 24 * time.Hour }, ended},
		"the clock goes on ten years":           {nil, func(c *Clock) { c.Now = c.Now.AddDate(10, 0, 0) }, ended},
		"the clock is not known any more":       {nil, func(c *Clock) { c.Known = false; c.Now = time.Unix(0, 0) }, good},
		"unknown, and a day passes":             {nil, func(c *Clock) { c.Known = false; c.Now = time.Unix(0, 0); c.Up += 24 * time.Hour }, ended},
		"the floor is beyond":                   {nil, func(c *Clock) { c.Known = false; c.Floor = someDay.Add(24 * time.Hour) }, ended},
		"another run, the clock is known":       {nil, boot, good},
		"another run, a day later":              {nil, func(c *Clock) { boot(c); c.Now = c.Now.Add(24 * time.Hour) }, ended},
		"another run, no clock":                 {nil, func(c *Clock) { boot(c); c.Known = false }, refused},
		"another run, in 1970":                  {nil, func(c *Clock) { boot(c); c.Known = false; c.Now = time.Unix(0, 0) }, refused},
		"another run, told a time before":       {nil, func(c *Clock) { boot(c); c.Now = someDay.Add(-time.Second) }, refused},
		"another run, no clock, floor beyond":   {nil, func(c *Clock) { boot(c); c.Known = false; c.Floor = someDay.AddDate(0, 0, 1) }, ended},
		"made without a clock":                  {func(c *Clock) { c.Known = false }, func(c *Clock) {}, good},
		"made without, and a day passes":        {func(c *Clock) { c.Known = false }, func(c *Clock) { c.Up += 24 * time.Hour }, ended},
		"made without, known now":               {func(c *Clock) { c.Known = false }, func(c *Clock) { c.Known = true; c.Now = c.Now.AddDate(50, 0, 0) }, good},
		"made without, another run":             {func(c *Clock) { c.Known = false }, func(c *Clock) { boot(c); c.Known = true }, ended},
		"made without a clock and without runs": {func(c *Clock) { c.Known = false; c.Boot = "" }, func(c *Clock) {}, ended},
	} {
		t.Run(name, func(t *testing.T) {
			b, clock := newInviting(t)
			if c.made != nil {
				clock.set(c.made)
			}
			i := b.invite(testInvite(1, RoleViewer), testBy)
			clock.set(c.now)
			b.reopen()
			before := clock.now()
			_, is := b.GoodInvite(i.Name)
			listed := len(b.Invites())
			if is != (c.want == good) || listed != map[bool]int{true: 0, false: 1}[c.want == ended] {
				t.Fatalf("good %v, listed %d", is, listed)
			}
			if _, err := b.EndInvites(); err != nil {
				t.Fatal(err)
			}
			// Whatever the clock says from now on: what has ended stays so.
			clock.set(func(c *Clock) { *c = Clock{Now: someDay, Known: true, Boot: "first", Up: time.Hour} })
			b.reopen()
			if _, is := b.GoodInvite(i.Name); is == (c.want == ended) {
				t.Fatalf("with the clock of its making it is good: %v", is)
			}
			clock.set(func(c *Clock) { *c = before })
			if _, err := b.redeem(i.Name, 2, "Bob"); (err == nil) != (c.want == good) {
				t.Fatalf("redeemed: %v", err)
			}
			b.sound()
		})
	}
}

func TestInvitesAreBounded(t *testing.T) {
	b, clock := newInviting(t)
	n := 0
	for user := 2; user <= MaxInvites/MaxInvitesEach+1; user++ {
		b.enter(user, "Admin "+strings.Repeat("x", user), RoleAdmin)
		for range MaxInvitesEach {
			n++
			b.invite(testInvite(n, RoleViewer), By{Fingerprint: fp(user)})
		}
		_, err := b.Invite(testInvite(n+1, RoleViewer), time.Hour, By{Fingerprint: fp(user)})
		want(t, err, ErrInvites)
	}
	_, err := b.Invite(testInvite(n+1, RoleViewer), time.Hour, testBy)
	want(t, err, ErrInvites)
	// Those that have ended make room.
	clock.set(func(c *Clock) { c.Up += 24 * time.Hour })
	b.invite(testInvite(n+1, RoleViewer), testBy)
	if open := b.Invites(); len(open) != 1 || len(b.current.Load().invites) != 1 {
		t.Fatalf("%d open, %d kept", len(open), len(b.current.Load().invites))
	}
	b.sound()
}

func TestRedeemedAtOnce(t *testing.T) {
	b, _ := newInviting(t)
	i := b.invite(testInvite(1, RoleViewer), testBy)
	var running sync.WaitGroup
	results := make([]error, 16)
	for n := range results {
		running.Go(func() { _, results[n] = b.redeem(i.Name, 10+n, "Guest "+strings.Repeat("x", n+1)) })
	}
	running.Wait()
	in := 0
	for _, err := range results {
		if err == nil {
			in++
		} else if !errors.Is(err, ErrNoInvite) {
			t.Error(err)
		}
	}
	if in != 1 || len(b.Users()) != 2 {
		t.Fatalf("%d were let in, %d users", in, len(b.Users()))
	}
}

// A name that is taken leaves the invite as it was.
func TestRedeemingFailsWhole(t *testing.T) {
	b, _ := newInviting(t)
	i := b.invite(testInvite(1, RoleViewer), testBy)
	_, before := b.Position()
	var taken *NameTakenError
	if _, err := b.redeem(i.Name, 2, "alice"); !errors.As(err, &taken) {
		t.Fatal(err)
	}
	if _, after := b.Position(); after != before {
		t.Fatal("something was changed")
	}
	if _, err := b.redeem(i.Name, 2, taken.Suggestion); err != nil {
		t.Fatal(err)
	}
}

// The log alone brings invites back, and a checkpoint does.
func TestInvitesFollowFromTheLog(t *testing.T) {
	for _, checkpoint := range []bool{false, true} {
		b, _ := newInviting(t)
		kept := b.invite(testInvite(1, RoleViewer), testBy)
		gone := b.invite(testInvite(2, RoleViewer), testBy)
		if checkpoint {
			b.mu.Lock()
			if err := b.audit.checkpoint(b.current.Load(), witness{}, someDay); err != nil {
				t.Fatal(err)
			}
			b.mu.Unlock()
		}
		if _, err := b.redeem(gone.Name, 2, "Bob"); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		for _, name := range copyNames {
			if err := os.Remove(filepath.Join(b.opts.StateDir, name)); err != nil {
				t.Fatal(err)
			}
		}
		b.open()
		if open := b.Invites(); len(open) != 1 || !reflect.DeepEqual(open[0].Invite, kept) || len(b.Users()) != 2 {
			t.Fatalf("checkpoint %v: %+v", checkpoint, open)
		}
		b.sound()
		b.reopen()
		if open := b.Invites(); len(open) != 1 {
			t.Fatalf("%+v", open)
		}
	}
}

func TestResetEndsInvites(t *testing.T) {
	b, _ := newInviting(t)
	i := b.invite(testInvite(1, RoleViewer), testBy)
	if err := b.BeginReset(b.opts.IdentityDir, "test"); err != nil {
		t.Fatal(err)
	}
	if _, good := b.GoodInvite(i.Name); good {
		t.Fatal("good while the reset runs")
	}
	b.reopen()
	b.enter(1, "Alice", "")
	_, err := b.redeem(i.Name, 2, "Bob")
	want(t, err, ErrNoInvite)
}

func TestOddInvitesAreRefused(t *testing.T) {
	good := testInvite(1, RoleViewer)
	good.By, good.Key, good.Since = 1, fp(1), someDay
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Invite){
		"no name":      func(i *Invite) { i.Name = "" },
		"short name":   func(i *Invite) { i.Name = "00" },
		"capitals":     func(i *Invite) { i.Name = "00000000000000AA" },
		"no verifier":  func(i *Invite) { i.Verifier = nil },
		"long":         func(i *Invite) { i.Verifier = make([]byte, maxVerifierBytes+1) },
		"no maker":     func(i *Invite) { i.By = 0 },
		"no key":       func(i *Invite) { i.Key = fp(0); i.Key = [32]byte{} },
		"owner":        func(i *Invite) { i.Role = RoleOwner },
		"no role":      func(i *Invite) { i.Role = "" },
		"both":         func(i *Invite) { i.Myself = true },
		"odd for":      func(i *Invite) { i.For = "a\nb" },
		"odd limits":   func(i *Invite) { i.Hours = []Window{{}} },
		"negative run": func(i *Invite) { i.Up = -1 },
	} {
		i := good
		if change(&i); i.check() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// The largest invite there can be fits, and its line in the log.
func TestLargestInvite(t *testing.T) {
	b, _ := newInviting(t)
	i := testInvite(1, strings.Repeat("v", 32))
	b.opts.Roles = []Role{{Name: i.Role, Actions: []Action{ActionMe}}}
	b.reopen()
	i.For = strings.Repeat("\U00020000", 64)
	i.Until = never
	i.Verifier = make([]byte, maxVerifierBytes)
	for day := range 7 {
		i.Hours = append(i.Hours, Window{Days: []time.Weekday{0, 1, 2, 3, 4, 5, 6}, From: Minute(1000 + day), To: minutesOfDay})
	}
	made := b.invite(i, testBy)
	plain, err := json.Marshal(made)
	t.Logf("%d bytes of %d, %v", len(plain), maxInviteBytes, err)
	b.reopen()
	b.sound()
}
