package acl

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWindowText(t *testing.T) {
	for text, want := range map[string]Window{
		"mon-fri 08:00-17:30":     {[]time.Weekday{1, 2, 3, 4, 5}, 8 * 60, 17*60 + 30},
		"sat-sun 00:00-24:00":     {[]time.Weekday{6, 0}, 0, 1440},
		"daily 22:00-06:00":       {[]time.Weekday{1, 2, 3, 4, 5, 6, 0}, 22 * 60, 6 * 60},
		"mon,wed-fri 9:00":        {},
		"tue,thu,sat 12:00-13:05": {[]time.Weekday{2, 4, 6}, 12 * 60, 13*60 + 5},
	} {
		got, err := ParseWindow(text)
		if want.Days == nil {
			if !errors.Is(err, ErrLimits) {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if err != nil || !slices.Equal(got.Days, want.Days) || got.From != want.From || got.To != want.To || got.String() != text {
			t.Errorf("%q: %+v %v, prints as %q", text, got, err, got)
		}
	}
	if w, err := ParseWindow("SUN,MON 08:00-09:00"); err != nil || w.String() != "mon,sun 08:00-09:00" {
		t.Errorf("%v %v", w, err)
	}
	for _, bad := range []string{
		"", "mon", "mon 8:00-9:00", "mon 08:00-08:00", "mon 08:00-25:00", "mon 08:00-24:01", "mon 08:60-09:00", "fri-mon 08:00-09:00",
		"mon,mon 08:00-09:00", "mon-fri,wed 08:00-09:00", "mon  08:00-09:00", "mon 08:00-09:00 ", " mon 08:00-09:00", "mon, 08:00-09:00", "mon +8:00-09:00",
		"x" + strings.Repeat("x", maxWindowText),
	} {
		if _, err := ParseWindow(bad); !errors.Is(err, ErrLimits) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParseWindow(f *testing.F) {
	for _, s := range []string{"mon-fri 08:00-17:30", "sat,sun 00:00-24:00", "daily 22:00-06:00", "sun,mon 1:00-2:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w, err := ParseWindow(text)
		if err != nil {
			return
		}
		again, err := ParseWindow(w.String())
		if err != nil || again.String() != w.String() {
			t.Errorf("%q is %q, which is %q: %v", text, w, again, err)
		}
	})
}
