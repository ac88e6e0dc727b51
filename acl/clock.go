package acl

import (
	"errors"
	"time"
)

// A Clock is what the device believes about the time. Boards boot in 1970, so a
// time alone is not enough to let somebody in. The zero value is an unknown clock.
type Clock struct {
	Now   time.Time // in the zone in which weekly windows are meant
	Known bool      // synchronised, or told by somebody trusted since boot
	Floor time.Time // it is not earlier than this: persisted, never lowered

	// Boot names this run of the kernel, and Up is for how long it has run, sleep
	// included: what a clock that jumps cannot change. "" is not known.
	Boot string
	Up   time.Duration
}

// Limits say when something holds. The zero value holds always and never asks
// for the time.
type Limits struct {
	Until time.Time `json:"until,omitzero"`  // exclusive; zero: no end
	Hours []Window  `json:"hours,omitempty"` // at least one must hold; none: always
}

// A Window is a span of the week, the same every week, in the device's zone.
// From later than To goes over midnight into the day after each of Days.
type Window struct {
	Days []time.Weekday `json:"days"` // 0 is Sunday
	From Minute         `json:"from"` // inclusive
	To   Minute         `json:"to"`   // exclusive; 1440 is the end of the day
}

// A Minute counts from midnight, 0 to 1440.
type Minute uint16

const (
	minutesOfDay Minute = 24 * 60
	maxWindows          = 7 // one for each day
)

// Reasons why something limited does not hold.
const (
	whyClock = "clock not set"
	whyEnded = "ended"
	whyHours = "outside its hours"
)

// never is what Until may not be beyond, so that it has a text form (RFC 3339).
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// ErrOwnerLimits means that an owner would have an end or hours.
var ErrOwnerLimits = errors.New("an owner may enter always: give him another role first")

// ErrLimits means that an end or a weekly window makes no sense.
var ErrLimits = errors.New("not a limit: want an end before the year 9999, at most 7 windows with days 0 to 6 and minutes 0 to 1440 that differ")

// Always reports whether l holds without asking for the time.
func (l Limits) Always() bool { return l.Until.IsZero() && len(l.Hours) == 0 }

// refuses returns why l does not hold, or "".
func (l Limits) refuses(clock Clock) string {
	switch {
	case l.Always():
		return ""
	case !l.Until.IsZero() && !clock.Floor.Before(l.Until):
		return whyEnded // whatever the clock says: it was later already
	case !clock.Known:
		return whyClock
	case !l.Until.IsZero() && !clock.Now.Before(l.Until):
		return whyEnded
	case len(l.Hours) == 0:
		return ""
	}
	for _, w := range l.Hours {
		if w.holds(clock.Now) {
			return ""
		}
	}
	return whyHours
}

func (w Window) holds(now time.Time) bool {
	day := now.Weekday()
	minute := Minute(now.Hour()*60 + now.Minute())
	if w.From < w.To {
		return w.on(day) && w.From <= minute && minute < w.To
	}
	yesterday := (day + 6) % 7
	return w.on(day) && minute >= w.From || w.on(yesterday) && minute < w.To
}

func (w Window) on(day time.Weekday) bool {
	for _, d := range w.Days {
		if d == day {
			return true
		}
	}
	return false
}

func (l Limits) check() error {
	if len(l.Hours) > maxWindows || l.Until.After(never) || l.Until.Year() < 0 {
		return ErrLimits
	}
	for _, w := range l.Hours {
		if len(w.Days) == 0 || len(w.Days) > 7 || w.From == w.To || w.From > minutesOfDay || w.To > minutesOfDay {
			return ErrLimits
		}
		for _, d := range w.Days {
			if d < time.Sunday || d > time.Saturday {
				return ErrLimits
			}
		}
	}
	return nil
}

func (l Limits) clone() Limits {
	c := Limits{Until: l.Until}
	for _, w := range l.Hours {
		w.Days = append([]time.Weekday(nil), w.Days...)
		c.Hours = append(c.Hours, w)
	}
	return c
}
