package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

const tenYears = 10 * 365 * 24 * time.Hour

// A clock that is set back, or ahead and back, revives nothing that had ended; one
// that is ahead for an hour is right.
func TestSteadyClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c steadyClock
		offset := time.Duration(0)
		see := func() time.Time { return c.see(time.Now().Add(offset)) }
		began := time.Now()
		check := func(what string, want time.Duration) {
			t.Helper()
			if got := see().Sub(began); got.Round(time.Second) != want {
				t.Errorf("%s: it is %v after the beginning, want %v", what, got, want)
			}
		}
		if _, ok := c.since(); ok {
			t.Error("it has seen something")
		}
		check("first", 0)
		time.Sleep(30 * time.Minute)
		check("half an hour on", 30*time.Minute)
		offset = -tenYears
		check("ten years back", 30*time.Minute)
		time.Sleep(10 * time.Minute)
		check("and ten minutes on", 40*time.Minute)
		offset = tenYears
		check("ten years ahead", tenYears+40*time.Minute)
		time.Sleep(10 * time.Minute)
		check("still", tenYears+50*time.Minute)
		offset = 0
		check("a mistake", 50*time.Minute)
		offset = tenYears
		see()
		time.Sleep(stepHolds)
		see()
		offset = 0
		check("it had held", tenYears+stepHolds+50*time.Minute)
		seen, _ := c.since()
		if seen.Sub(began) < tenYears {
			t.Errorf("seen: %v", seen)
		}
	})
}

// clockOf is a device whose kernel says what the test sets.
type clockOf struct{ d *device }

func (c *clockOf) set(now time.Time, known bool) {
	at := time.Now()
	c.d.setKernelClock(func() (time.Time, bool) { return now.Add(time.Since(at)), known })
}

// The rules about time at a device: keys without an end never depend on
// the clock; what has an end is refused while it is unknown, and what ended does not
// come back, over jumps of ten years and restarts.
func TestClockRules(t *testing.T) {
	dir := shortDir(t)
	d := startIn(t, dir, text(dir, ""))
	c := &clockOf{d: d}
	owner := d.owner(t)
	end := time.Date(2030, 6, 1, 0, 0, 0, 0, time.UTC)
	key := d.enter(t, "Bob", acl.RoleViewer)
	if _, err := d.store.SetLimits("Bob", acl.Limits{Until: end}, acl.By{}); err != nil {
		t.Fatal(err)
	}
	check := func(what, want string) {
		t.Helper()
		d.dial(t, owner.key, session.PathTCP).call("GET", "/v1/me", nil, nil)
		err := d.dial(t, key, session.PathTCP).tryCall("GET", "/v1/me", nil, nil)
		if want == "" && err != nil || want != "" && (!api.IsCode(err, api.CodeForbidden) || err.Error() == "") {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
		if want != "" && err != nil {
			contains(t, what, err.Error(), want)
		}
	}
	c.set(time.Unix(0, 0), false)
	check("in 1970", "clock not set")
	c.set(end.Add(-time.Hour), false)
	check("unknown", "clock not set")
	c.set(end.Add(-24*time.Hour), true)
	check("a day before the end", "")
	c.set(end.Add(-24*time.Hour).Add(-tenYears), true)
	check("ten years back", "")
	c.set(end.Add(tenYears), true)
	check("ten years ahead", "ended")
	c.set(end.Add(-24*time.Hour), true)
	check("which was a mistake", "")
	c.set(end.Add(-30*time.Minute), false)
	check("unknown again", "clock not set")
	d.steady.forget() // as if that was long ago
	c.set(end.Add(time.Minute), true)
	check("after the end", "ended")
	c.set(end.Add(-tenYears), true)
	check("ten years back after the end", "ended")
	c.set(end.Add(-time.Minute), true)
	check("a little back after the end", "ended")
	d.raiseFloor()
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d = startIn(t, dir, text(dir, ""))
	c.d = d
	for what, now := range map[string]time.Time{"1970": time.Unix(0, 0), "before": end.Add(-time.Hour), "ten years before": end.Add(-tenYears)} {
		for _, known := range []bool{false, true} {
			c.set(now, known)
			check(fmt.Sprintf("after a restart, %s, known: %v", what, known), "ended")
		}
	}
}

// A floor is written once an hour at most, and never lowered.
func TestTimeFloorIsWrittenHourly(t *testing.T) {
	dir := shortDir(t)
	d := startIn(t, dir, text(dir, ""))
	c := &clockOf{d: d}
	at := time.Date(2030, 6, 1, 0, 0, 0, 0, time.UTC)
	floor := func() time.Time { return time.Unix(d.floor.Load(), 0).UTC() }
	c.set(at, false)
	d.raiseFloor()
	if d.floor.Load() >= at.Unix() {
		t.Error("a clock that nobody vouches for raised the floor")
	}
	d.steady.forget()
	c.set(at, true)
	d.raiseFloor()
	first := floor()
	c.set(at.Add(59*time.Minute), true)
	d.raiseFloor()
	if now := floor(); now != first {
		t.Errorf("raised after 59 minutes: %v", now)
	}
	c.set(at.Add(time.Hour+59*time.Minute), true)
	d.raiseFloor()
	if now := floor(); now.Before(at.Add(time.Hour)) {
		t.Errorf("not raised after an hour: %v", now)
	}
	kept := floor()
	c.set(at.Add(-tenYears), true)
	d.raiseFloor()
	c.set(at.Add(tenYears), true)
	d.raiseFloor()
	if now := floor(); now.Sub(kept) > time.Minute || now.Before(kept) {
		t.Errorf("a slip of ten years moved the floor from %v to %v", kept, now)
	}
	onDisk := openStationFile(filepath.Join(dir, "identity"), nil, testLog(t)).now().Time
	if onDisk != d.floor.Load() {
		t.Errorf("on disk: %d, in force: %d", onDisk, d.floor.Load())
	}
}

// Who has an end loses what he has open within a second of it: the session of a user,
// the tunnel of a grant.
func TestEndsWhileOpen(t *testing.T) {
	e := pouring(t)
	d := startDevice(t, serviceTOML("pour", "tcp", e.address)+serviceTOML("web", "http", e.address))
	c := &clockOf{d: d}
	d.owner(t)
	at := time.Date(2030, 6, 1, 0, 0, 0, 0, time.UTC)
	c.set(at.Add(-time.Minute), true)
	bob, ann := d.enter(t, "Bob", acl.RoleAdmin), d.enter(t, "Ann", acl.RoleViewer)
	if _, err := d.store.SetLimits("Bob", acl.Limits{Until: at}, acl.By{}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.store.Grant("Ann", acl.Grant{Service: "pour", Limits: acl.Limits{Until: at}}, acl.By{}); err != nil {
		t.Fatal(err)
	}
	p, q := d.dial(t, bob, session.PathTCP), d.dial(t, ann, session.PathQUIC)
	hers, his, events := open(t, q, false), open(t, p, false), p.follow(t)
	kept, err := q.Connect(context.Background(), "web", false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = kept.Close() }()
	c.set(at, true)
	drainUntilEnd(hers)
	drainUntilEnd(his)
	for range events.events {
	}
	<-p.Done()
	testnet.Eventually(t, "one tunnel left", func() error {
		if n := d.Status().Tunnels; n != 1 {
			return fmt.Errorf("%d tunnels", n)
		}
		return nil
	})
	q.call("GET", "/v1/me", nil, nil)
	again := d.dial(t, bob, session.PathTCP)
	contains(t, "why", again.tryCall("GET", "/v1/me", nil, nil).Error(), "ended")
}

func (c *steadyClock) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.high, c.leap = moment{}, moment{}
}
