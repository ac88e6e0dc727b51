package hal

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern Pattern
		name    string
		shape   string // lit or not, each 50 ms from the start
	}{
		{Off, "off", "............"},
		{On, "on", "############"},
		{SlowBlink, "slow", "##########..........##########.........."},
		{FastBlink, "fast", "###..###..###.."},
		{Flashes(1), "flash 1", "###............................." + "###"},
		{Flashes(2), "flash 2", "###.....###............................." + "###"},
		{Flashes(0), "flash 1", "###....."},
		{Flashes(99), "flash 9", "###.....###.....###.....###.....###.....###.....###.....###.....###....."},
	} {
		if got := c.pattern.String(); got != c.name {
			t.Errorf("%d is called %q, want %q", c.pattern, got, c.name)
		}
		for i, want := range c.shape {
			at := time.Duration(i) * 50 * ms
			if lit, _ := c.pattern.At(at); lit != (want == '#') {
				t.Errorf("%v at %v: lit %v", c.pattern, at, lit)
			}
		}
	}
}

// The time named until the next change is right: nothing changes before it, and
// something does then.
func TestPatternChanges(t *testing.T) {
	for p := SlowBlink; p <= flashes+MaxFlashes; p++ {
		if p == flashes {
			continue
		}
		for at := time.Duration(0); at < 20*time.Second; {
			lit, change := p.At(at)
			if change <= 0 {
				t.Fatalf("%v at %v changes in %v", p, at, change)
			}
			if before, _ := p.At(at + change - 1); before != lit {
				t.Errorf("%v changes before %v", p, at+change)
			}
			if after, _ := p.At(at + change); after == lit {
				t.Errorf("%v does not change at %v", p, at+change)
			}
			at += change
		}
	}
}

func TestBlinker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		on, switched := false, 0
		broken := errors.New("line is broken")
		var fail error
		b := NewBlinker(func(to bool) error {
			mu.Lock()
			defer mu.Unlock()
			on = to
			switched++
			return fail
		})
		is := func(want bool, when string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if on != want {
				t.Errorf("%s: lit %v, want %v", when, on, want)
			}
		}
		is(false, "at first")
		set := func(p Pattern) {
			t.Helper()
			if err := b.Set(p); err != nil {
				t.Errorf("set %v: %v", p, err)
			}
		}
		set(SlowBlink)
		is(true, "blink, 0 ms")
		time.Sleep(499 * ms)
		set(SlowBlink) // again: does not restart
		is(true, "blink, 499 ms")
		time.Sleep(1 * ms)
		is(false, "blink, 500 ms")
		set(On)
		is(true, "on")
		time.Sleep(time.Hour)
		is(true, "on, an hour later")
		mu.Lock()
		fail = broken
		before := switched
		mu.Unlock()
		_ = b.Set(Off)
		synctest.Wait()
		if err := b.Set(Off); !errors.Is(err, broken) {
			t.Errorf("set on a broken line: %v", err)
		}
		if switched != before+1 {
			t.Errorf("switched %d times, want once", switched-before)
		}
		mu.Lock()
		fail = nil
		mu.Unlock()
		set2 := b.Set(FastBlink)
		_ = set2 // of the switching before, or of this one
		if err := errors.Join(b.Close(), b.Close(), b.Set(On)); err != nil {
			t.Errorf("close, close, set: %v", err)
		}
		is(false, "closed")
	})
}
