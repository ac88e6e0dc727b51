package pairing

import (
	"sync"
	"sync/atomic"
)

// A Counter keeps one number over restarts: the tries since the last success. A
// factory reset does not clear it, so it belongs beside the device's key.
type Counter interface {
	// Load returns the number that was stored last, 0 if there never was one.
	Load() (int, error)
	// Store returns when n is on the disk to stay.
	Store(n int) error
}

// lifetime is the counter with what is known of it in memory.
type lifetime struct {
	mu    sync.Mutex // held while the disk works; taken before no other lock
	store Counter
	tries atomic.Int64 // written under mu
	known atomic.Bool  // tries is what the disk has, or more
}

// load reads the counter if that was not possible before.
func (l *lifetime) load() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known.Load() {
		return nil
	}
	n, err := l.store.Load()
	if err != nil {
		return err
	}
	l.tries.Store(int64(max(n, 0)))
	l.known.Store(true)
	return nil
}

func (l *lifetime) locked() bool { return !l.known.Load() || l.tries.Load() >= TriesPerLife }

// count adds a try and returns when the disk has it. One that could not be
// written counts in memory all the same. It returns a LockedError when none is left.
func (l *lifetime) count() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.locked() {
		return &LockedError{Tries: int(l.tries.Load())}
	}
	return l.store.Store(int(l.tries.Add(1)))
}

// giveBack takes a try back that was proven to be none.
func (l *lifetime) giveBack() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := max(l.tries.Load()-1, 0)
	if err := l.store.Store(int(n)); err != nil {
		return err
	}
	l.tries.Store(n)
	return nil
}

// clear forgets all tries.
func (l *lifetime) clear() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.store.Store(0); err != nil {
		return err
	}
	l.tries.Store(0)
	l.known.Store(true)
	return nil
}
