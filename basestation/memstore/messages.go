package memstore

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/keyholed/keyhole/basestation/store"
)

// listener is one subscription: a bounded queue and one goroutine.
type listener struct {
	pattern string
	queue   chan message // never closed; full means drop
	stopped chan struct{}
	once    sync.Once
	gone    chan struct{} // closed when the goroutine has ended
}

type message struct {
	subject string
	data    []byte
	answer  chan<- []byte // one slot; nil for a message that was published
}

func (m message) reply(data []byte) {
	if m.answer == nil || store.CheckData(data) != nil {
		return
	}
	select {
	case m.answer <- slices.Clone(data):
	default:
	}
}

// Publish implements store.Store.
func (s *Store) Publish(subject string, data []byte) error {
	if err := s.enter(context.Background(), store.CheckSubject(subject), store.CheckData(data)); err != nil {
		return err
	}
	s.hub.send(message{subject: subject, data: data})
	return nil
}

// send returns how many were told. The lock keeps the order of one sender.
func (h *hub) send(m message) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	told := 0
	for l := range h.listeners {
		if !store.Matches(l.pattern, m.subject) {
			continue
		}
		told++
		each := m
		each.data = slices.Clone(m.data)
		select {
		case l.queue <- each:
		default:
		}
	}
	return told
}

// Subscribe implements store.Store.
func (s *Store) Subscribe(pattern string, hear func(string, []byte, func([]byte))) (func(), error) {
	if err := store.CheckPattern(pattern); err != nil {
		return nil, err
	}
	if !s.start() {
		return nil, store.ErrClosed
	}
	l := &listener{
		pattern: pattern,
		queue:   make(chan message, memoryPending),
		stopped: make(chan struct{}),
		gone:    make(chan struct{}),
	}
	s.hub.mu.Lock()
	s.hub.listeners[l] = struct{}{}
	s.hub.mu.Unlock()
	go s.listen(l, hear)
	return func() {
		l.once.Do(func() { close(l.stopped) })
		<-l.gone
	}, nil
}

// memoryPending is smaller than store.PendingMessages, because a channel takes its
// room at once: 48 bytes each.
const memoryPending = 4096

func (s *Store) listen(l *listener, hear func(string, []byte, func([]byte))) {
	defer s.running.Done()
	defer close(l.gone)
	defer func() {
		s.hub.mu.Lock()
		delete(s.hub.listeners, l)
		s.hub.mu.Unlock()
	}()
	for {
		select {
		case <-s.closed:
			return
		case <-l.stopped:
			return
		case m := <-l.queue:
			hear(m.subject, m.data, m.reply)
		}
	}
}

// Request implements store.Store.
func (s *Store) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	if err := s.enter(ctx, store.CheckSubject(subject), store.CheckData(data)); err != nil {
		return nil, err
	}
	if _, limited := ctx.Deadline(); !limited {
		limit, cancel := context.WithTimeout(ctx, store.RequestTimeout)
		defer cancel()
		ctx = limit
	}
	answer := make(chan []byte, 1)
	if s.hub.send(message{subject: subject, data: data, answer: answer}) == 0 {
		return nil, fmt.Errorf("request %s: %w", subject, store.ErrNoResponder)
	}
	select {
	case data := <-answer:
		return data, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("request %s: %w", subject, ctx.Err())
	case <-s.closed:
		return nil, store.ErrClosed
	}
}
