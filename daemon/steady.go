package daemon

import (
	"sync"
	"time"
)

// A step of the clock is believed at once where it ends something, and kept in mind
// only when it has held for that long: until then it may be somebody's mistake.
const (
	stepHolds = time.Hour
	// stepSize is what a clock that is right never steps by: NTP slews or steps by
	// seconds, and summer time does not touch UTC.
	stepSize = time.Hour
)

// A steadyClock keeps time from going back within one run of the daemon: what has
// ended by a clock that was right stays ended, wherever that clock is set to later.
// It counts on the monotonic clock. The zero value has seen no time.
//
//	now         behind what was seen      → what was seen, and the time since
//	            up to an hour before it   → now, which is seen from here on
//	            further ahead             → now; seen when it has held for an hour
type steadyClock struct {
	mu     sync.Mutex
	high   moment // latest that was seen
	leap   moment // further ahead, not held long enough yet
	leapAt time.Time
}

// A moment is a time of day, and when it was that.
type moment struct {
	wall time.Time // zero: never
	at   time.Time // on the monotonic clock
}

func (m moment) now() time.Time { return m.wall.Add(time.Since(m.at)) }

// see takes the time of a clock that is known to be right and returns the time to go by.
func (c *steadyClock) see(now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := moment{now, time.Now()}
	expected := c.high.now()
	switch {
	case c.high.wall.IsZero():
		c.high = seen
		return now
	case now.Before(expected):
		return expected
	case now.Sub(expected) < stepSize:
		c.high, c.leap = seen, moment{}
		return now
	}
	if off := now.Sub(c.leap.now()); c.leap.wall.IsZero() || off.Abs() >= stepSize {
		c.leap, c.leapAt = seen, time.Now()
	} else if time.Since(c.leapAt) >= stepHolds {
		c.high, c.leap = seen, moment{}
	}
	return now
}

// since is the time that was seen and what has passed since; false when none was.
func (c *steadyClock) since() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.high.wall.IsZero() {
		return time.Time{}, false
	}
	return c.high.now(), true
}
