package acl

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// The whole policy. A row is an action, on a type of service for tunnels; the
// roles that may are named, all others may not.
var policy = []struct {
	action Action
	types  []string
	may    string
}{
	{ActionHello, nil, "owner admin viewer guest support door nobody"},
	{ActionDevice, nil, "owner admin viewer guest support"},
	{ActionServices, nil, "owner admin viewer guest support"},
	{ActionMe, nil, "owner admin viewer guest support door"},
	{ActionTunnel, []string{"http", "rtsp"}, "owner admin viewer"},
	{ActionTunnel, []string{"ssh", "tcp", "", "other"}, "owner admin"},
	{ActionTunnel, []string{"intercom"}, "owner admin door"},
	{ActionUsers, nil, "owner admin"},
	{ActionSettings, nil, "owner admin"},
	{ActionEvents, nil, "owner admin support"},
	{ActionAudit, nil, "owner admin support"},
	{ActionSessions, nil, "owner admin support"},
	{ActionFirmware, nil, "owner admin"},
	{ActionReset, nil, "owner"},
	{ActionProvision, nil, "owner"},
	{"", nil, ""},
	{"fly", nil, ""},
}

// vendorRole is one that a configuration adds.
var vendorRole = Role{Name: "door", Actions: []Action{ActionMe, ActionTunnel}, Types: []string{"intercom"}}

func TestPolicy(t *testing.T) {
	roles, err := compileRoles([]Role{vendorRole})
	if err != nil {
		t.Fatal(err)
	}
	l := emptyList(1)
	names := []string{RoleOwner, RoleAdmin, RoleViewer, RoleGuest, RoleSupport, "door", "dismissed"}
	for i, role := range names {
		if err := l.add(&User{ID: uint64(i + 1), Name: role, Role: role, Keys: []Key{{Fingerprint: fp(i + 1)}}}, 1); err != nil {
			t.Fatal(err)
		}
	}
	covered := map[Action]bool{}
	for _, row := range policy {
		covered[row.action] = true
		if row.types == nil {
			row.types = []string{""}
		}
		for _, kind := range row.types {
			service := Service{Name: "x", Type: kind}
			for i, role := range append(names, "nobody") {
				got := l.decide(roles, noClock(t), Principal{Fingerprint: fp(i + 1)}, row.action, service)
				wanted := slices.Contains(strings.Fields(row.may), role) || row.action == ActionHello
				if got.Allow != wanted || got.Why == "" {
					t.Errorf("%s %q %q: got %+v, want %v", role, row.action, kind, got, wanted)
				}
			}
			for k := KindAnonymous; k <= KindCentral+1; k++ {
				got := l.decide(roles, noClock(t), Principal{Kind: k, Fingerprint: fp(1)}, row.action, service)
				if got.Allow != (row.action == ActionHello) {
					t.Errorf("kind %d %q: %+v", k, row.action, got)
				}
			}
			if got := l.decide(roles, noClock(t), Principal{}, row.action, service); got.Allow != (row.action == ActionHello) {
				t.Errorf("the zero principal %q: %+v", row.action, got)
			}
		}
	}
	for _, a := range Actions {
		if !covered[a] {
			t.Errorf("action %q is in no row", a)
		}
	}
}

// noClock fails the test when a decision that has no end asks for the time.
func noClock(t testing.TB) func() Clock {
	return func() Clock {
		t.Helper()
		t.Error("the clock was asked")
		return Clock{}
	}
}

func TestVendorRolesAreChecked(t *testing.T) {
	for _, r := range []Role{
		{Name: RoleOwner}, {Name: ""}, {Name: "Upper"}, {Name: "a b"}, {Name: strings.Repeat("x", 33)},
		{Name: "fine", Actions: []Action{"fly"}},
	} {
		if _, err := compileRoles([]Role{r}); err == nil {
			t.Errorf("role %+v was accepted", r)
		}
	}
	if _, err := compileRoles(make([]Role, maxRoles+1)); err == nil {
		t.Error("too many roles were accepted")
	}
}

func TestLimitsAndTheClock(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) // a Saturday
	known := Clock{Now: now, Known: true}
	unknown := Clock{Now: now}
	boot := Clock{Now: time.Unix(0, 0)}
	sat := []time.Weekday{time.Saturday}
	fri := []time.Weekday{time.Friday}
	for _, c := range []struct {
		name   string
		limits Limits
		clock  Clock
		want   string
	}{
		{"no end, no clock", Limits{}, Clock{}, ""},
		{"end ahead", Limits{Until: now.Add(time.Second)}, known, ""},
		{"end now", Limits{Until: now}, known, whyEnded},
		{"end ahead, clock unknown", Limits{Until: now.Add(time.Hour)}, unknown, whyClock},
		{"end ahead, clock in 1970", Limits{Until: now}, boot, whyClock},
		{"end behind the floor, clock unknown", Limits{Until: now}, Clock{Now: now.AddDate(-10, 0, 0), Floor: now}, whyEnded},
		{"end behind the floor, clock set back", Limits{Until: now}, Clock{Now: now.AddDate(-10, 0, 0), Known: true, Floor: now.Add(1)}, whyEnded},
		{"end ahead of the floor", Limits{Until: now.Add(1)}, Clock{Now: now, Known: true, Floor: now}, ""},
		{"hours hold", Limits{Hours: []Window{{sat, 720, 721}}}, known, ""},
		{"hours begin later", Limits{Hours: []Window{{sat, 721, 1440}}}, known, whyHours},
		{"hours ended", Limits{Hours: []Window{{sat, 0, 720}}}, known, whyHours},
		{"hours of another day", Limits{Hours: []Window{{fri, 0, 1440}}}, known, whyHours},
		{"hours over midnight", Limits{Hours: []Window{{fri, 1200, 721}}}, known, ""},
		{"hours over midnight ended", Limits{Hours: []Window{{fri, 1200, 720}}}, known, whyHours},
		{"second window holds", Limits{Hours: []Window{{fri, 0, 1}, {sat, 0, 1440}}}, known, ""},
		{"hours, clock unknown", Limits{Hours: []Window{{sat, 0, 1440}}}, unknown, whyClock},
		{"hours hold but ended", Limits{Until: now, Hours: []Window{{sat, 0, 1440}}}, known, whyEnded},
	} {
		if got := c.limits.refuses(c.clock); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		if err := c.limits.check(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, l := range []Limits{
		{Until: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)},
		{Hours: []Window{{nil, 0, 1}}},
		{Hours: []Window{{sat, 5, 5}}},
		{Hours: []Window{{sat, 0, 1441}}},
		{Hours: []Window{{[]time.Weekday{7}, 0, 1}}},
		{Hours: make([]Window, maxWindows+1)},
	} {
		want(t, l.check(), ErrLimits)
	}
}

func TestGrants(t *testing.T) {
	b := newBench(t)
	var clock Clock
	b.Store.clock = func() Clock { return clock }
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	b.enter(1, "Alice", "")
	b.enter(2, "Bob", RoleViewer)
	b.enter(3, "Gil", RoleGuest)
	grant := func(who string, g Grant) {
		t.Helper()
		if _, err := b.Grant(who, g, testBy); err != nil {
			t.Fatal(err)
		}
	}
	grant("Bob", Grant{Service: "shell"})
	grant("Gil", Grant{Service: "cam", Limits: Limits{Until: now}})
	tunnel := func(n int, name, kind string) Decision {
		return b.Decide(Principal{Fingerprint: fp(n)}, ActionTunnel, Service{Name: name, Type: kind})
	}
	check := func(d Decision, allow bool, why string) {
		t.Helper()
		if d.Allow != allow || d.Why != why {
			t.Errorf("got %+v, want %v %q", d, allow, why)
		}
	}
	check(tunnel(2, "shell", "ssh"), true, whyGrant)
	check(tunnel(2, "other", "ssh"), false, "role viewer may not use services of this type")
	check(tunnel(2, "cam", "rtsp"), true, "role viewer may")
	check(tunnel(3, "cam", "rtsp"), false, whyClock)
	clock = Clock{Now: now.Add(-time.Hour), Known: true}
	check(tunnel(3, "cam", "rtsp"), true, whyGrant)
	check(tunnel(3, "cam2", "rtsp"), false, "role guest may not use services")
	clock.Now = now
	check(tunnel(3, "cam", "rtsp"), false, whyEnded)
	if _, err := b.SetLimits("Bob", Limits{Until: now}, testBy); err != nil {
		t.Fatal(err)
	}
	check(tunnel(2, "shell", "ssh"), false, whyEnded)
	if _, err := b.RevokeGrant("Bob", "shell", testBy); err != nil {
		t.Fatal(err)
	}
	_, err := b.RevokeGrant("Bob", "shell", testBy)
	want(t, err, ErrNoGrant)
}

// bigList has as many users as there may be.
func bigList(tb testing.TB, users int) *list {
	tb.Helper()
	l := emptyList(1)
	for i := 1; i <= users; i++ {
		role := RoleViewer
		if i == 1 {
			role = RoleOwner
		}
		u := &User{ID: uint64(i), Name: fmt.Sprintf("User %d", i), Role: role, Keys: []Key{
			{Fingerprint: fp(i), Name: "phone"}, {Fingerprint: fp(400_000 + i), Name: "laptop"},
		}}
		if err := l.add(u, 1); err != nil {
			tb.Fatal(err)
		}
	}
	l.Sequence = 1
	return l
}

// A promotion takes nothing away, so it must not end anybody's sessions.
func TestRoleIncludes(t *testing.T) {
	roles, err := compileRoles([]Role{{Name: "watcher", Actions: []Action{ActionTunnel}, Types: []string{"rtsp"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		wide, narrow string
		want         bool
	}{
		{RoleOwner, RoleAdmin, true}, {RoleAdmin, RoleOwner, false}, {RoleAdmin, RoleViewer, true}, {RoleViewer, RoleAdmin, false},
		{RoleViewer, RoleGuest, true}, {RoleGuest, RoleViewer, false}, {RoleViewer, "watcher", true}, {"watcher", RoleViewer, false},
		{RoleViewer, RoleSupport, false}, {RoleViewer, "gone", true}, {"gone", RoleViewer, false},
	} {
		if got := roles[c.wide].includes(roles[c.narrow]); got != c.want {
			t.Errorf("%s includes %s: %v, want %v", c.wide, c.narrow, got, c.want)
		}
	}
}

// Who is refused is told what he may not.
func TestEveryActionHasWords(t *testing.T) {
	for _, a := range Actions {
		if a != ActionHello && doing[a] == "" {
			t.Errorf("%s is refused without words", a)
		}
	}
}
