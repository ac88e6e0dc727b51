package sim

import "github.com/keyholed/keyhole/hal"

// A lamp is what one sees of a light. Guarded by Board.mu.
type lamp struct {
	pattern hal.Pattern
	lit     bool
}

// light shows on the board what a Blinker makes of the patterns.
type light struct {
	board   *Board
	lamp    *lamp
	blinker *hal.Blinker
}

func newLight(b *Board, shown *lamp) *light {
	return &light{board: b, lamp: shown, blinker: hal.NewBlinker(func(on bool) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if shown.lit != on {
			shown.lit = on
			b.notifyLocked()
		}
		return nil
	})}
}

func (l *light) Set(p hal.Pattern) error {
	l.board.mu.Lock()
	if l.lamp.pattern != p {
		l.lamp.pattern = p
		l.board.notifyLocked()
	}
	l.board.mu.Unlock()
	return l.blinker.Set(p)
}

func (l *light) Close() error {
	l.board.mu.Lock()
	l.lamp.pattern = hal.Off
	l.board.mu.Unlock()
	return l.blinker.Close()
}

// display keeps what was shown last.
type display struct{ board *Board }

func (d display) Show(p *hal.Picture) error {
	d.board.mu.Lock()
	defer d.board.mu.Unlock()
	if d.board.closed {
		return ErrClosed
	}
	if !d.board.shown.Equal(p) {
		d.board.shown = p.Clone()
		d.board.notifyLocked()
	}
	return nil
}

func (d display) Close() error {
	d.board.mu.Lock()
	defer d.board.mu.Unlock()
	d.board.shown = &hal.Picture{}
	d.board.notifyLocked()
	return nil
}
