package sim

import (
	"sync"
	"time"

	"github.com/keyholed/keyhole/hal"
)

// edgeQueue is how many edges wait for a slow reader, as many as the kernel
// keeps for a GPIO line; after that they are lost and the reader told so.
const edgeQueue = 16

// Button is one simulated button: a line that a test moves edge by edge, or a
// hand through Board.Hold.
type Button struct {
	name    string
	changed func()
	edges   chan hal.Edge

	mu     sync.Mutex
	down   bool // level of the line
	held   bool // a hand is on it
	away   bool // unplugged
	closed bool
}

func newButton(name string, down bool, changed func()) *Button {
	b := &Button{name: name, changed: changed, down: down, edges: make(chan hal.Edge, edgeQueue)}
	b.edges <- hal.Edge{Down: down, At: time.Now(), Resync: true}
	return b
}

// NewButton returns a single button and the level of its line.
func NewButton(name string, down bool) *Button { return newButton(name, down, func() {}) }

func (b *Button) String() string { return "simulated " + b.name }

// Edges is part of hal.Button.
func (b *Button) Edges() <-chan hal.Edge { return b.edges }

// Close is part of hal.Button.
func (b *Button) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		close(b.edges)
	}
	return nil
}

// Move sets the level of the line, now: one edge, if it is a change.
func (b *Button) Move(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down == down {
		return
	}
	b.down = down
	if !b.away {
		b.tellLocked(hal.Edge{Down: down, At: time.Now()})
	}
}

// Unplug takes the button off its line, whose level then reads as up, and
// Replug puts it back as it stands.
func (b *Button) Unplug() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = true
	b.tellLocked(hal.Edge{At: time.Now(), Resync: true})
}

// Replug is the contrary of Unplug.
func (b *Button) Replug() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = false
	b.tellLocked(hal.Edge{Down: b.down, At: time.Now(), Resync: true})
}

func (b *Button) tellLocked(e hal.Edge) {
	if b.closed {
		return
	}
	select {
	case b.edges <- e:
		return
	default:
	}
	// Full. The oldest goes and the newest says that some are missing, so that
	// the reader ends at the level that stands. Only the reader competes.
	select {
	case <-b.edges:
	default:
	}
	e.Resync = true
	b.edges <- e
}

// Held reports whether a hand is on the button.
func (b *Button) Held() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}

// take puts a hand on the button; only one fits.
func (b *Button) take() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return ErrClosed
	case b.held:
		return ErrHeld
	}
	b.held = true
	return nil
}

func (b *Button) leave() {
	b.mu.Lock()
	b.held = false
	b.mu.Unlock()
	b.changed()
}
