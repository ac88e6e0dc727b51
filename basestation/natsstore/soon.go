package natsstore

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/keyholed/keyhole/basestation/store"
)

// Bounds of one batch. NATS takes at most 1,000 messages; bytes are ours, so that
// one batch never blocks a connection for long.
const (
	batchMessages = 1000
	batchBytes    = 1 << 20
)

// Pauses after a batch that failed, doubled each time.
const (
	soonRetryMin = 100 * time.Millisecond
	soonRetryMax = 5 * time.Second
)

// soon is the write-behind of PutSoon: the last value of each key that waits, and
// one goroutine that writes them in batches.
//
//	put -> waiting (coalesced per key) -> writing -> done
//	          ^------- failed, unless newer -┘
type soon struct {
	write func(context.Context, []pair) error
	log   *slog.Logger

	mu      sync.Mutex
	waiting map[string][]byte
	order   []string // keys of waiting, oldest first
	writing map[string]struct{}
	hurry   bool          // somebody waits: do not gather
	moved   chan struct{} // closed and replaced when a batch has ended
	closed  bool

	wake   chan struct{} // one slot: there is something to write, or to hurry for
	ctx    context.Context
	cancel context.CancelFunc
	gone   chan struct{}
}

type pair struct {
	key   string
	value []byte
}

func newSoon(write func(context.Context, []pair) error, log *slog.Logger) *soon {
	q := &soon{
		write: write, log: log,
		waiting: make(map[string][]byte),
		writing: make(map[string]struct{}),
		moved:   make(chan struct{}),
		wake:    make(chan struct{}, 1),
		gone:    make(chan struct{}),
	}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	go q.run()
	return q
}

// PutSoon implements store.Store.
func (s *Store) PutSoon(key string, value []byte) error {
	if err := s.enter(context.Background(), store.CheckKey(key), store.CheckValue(value)); err != nil {
		return err
	}
	return s.soon.put(key, append([]byte{}, value...))
}

// Flush implements store.Store.
func (s *Store) Flush(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	return s.soon.flush(ctx)
}

func (q *soon) put(key string, value []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if q.closed {
			return store.ErrClosed
		}
		_, there := q.waiting[key]
		if !there && len(q.waiting) >= store.SoonKeys {
			moved := q.moved
			q.mu.Unlock()
			<-moved
			q.mu.Lock()
			continue
		}
		q.waiting[key] = value
		if !there {
			q.order = append(q.order, key)
		}
		q.nudge()
		return nil
	}
}

func (q *soon) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// settle waits until nothing of a key waits or is being written.
func (q *soon) settle(ctx context.Context, key string) error {
	return q.until(ctx, "put soon "+key, func() bool {
		_, waits := q.waiting[key]
		_, writes := q.writing[key]
		return !waits && !writes
	})
}

// flush waits for what waits now. What comes meanwhile may be waited for too.
func (q *soon) flush(ctx context.Context) error {
	return q.until(ctx, "flush", func() bool { return len(q.waiting) == 0 && len(q.writing) == 0 })
}

func (q *soon) until(ctx context.Context, what string, done func() bool) error {
	for {
		q.mu.Lock()
		if done() {
			q.mu.Unlock()
			return nil
		}
		q.hurry = true
		moved := q.moved
		q.nudge()
		q.mu.Unlock()
		select {
		case <-moved:
		case <-q.gone:
			return store.ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		}
	}
}

// close refuses more, writes what waits until ctx ends, and stops.
func (q *soon) close(ctx context.Context) error {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	err := q.flush(ctx)
	q.cancel()
	<-q.gone
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.moved) // whoever waits for room finds the store closed
	q.moved = make(chan struct{})
	if err != nil {
		return fmt.Errorf("%d values of put soon are lost: %w", len(q.waiting), err)
	}
	return nil
}

func (q *soon) run() {
	defer close(q.gone)
	pause := soonRetryMin
	for q.ctx.Err() == nil {
		if !q.gather() {
			continue
		}
		batch := q.take()
		if len(batch) == 0 {
			continue
		}
		err := q.write(q.ctx, batch)
		q.ended(batch, err)
		if err == nil {
			pause = soonRetryMin
			continue
		}
		q.log.Warn("presence not written, trying again", "records", len(batch), "in", pause, "error", err)
		q.rest(pause)
		pause = min(2*pause, soonRetryMax)
	}
}

// gather waits for the first value, then for more of them, unless there is a full
// batch or somebody waits. False when it should look again.
func (q *soon) gather() bool {
	q.mu.Lock()
	empty, enough := len(q.order) == 0, q.hurry || len(q.order) >= batchMessages
	q.mu.Unlock()
	switch {
	case empty:
		select {
		case <-q.ctx.Done():
		case <-q.wake:
		}
		return false
	case enough:
		return true
	}
	end := time.NewTimer(store.SoonDelay)
	defer end.Stop()
	for {
		select {
		case <-q.ctx.Done():
			return false
		case <-end.C:
			return true
		case <-q.wake:
			q.mu.Lock()
			enough := q.hurry || len(q.order) >= batchMessages
			q.mu.Unlock()
			if enough {
				return true
			}
		}
	}
}

func (q *soon) rest(pause time.Duration) {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-q.ctx.Done():
	case <-t.C:
	}
}

func (q *soon) take() []pair {
	q.mu.Lock()
	defer q.mu.Unlock()
	var batch []pair
	bytes := 0
	for _, key := range q.order {
		value := q.waiting[key]
		if len(batch) == batchMessages || len(batch) > 0 && bytes+len(value) > batchBytes {
			break
		}
		batch = append(batch, pair{key, value})
		bytes += len(key) + len(value)
		delete(q.waiting, key)
		q.writing[key] = struct{}{}
	}
	q.order = q.order[len(batch):]
	if len(q.order) == 0 {
		q.order, q.hurry = nil, false
	}
	return batch
}

// ended puts back what was not written, unless something newer waits.
func (q *soon) ended(batch []pair, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.writing)
	if err != nil {
		var again []string
		for _, p := range batch {
			if _, newer := q.waiting[p.key]; !newer {
				q.waiting[p.key] = p.value
				again = append(again, p.key)
			}
		}
		q.order = append(again, q.order...)
	}
	close(q.moved)
	q.moved = make(chan struct{})
}
