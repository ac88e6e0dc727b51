// Package memstore is a store in the memory of one process: for `keyhole demo`,
// for tests, and for whoever wants to know what a store must do in the fewest
// lines. Join gives further handles onto the same records, as several nodes of
// one fleet would have.
//
// It keeps nothing over a restart; what it calls durable is as durable as the
// process.
package memstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/keyholed/keyhole/basestation/store"
)

// Store is one node's handle; it implements store.Store.
type Store struct {
	hub    *hub
	closed chan struct{}
	once   sync.Once

	mu      sync.Mutex // guards closed being closed against running.Add
	running sync.WaitGroup
}

var _ store.Store = (*Store)(nil)

// hub is what the handles share. Its lock is never held during a callback.
type hub struct {
	mu        sync.Mutex
	records   map[string]record
	revision  uint64
	watchers  map[*watcher]struct{}
	listeners map[*listener]struct{}
	log       messageLog
}

type record struct {
	value    []byte // never changes once stored
	revision uint64
}

// New returns the first handle of an empty store.
func New() *Store {
	return newHandle(&hub{
		records:   make(map[string]record),
		watchers:  make(map[*watcher]struct{}),
		listeners: make(map[*listener]struct{}),
		log:       messageLog{consumers: make(map[string]*consumer), grown: make(chan struct{})},
	})
}

// Join returns a handle for another node of the same store. Closing one leaves
// the others open.
func (s *Store) Join() *Store { return newHandle(s.hub) }

func newHandle(h *hub) *Store { return &Store{hub: h, closed: make(chan struct{})} }

// enter is how every call begins: it checks for Close and for the context's end.
func (s *Store) enter(ctx context.Context, checks ...error) error {
	for _, err := range checks {
		if err != nil {
			return err
		}
	}
	select {
	case <-s.closed:
		return store.ErrClosed
	default:
		return ctx.Err()
	}
}

// start counts a long-running call that Close waits for; false after Close.
func (s *Store) start() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
		return false
	default:
		s.running.Add(1)
		return true
	}
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	if err := s.enter(ctx, store.CheckKey(key)); err != nil {
		return nil, 0, err
	}
	s.hub.mu.Lock()
	r, ok := s.hub.records[key]
	s.hub.mu.Unlock()
	if !ok {
		return nil, 0, fmt.Errorf("get %s: %w", key, store.ErrNotFound)
	}
	return slices.Clone(r.value), r.revision, nil
}

// Create implements store.Store.
func (s *Store) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	return s.write(ctx, key, value, func(_ record, there bool) error {
		if there {
			return fmt.Errorf("create %s: %w", key, store.ErrExists)
		}
		return nil
	})
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return s.write(ctx, key, value, func(old record, there bool) error {
		if !there || old.revision != revision {
			return fmt.Errorf("update %s: %w", key, store.ErrConflict)
		}
		return nil
	})
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	return s.write(ctx, key, value, func(record, bool) error { return nil })
}

// PutSoon implements store.Store; here soon is now.
func (s *Store) PutSoon(key string, value []byte) error {
	_, err := s.Put(context.Background(), key, value)
	return err
}

// Flush implements store.Store.
func (s *Store) Flush(ctx context.Context) error { return s.enter(ctx) }

// Check implements store.Store.
func (s *Store) Check(ctx context.Context) error { return s.enter(ctx) }

func (s *Store) write(ctx context.Context, key string, value []byte, may func(old record, there bool) error) (uint64, error) {
	if err := s.enter(ctx, store.CheckKey(key), store.CheckValue(value)); err != nil {
		return 0, err
	}
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	old, there := h.records[key]
	if err := may(old, there); err != nil {
		return 0, err
	}
	h.revision++
	r := record{value: append([]byte{}, value...), revision: h.revision}
	h.records[key] = r
	h.changedLocked(store.Change{Key: key, Value: r.value, Revision: r.revision})
	return r.revision, nil
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string, revision uint64) error {
	if err := s.enter(ctx, store.CheckKey(key)); err != nil {
		return err
	}
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	old, there := h.records[key]
	switch {
	case revision != 0 && (!there || old.revision != revision):
		return fmt.Errorf("delete %s: %w", key, store.ErrConflict)
	case !there:
		return nil
	}
	h.revision++
	delete(h.records, key)
	h.changedLocked(store.Change{Key: key, Revision: h.revision, Deleted: true})
	return nil
}

// List implements store.Store. It tells what was there when it was called.
func (s *Store) List(ctx context.Context, prefix string, tell func(string, []byte, uint64) error) error {
	if err := s.enter(ctx, store.CheckPrefix(prefix)); err != nil {
		return err
	}
	s.hub.mu.Lock()
	found := s.hub.belowLocked(prefix)
	s.hub.mu.Unlock()
	for _, c := range found {
		if err := s.enter(ctx); err != nil {
			return err
		}
		if err := tell(c.Key, slices.Clone(c.Value), c.Revision); err != nil {
			return err
		}
	}
	return nil
}

// belowLocked returns what is below prefix, sorted, so that a test sees the same
// twice.
func (h *hub) belowLocked(prefix string) []store.Change {
	var keys []string
	for key := range maps.Keys(h.records) {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	found := make([]store.Change, 0, len(keys))
	for _, key := range keys {
		r := h.records[key]
		found = append(found, store.Change{Key: key, Value: r.value, Revision: r.revision})
	}
	return found
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.mu.Lock()
		close(s.closed)
		s.mu.Unlock()
	})
	s.running.Wait()
	return nil
}
