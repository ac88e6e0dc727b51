package memstore

import (
	"context"
	"slices"
	"strings"

	"github.com/keyholed/keyhole/basestation/store"
)

// watcher holds what one Watch has still to tell: the last change of each key, in
// the order in which the keys first changed. So a slow watcher costs no more than
// the records it has not seen.
type watcher struct {
	prefix  string
	pending map[string]store.Change // guarded by hub.mu
	order   []string                // guarded by hub.mu
	wake    chan struct{}           // one slot
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string, tell func(store.Change)) error {
	if err := store.CheckPrefix(prefix); err != nil {
		return err
	}
	if !s.start() {
		return store.ErrClosed
	}
	defer s.running.Done()
	w := &watcher{prefix: prefix, pending: make(map[string]store.Change), wake: make(chan struct{}, 1)}
	h := s.hub
	h.mu.Lock()
	first := h.belowLocked(prefix)
	h.watchers[w] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.watchers, w)
		h.mu.Unlock()
	}()
	for changes := append(first, store.Change{}); ; changes = h.take(w) {
		for _, c := range changes {
			select {
			case <-ctx.Done():
				return nil
			case <-s.closed:
				return store.ErrClosed
			default:
			}
			c.Value = slices.Clone(c.Value)
			tell(c)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.closed:
			return store.ErrClosed
		case <-w.wake:
		}
	}
}

func (h *hub) take(w *watcher) []store.Change {
	h.mu.Lock()
	defer h.mu.Unlock()
	changes := make([]store.Change, 0, len(w.order))
	for _, key := range w.order {
		changes = append(changes, w.pending[key])
	}
	clear(w.pending)
	w.order = w.order[:0]
	return changes
}

func (h *hub) changedLocked(c store.Change) {
	for w := range h.watchers {
		if !strings.HasPrefix(c.Key, w.prefix) {
			continue
		}
		if _, waits := w.pending[c.Key]; !waits {
			w.order = append(w.order, c.Key)
		}
		w.pending[c.Key] = c
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}
