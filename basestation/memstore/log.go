package memstore

import (
	"context"
	"slices"
	"time"

	"github.com/keyholed/keyhole/basestation/store"
)

// memoryLogBytes bounds the log here instead of store.LogBytes: it is memory.
const memoryLogBytes = 16 << 20

// messageLog is the log of a hub and the places of its consumers; hub.mu guards
// all of it.
type messageLog struct {
	entries   []entry // ascending by number
	last      uint64  // number of the newest, 0 before any
	bytes     int
	consumers map[string]*consumer
	grown     chan struct{} // closed and replaced when there is something to take
}

type entry struct {
	number  uint64
	subject string
	data    []byte // never changes
	when    time.Time
}

// consumer is a name's place: everything up to after has been handed out, and
// refused are those to hand out again.
type consumer struct {
	after   uint64
	refused []refusal
}

type refusal struct {
	number uint64
	tries  int
	due    time.Time
}

// Log implements store.Store.
func (s *Store) Log(ctx context.Context, subject string, data []byte) error {
	if err := s.enter(ctx, store.CheckSubject(subject), store.CheckData(data)); err != nil {
		return err
	}
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.hub.log.append(entry{subject: subject, data: slices.Clone(data), when: time.Now()})
	return nil
}

func (l *messageLog) append(e entry) {
	l.last++
	e.number = l.last
	l.entries = append(l.entries, e)
	l.bytes += len(e.data)
	old := 0
	for old < len(l.entries) && (l.bytes > memoryLogBytes || e.when.Sub(l.entries[old].when) > store.LogAge) {
		l.bytes -= len(l.entries[old].data)
		old++
	}
	l.entries = slices.Delete(l.entries, 0, old)
	l.stir()
}

// stir wakes everyone who waits in Consume.
func (l *messageLog) stir() {
	close(l.grown)
	l.grown = make(chan struct{})
}

// Consume implements store.Store.
func (s *Store) Consume(ctx context.Context, name, pattern string, take func(string, []byte) error) error {
	if err := s.enter(context.Background(), store.CheckName(name), store.CheckPattern(pattern)); err != nil {
		return err
	}
	if !s.start() {
		return store.ErrClosed
	}
	defer s.running.Done()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.closed:
			return store.ErrClosed
		default:
		}
		e, tries, wait, grown := s.hub.next(name, pattern)
		if e == nil {
			s.rest(ctx, wait, grown)
			continue
		}
		if err := take(e.subject, slices.Clone(e.data)); err != nil {
			s.hub.refuse(name, e.number, tries+1, ctx.Err() != nil)
		}
	}
}

// rest waits for the log to grow, for a refused entry to be due, or for the end.
func (s *Store) rest(ctx context.Context, wait time.Duration, grown <-chan struct{}) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-s.closed:
	case <-grown:
	case <-timer.C:
	}
}

// next hands out a refused entry that is due, else the next one of the log, else
// how long there is nothing to do.
func (h *hub) next(name, pattern string) (*entry, int, time.Duration, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.log.consumers[name]
	if c == nil {
		c = &consumer{}
		h.log.consumers[name] = c
	}
	wait := store.ConsumeRetryMax
	now := time.Now()
	for i, r := range c.refused {
		if left := r.due.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		c.refused = slices.Delete(c.refused, i, i+1)
		if e := h.log.find(r.number); e != nil {
			return e, r.tries, 0, nil
		}
		return nil, 0, 0, h.log.grown // it was too old: look again at once
	}
	unseen := h.log.entries
	if len(unseen) > 0 && c.after >= unseen[0].number {
		unseen = unseen[c.after-unseen[0].number+1:]
	}
	for _, e := range unseen {
		c.after = e.number
		if store.Matches(pattern, e.subject) {
			return &e, 0, 0, nil
		}
	}
	return nil, 0, wait, h.log.grown
}

func (l *messageLog) find(number uint64) *entry {
	if len(l.entries) == 0 || number < l.entries[0].number {
		return nil
	}
	e := l.entries[number-l.entries[0].number]
	return &e
}

// refuse puts an entry back: with a delay, or at once when its consumer has gone.
func (h *hub) refuse(name string, number uint64, tries int, gone bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delay := store.ConsumeRetryMin << min(tries-1, 16)
	delay = min(delay, store.ConsumeRetryMax)
	if gone {
		delay, tries = 0, 0
	}
	c := h.log.consumers[name]
	c.refused = append(c.refused, refusal{number: number, tries: tries, due: time.Now().Add(delay)})
	h.log.stir()
}
