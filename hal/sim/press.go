package sim

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// lift is how long after a release Press returns: a finger has to travel before
// it presses again, and a script that presses twice shall have pressed twice
// (see hal.ConfirmPause). Still short enough for hal.DoubleWindow.
const lift = 250 * time.Millisecond

// MaxHold is the longest a hand stays on a button by itself. It is beyond every
// gesture and ends a hold whose owner forgot it.
const MaxHold = 30 * time.Second

// bounces are how often a contact opens again before it rests, and bounceStep
// the longest time of each level. Small switches bounce for 1 to 10 ms.
const (
	bounces    = 4
	bounceStep = time.Millisecond
)

// Press holds the named button for the given time and waits until the hand is
// away from it again. When ctx ends, the button is let go at once and the error
// is ctx's. ErrNoButton, ErrHeld and ErrClosed say that nothing was pressed.
func (b *Board) Press(ctx context.Context, button string, hold time.Duration) error {
	if hold <= 0 || hold > MaxHold {
		return fmt.Errorf("press %s for %v: want more than 0 and at most %v", button, hold, MaxHold)
	}
	hand, err := b.Hold(button)
	if err != nil {
		return err
	}
	defer hand.Release()
	if err := wait(ctx, hold-time.Since(hand.since)); err != nil {
		return err
	}
	hand.Release()
	return wait(ctx, lift)
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A Hand is on a button until Release.
type Hand struct {
	board  *Board
	button *Button
	since  time.Time
	once   sync.Once
	expiry *time.Timer // stopped by Release
}

// Hold presses the named button and returns when the contact rests. The hand
// lets go by itself after MaxHold. Errors as with Press.
func (b *Board) Hold(button string) (*Hand, error) {
	line, ok := b.buttons[button]
	if !ok {
		return nil, fmt.Errorf("button %q: %w", button, ErrNoButton)
	}
	if err := line.take(); err != nil {
		return nil, fmt.Errorf("button %q: %w", button, err)
	}
	hand := &Hand{board: b, button: line, since: time.Now()}
	hand.expiry = time.AfterFunc(MaxHold, hand.letGo)
	b.notify()
	b.swing(line, true)
	return hand, nil
}

// Release lets go and returns when the contact rests. It is idempotent.
func (h *Hand) Release() {
	h.expiry.Stop()
	h.letGo()
}

func (h *Hand) letGo() {
	h.once.Do(func() {
		h.board.swing(h.button, false)
		h.button.leave()
	})
}

// swing moves a line to a level as a contact does, bouncing.
func (b *Board) swing(line *Button, down bool) {
	line.Move(down)
	if !b.bounce {
		return
	}
	for range bounces {
		time.Sleep(b.pause())
		line.Move(!down)
		time.Sleep(b.pause())
		line.Move(down)
	}
}

func (b *Board) pause() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return 1 + time.Duration(b.rng.Int64N(int64(bounceStep)))
}
