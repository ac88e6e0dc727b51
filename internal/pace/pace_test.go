package pace

import (
	"net/netip"
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	p := New(3, time.Second)
	for _, c := range []struct {
		now  time.Duration
		want bool
	}{
		{0, true}, {0, true}, {0, true}, {0, false}, {999 * time.Millisecond, false},
		{time.Second, true}, {time.Second, false}, {time.Hour, true}, {time.Hour, true}, {time.Hour, true}, {time.Hour, false},
	} {
		if got := p.Allow(c.now); got != c.want {
			t.Errorf("after %v: %v, want %v", c.now, got, c.want)
		}
	}
	p.GiveBack()
	if !p.Allow(time.Hour) || p.Allow(time.Hour) {
		t.Error("what was given back cannot be had once")
	}
	var none Pace
	for range 1000 {
		if !none.AllowAt(time.Unix(0, 0)) {
			t.Fatal("the zero value keeps somebody")
		}
	}
}

// Time begins with the first question, whatever the clock says.
func TestPaceOfATime(t *testing.T) {
	for _, start := range []time.Time{time.Unix(0, 0), time.Now()} {
		p := New(2, time.Minute)
		for i, after := range []time.Duration{0, 0, 59 * time.Second, time.Minute} {
			if got, want := p.AllowAt(start.Add(after)), i != 2; got != want {
				t.Errorf("from %v on, after %v: %v, want %v", start, after, got, want)
			}
		}
	}
}

func TestTable(t *testing.T) {
	table := NewTable[string](11, time.Second)
	n := 0
	for range 100 {
		if table.Allow(0, "a") {
			n++
		}
	}
	if n != 11 || !table.Allow(0, "b") {
		t.Errorf("%d at once", n)
	}
	table.GiveBack("a")
	if !table.Allow(0, "a") || table.Allow(500*time.Millisecond, "a") || !table.Allow(1500*time.Millisecond, "a") {
		t.Error("not one a second")
	}
}

func TestSource(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32",
		"2001:db8::7": "2001:db8::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := Source(netip.MustParseAddr(in)); got.String() != want {
			t.Errorf("%s: %v, want %s", in, got, want)
		}
	}
	if Source(netip.Addr{}) != (netip.Prefix{}) {
		t.Error("no address is a source")
	}
}
