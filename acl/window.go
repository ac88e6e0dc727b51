package acl

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A Window is written as its days and its hours: "mon-fri 08:00-17:30",
// "sat,sun 00:00-24:00", "daily 22:00-06:00" (over midnight, into the day after).

// maxWindowText is above the longest of ours, "sun,tue,thu,sat 00:00-24:00".
const maxWindowText = 64

// dayNames begin with the week: a range goes from Monday to Sunday.
var dayNames = [7]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

const (
	daily   = "daily"
	daysOf  = 7
	asHours = `want days and hours, such as "mon-fri 08:00-17:30" or "daily 22:00-06:00"`
)

// ParseWindow reads a window as String writes it. The error is ErrLimits.
func ParseWindow(text string) (Window, error) {
	w, ok := parseWindow(strings.ToLower(text))
	if !ok || len(text) > maxWindowText {
		return Window{}, fmt.Errorf("%w: %.*q: %s", ErrLimits, maxWindowText, text, asHours)
	}
	return w, Limits{Hours: []Window{w}}.check()
}

func parseWindow(text string) (w Window, ok bool) {
	days, hours, two := strings.Cut(text, " ")
	from, to, both := strings.Cut(hours, "-")
	if !two || !both || len(text) > maxWindowText {
		return w, false
	}
	if w.From, ok = parseMinute(from); !ok {
		return w, false
	}
	if w.To, ok = parseMinute(to); !ok {
		return w, false
	}
	if days == daily {
		days = "mon-sun"
	}
	for _, part := range strings.Split(days, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, b := slices.Index(dayNames[:], first), slices.Index(dayNames[:], last)
		if a < 0 || b < a {
			return w, false
		}
		for ; a <= b; a++ {
			day := time.Weekday((a + 1) % daysOf)
			if w.on(day) {
				return w, false
			}
			w.Days = append(w.Days, day)
		}
	}
	return w, true
}

// parseMinute reads "08:30".
func parseMinute(text string) (Minute, bool) {
	if len(text) != 5 || text[2] != ':' {
		return 0, false
	}
	h, err := strconv.ParseUint(text[:2], 10, 8)
	m, err2 := strconv.ParseUint(text[3:], 10, 8)
	if err != nil || err2 != nil || m > 59 || h > 24 || h == 24 && m > 0 {
		return 0, false
	}
	return Minute(h*60 + m), true
}

// String is as ParseWindow reads it, days in the order of the week.
func (w Window) String() string {
	var parts []string
	for i := 0; i < daysOf; i++ {
		from := i
		for i < daysOf && w.on(time.Weekday((i+1)%daysOf)) {
			i++
		}
		switch {
		case i == from:
		case i == from+1:
			parts = append(parts, dayNames[from])
		default:
			parts = append(parts, dayNames[from]+"-"+dayNames[i-1])
		}
	}
	days := strings.Join(parts, ",")
	if days == "mon-sun" {
		days = daily
	}
	return fmt.Sprintf("%s %s-%s", days, w.From, w.To)
}

// String is the time of day, "08:30".
func (m Minute) String() string { return fmt.Sprintf("%02d:%02d", m/60, m%60) }

// Refuses says why l does not hold now: "ended", "clock not set", "outside its
// hours"; "" when it does.
func (l Limits) Refuses(clock Clock) string { return l.refuses(clock) }

// Over reports whether the user who has the key may do nothing now, by his end or
// his hours. It is false for a key that is not in the list.
func (s *Store) Over(f identity.Fingerprint) bool {
	u := s.current.Load().byKey[f]
	return u != nil && u.refusesBy(s.clock) != ""
}
