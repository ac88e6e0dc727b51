// Package hal is the front of the device: its buttons, its light and its small
// display, whatever they are made of. The daemon uses it, and each driver
// (hal/sim today) implements it.
//
// It knows pins and pictures, not meanings. A button has a name, and a gesture
// is reported as what the hand did: "held for 10 s, released, pressed again".
// What that asks for, and what the display then says, the daemon decides.
//
//	edges   driver -> Watcher -> recogniser (debounce, gestures) -> handler of the daemon
//	light   daemon -> Light.Set(Pattern) -> Blinker -> line
//	picture daemon -> Picture (drawn) -> Display.Show
package hal

import (
	"errors"
	"maps"
	"slices"
)

// Names of buttons, as a board's description gives them. A board may lack any
// of them; one button alone carries every gesture (see Board.Rules).
const (
	ButtonPair    = "pair"
	ButtonSupport = "support"
	ButtonReset   = "reset"
)

// A Board is what one device has at its front. The driver that opened the parts
// fills it; the fields never change afterwards.
type Board struct {
	Buttons map[string]Button // by name; may be empty
	Light   Light             // nil: the board has none
	Display Display           // nil: the board has none

	// Watching is a light of its own that is on while somebody watches, and has no
	// other meaning: nothing that blinks can hide it. Nil: the board has none.
	Watching Light
}

// Names of lights, as a board's description gives them.
const (
	LightStatus   = "status"   // Board.Light
	LightWatching = "watching" // Board.Watching
)

// Rules says which gestures each button takes part in. Where there are several
// buttons, only the one named ButtonReset can be held and confirmed, and none
// waits for a second press. A single button does everything; the double press
// is left out where there is no display to answer it.
func (b *Board) Rules() map[string]Rule {
	rules := make(map[string]Rule, len(b.Buttons))
	for name := range b.Buttons {
		alone := len(b.Buttons) == 1
		rules[name] = Rule{
			Double:  alone && b.Display != nil,
			Confirm: alone || name == ButtonReset,
		}
	}
	return rules
}

// Names returns the names of the buttons in the order a person reads them:
// pair, support, reset, then others by name.
func (b *Board) Names() []string {
	names := slices.Sorted(maps.Keys(b.Buttons))
	order := []string{ButtonPair, ButtonSupport, ButtonReset}
	rank := func(name string) int {
		if i := slices.Index(order, name); i >= 0 {
			return i
		}
		return len(order)
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	return names
}

// Close closes every part and returns what went wrong, joined. Closing twice is
// harmless, as it is for each part.
func (b *Board) Close() error {
	var errs []error
	for _, name := range b.Names() {
		errs = append(errs, b.Buttons[name].Close())
	}
	if b.Light != nil {
		errs = append(errs, b.Light.Close())
	}
	if b.Watching != nil {
		errs = append(errs, b.Watching.Close())
	}
	if b.Display != nil {
		errs = append(errs, b.Display.Close())
	}
	return errors.Join(errs...)
}
