package hal

import (
	"sync"
	"time"
)

// A Blinker is a Light made of a line that can only be switched on and off: it
// owns the one goroutine that keeps the time. Create it with NewBlinker.
type Blinker struct {
	set    func(on bool) error
	update chan Pattern // never full for long: the goroutine only waits
	stop   chan struct{}
	closed sync.Once
	done   chan struct{}
	err    error // of the last switching; guarded by mu
	mu     sync.Mutex
}

// NewBlinker returns a light that is off and switches the line with set, which
// is called from one goroutine at a time and should return at once.
func NewBlinker(set func(on bool) error) *Blinker {
	b := &Blinker{
		set:    set,
		update: make(chan Pattern),
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	go b.run()
	return b
}

// Set shows p from now on. The error is of the last switching of the line; a
// light that failed is tried again at its next change. After Close it does nothing.
func (b *Blinker) Set(p Pattern) error {
	select {
	case b.update <- p:
	case <-b.done:
	}
	return b.lastErr()
}

// Close turns the line off, waits for the goroutine, and returns the error of
// that last switching.
func (b *Blinker) Close() error {
	b.closed.Do(func() { close(b.stop) })
	<-b.done
	return b.lastErr()
}

func (b *Blinker) lastErr() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

func (b *Blinker) turn(on bool) {
	err := b.set(on)
	b.mu.Lock()
	b.err = err
	b.mu.Unlock()
}

func (b *Blinker) run() {
	defer close(b.done)
	pattern, began := Off, time.Now()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	b.turn(false)
	for {
		select {
		case <-b.stop:
			b.turn(false)
			return
		case next := <-b.update:
			if next == pattern {
				continue
			}
			pattern, began = next, time.Now()
		case <-timer.C:
		}
		lit, change := pattern.At(time.Since(began))
		b.turn(lit)
		if change > 0 {
			timer.Reset(change)
		} else {
			timer.Stop()
		}
	}
}
