package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyholed/keyhole/protocol/api"
)

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// parseHours reads "mon-fri 08:00-18:00", "sat,sun 10:00-24:00", "daily 22:00-06:00":
// days, and the time of the day in the device's zone; one that ends before it begins
// goes over midnight.
func parseHours(text string) (h api.Hours, err error) {
	wrong := fmt.Errorf("%q: want days and times, such as \"mon-fri 08:00-18:00\"", plain(text))
	days, times, found := strings.Cut(strings.ToLower(strings.TrimSpace(text)), " ")
	from, to, spans := strings.Cut(strings.TrimSpace(times), "-")
	if !found || !spans {
		return h, wrong
	}
	if days == "daily" {
		days = "sun-sat"
	}
	for part := range strings.SplitSeq(days, ",") {
		first, last, ranged := strings.Cut(part, "-")
		a, b := slices.Index(weekdays, first), slices.Index(weekdays, last)
		if !ranged {
			b = a
		}
		if a < 0 || b < 0 {
			return h, wrong
		}
		for day := a; ; day = (day + 1) % 7 {
			if !slices.Contains(h.Days, day) {
				h.Days = append(h.Days, day)
			}
			if day == b {
				break
			}
		}
	}
	if h.From, err = minuteOf(from); err == nil {
		h.To, err = minuteOf(to)
	}
	if err != nil || h.From == h.To {
		return h, wrong
	}
	return h, nil
}

func minuteOf(text string) (int, error) {
	if text == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", text)
	return t.Hour()*60 + t.Minute(), err
}

// parseUntil reads an end: a day, which is meant whole, or a day and a time.
func parseUntil(text string, zone *time.Location) (time.Time, error) {
	if t, err := time.ParseInLocation("2006-01-02", text, zone); err == nil {
		return t.AddDate(0, 0, 1), nil
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02T15:04", time.RFC3339} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q: want a date such as 2027-01-31 or \"2027-01-31 18:00\"", plain(text))
}
