// Package sim is a board without hardware: buttons that bounce, a light and a
// display, driven by a program (`keyholed press`) or by a hand on its face, a
// small local web page. Demonstrations, tests and integrators use it.
//
// Nothing is short-circuited: a press makes real edges on the same path that
// the edges of a real button take, and the light is switched by the same blinker.
package sim

import (
	"errors"
	"math/rand/v2"
	"sync"

	"github.com/keyholed/keyhole/hal"
)

// Options choose what the board has. The zero value is a board with all three
// buttons, both lights and a display.
type Options struct {
	Buttons    []string // names; nil: pair, support, reset
	NoLight    bool
	NoWatching bool // no light of its own for those who watch
	NoDisplay  bool
	NoBounce   bool   // contacts that close once, as no real ones do
	Seed       uint64 // of the bounce; the same seed bounces alike
}

// Errors of a hand at the board.
var (
	ErrNoButton = errors.New("the board has no such button")
	ErrHeld     = errors.New("the button is held already")
	ErrClosed   = errors.New("the board is closed")
)

// A Board is a simulated front panel. It is safe from several goroutines.
// Create it with New.
type Board struct {
	hal     *hal.Board
	buttons map[string]*Button
	bounce  bool

	mu      sync.Mutex
	rng     *rand.Rand                 // guarded by mu
	shown   *hal.Picture               // guarded by mu; replaced, never changed
	status  lamp                       // guarded by mu
	watched lamp                       // guarded by mu
	closed  bool                       // guarded by mu
	changed map[chan struct{}]struct{} // guarded by mu
	gone    chan struct{}              // closed by Close of the display, light or board
}

// New returns a board whose buttons are up.
func New(o Options) *Board {
	if o.Buttons == nil {
		o.Buttons = []string{hal.ButtonPair, hal.ButtonSupport, hal.ButtonReset}
	}
	b := &Board{
		hal:     &hal.Board{Buttons: make(map[string]hal.Button)},
		buttons: make(map[string]*Button),
		bounce:  !o.NoBounce,
		rng:     rand.New(rand.NewPCG(o.Seed, 1)),
		shown:   &hal.Picture{},
		changed: make(map[chan struct{}]struct{}),
		gone:    make(chan struct{}),
	}
	for _, name := range o.Buttons {
		button := newButton(name, false, b.notify)
		b.buttons[name] = button
		b.hal.Buttons[name] = button
	}
	if !o.NoLight {
		b.hal.Light = newLight(b, &b.status)
	}
	if !o.NoWatching {
		b.hal.Watching = newLight(b, &b.watched)
	}
	if !o.NoDisplay {
		b.hal.Display = display{b}
	}
	return b
}

// HAL returns the board as the daemon sees it.
func (b *Board) HAL() *hal.Board { return b.hal }

// Close closes all parts; whoever holds a button lets go. It is idempotent.
func (b *Board) Close() error {
	err := b.hal.Close()
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.gone)
	}
	b.mu.Unlock()
	b.notify()
	return err
}

// State is what one sees when one looks at the board.
type State struct {
	Picture *hal.Picture // what the display shows; never nil, dark where there is none
	Pattern hal.Pattern  // how the light shines
	Lit     bool         // whether it is lit at this moment
	Down    []string     // buttons that are held, in order of the board

	Watching bool // whether the light for those who watch is lit
}

// State returns what the board shows now. The picture must not be changed.
func (b *Board) State() State {
	var down []string
	for _, name := range b.hal.Names() {
		if b.buttons[name].Held() {
			down = append(down, name)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return State{Picture: b.shown, Pattern: b.status.pattern, Lit: b.status.lit, Down: down, Watching: b.watched.lit}
}

// Changed returns a channel that holds one value whenever the State may have
// changed since the last receive: changes are coalesced, never queued. stop
// ends it; the channel is not closed.
func (b *Board) Changed() (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changed[c] = struct{}{}
	return c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.changed, c)
	}
}

func (b *Board) notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notifyLocked()
}

func (b *Board) notifyLocked() {
	for c := range b.changed {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
