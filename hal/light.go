package hal

import (
	"fmt"
	"time"
)

// A Light is one indicator. Set returns soon and replaces the pattern shown
// before; setting the same pattern again does not restart it. Close turns the
// light off. Drivers that can only switch a line use Blinker.
type Light interface {
	Set(Pattern) error
	Close() error
}

// A Pattern is how a light shines. The zero value is Off; Flashes makes the others.
type Pattern uint8

// Patterns one can tell apart at a glance.
const (
	Off Pattern = iota
	On
	SlowBlink // once a second
	FastBlink // four times a second
	flashes   // plus the count
)

// MaxFlashes is the most flashes a person counts without losing track.
const MaxFlashes = 9

// Times of the patterns. A flash is long enough to be seen from the side and
// the pause long enough to tell where counting begins.
const (
	slowHalf   = 500 * time.Millisecond
	fastHalf   = 125 * time.Millisecond
	flashOn    = 150 * time.Millisecond
	flashOff   = 250 * time.Millisecond
	flashPause = 1200 * time.Millisecond
)

// Flashes is a group of n short flashes with a pause, over and over. n is
// brought into 1 to MaxFlashes.
func Flashes(n int) Pattern { return flashes + Pattern(min(max(n, 1), MaxFlashes)) }

// At returns whether the pattern is lit when it has been shown for the given
// time, and how long until that changes; zero means never.
func (p Pattern) At(shown time.Duration) (lit bool, change time.Duration) {
	switch {
	case p == On:
		return true, 0
	case p == SlowBlink:
		return blink(shown, slowHalf, slowHalf)
	case p == FastBlink:
		return blink(shown, fastHalf, fastHalf)
	case p > flashes:
		return p.flash(shown)
	}
	return false, 0
}

func blink(shown, on, off time.Duration) (bool, time.Duration) {
	into := shown % (on + off)
	if into < on {
		return true, on - into
	}
	return false, on + off - into
}

func (p Pattern) flash(shown time.Duration) (bool, time.Duration) {
	count := time.Duration(p - flashes)
	group := count*(flashOn+flashOff) + flashPause
	into := shown % group
	last := (count-1)*(flashOn+flashOff) + flashOn // when the last flash goes out
	if into >= last {
		return false, group - into
	}
	return blink(into, flashOn, flashOff)
}

// String is the pattern's name: "off", "on", "slow", "fast", "flash 3".
func (p Pattern) String() string {
	switch p {
	case Off:
		return "off"
	case On:
		return "on"
	case SlowBlink:
		return "slow"
	case FastBlink:
		return "fast"
	}
	return fmt.Sprintf("flash %d", uint8(p-flashes))
}
