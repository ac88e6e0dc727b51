package natsstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/keyholed/keyhole/basestation/store"
)

// pendingBytes bounds what waits for one subscriber, beside
// store.PendingMessages.
const pendingBytes = 64 << 20

// Publish implements store.Store.
func (s *Store) Publish(subject string, data []byte) error {
	if err := s.enter(context.Background(), store.CheckSubject(subject), store.CheckData(data)); err != nil {
		return err
	}
	if err := s.conn.Publish(s.names.message(subject), data); err != nil {
		return s.unsent("publish "+subject, err)
	}
	return nil
}

// unsent says why a message did not leave. It says nothing of the health of the
// records.
func (s *Store) unsent(what string, err error) error {
	if s.ctx.Err() != nil {
		return store.ErrClosed
	}
	return fmt.Errorf("%s: %w: %w", what, store.ErrUnavailable, err)
}

// ear is one subscription. Its lock is held during a call, so that stop can wait.
type ear struct {
	mu      sync.Mutex
	stopped bool
}

// Subscribe implements store.Store.
func (s *Store) Subscribe(pattern string, hear func(string, []byte, func([]byte))) (func(), error) {
	if err := store.CheckPattern(pattern); err != nil {
		return nil, err
	}
	_, done, err := s.start(context.Background())
	if err != nil {
		return nil, err
	}
	e := &ear{}
	skip := len(s.names.message(""))
	subscription, err := s.conn.Subscribe(s.names.message(pattern), func(m *nats.Msg) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if !e.stopped && len(m.Subject) > skip {
			hear(m.Subject[skip:], m.Data, s.replier(m))
		}
	})
	if err != nil {
		done()
		return nil, s.unsent("subscribe "+pattern, err)
	}
	var once sync.Once
	stop := func() {
		once.Do(func() {
			_ = subscription.Unsubscribe() // fails on a closed connection, which has the same effect
			e.mu.Lock()
			e.stopped = true
			e.mu.Unlock()
			done()
		})
	}
	detach := context.AfterFunc(s.ctx, stop)
	_ = subscription.SetPendingLimits(store.PendingMessages, pendingBytes) // fails on a closed one alone
	ctx, cancel := context.WithTimeout(s.ctx, attemptTimeout)
	defer cancel()
	if err := s.conn.FlushWithContext(ctx); err != nil {
		detach()
		stop()
		return nil, s.unsent("subscribe "+pattern, err)
	}
	return func() {
		detach()
		stop()
	}, nil
}

// replier answers once; afterwards, and to a message that was published, it does
// nothing.
func (s *Store) replier(m *nats.Msg) func([]byte) {
	var used atomic.Bool
	return func(data []byte) {
		if m.Reply == "" || used.Swap(true) || store.CheckData(data) != nil {
			return
		}
		if err := s.conn.Publish(m.Reply, data); err != nil {
			s.log.Debug("answer not sent", "subject", m.Subject, "error", err)
		}
	}
}

// Request implements store.Store.
func (s *Store) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	what := "request " + subject
	if err := s.enter(ctx, store.CheckSubject(subject), store.CheckData(data)); err != nil {
		return nil, err
	}
	merged, done, err := s.start(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if _, limited := ctx.Deadline(); !limited {
		limit, cancel := context.WithTimeout(merged, store.RequestTimeout)
		defer cancel()
		merged = limit
	}
	answer, err := s.conn.RequestWithContext(merged, s.names.message(subject), data)
	switch {
	case err == nil:
		return answer.Data, nil
	case s.ctx.Err() != nil:
		return nil, store.ErrClosed
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("%s: %w", what, store.ErrNoResponder)
	case merged.Err() != nil:
		return nil, fmt.Errorf("%s: %w", what, merged.Err())
	}
	return nil, s.unsent(what, err)
}
