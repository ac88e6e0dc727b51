package sim

import "github.com/keyholed/keyhole/hal"

// light shows on the board what a Blinker makes of the patterns.
type light struct {
	board   *Board
	blinker *hal.Blinker
}

func newLight(b *Board) *light {
	return &light{board: b, blinker: hal.NewBlinker(func(on bool) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.lit != on {
			b.lit = on
			b.notifyLocked()
		}
		return nil
	})}
}

func (l *light) Set(p hal.Pattern) error {
	l.board.mu.Lock()
	if l.board.pattern != p {
		l.board.pattern = p
		l.board.notifyLocked()
	}
	l.board.mu.Unlock()
	return l.blinker.Set(p)
}

func (l *light) Close() error {
	l.board.mu.Lock()
	l.board.pattern = hal.Off
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
