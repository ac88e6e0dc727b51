package acl

import (
	"errors"
	"time"
)

// Events that peers can cause are bounded, or they could wear out the flash and
// push the past out of the log: floodBurst at once, then floodRate a second.
// How many were left out is in the next line that is written.
const (
	floodBurst = 2000 // 1,000 sessions that begin and end
	floodRate  = 2.0  // a second; 40 MB a day at worst
)

// flood is a token bucket on the monotonic clock.
type flood struct {
	spent  float64
	last   time.Time
	missed uint64
}

func (f *flood) take(now time.Time) bool {
	if !f.last.IsZero() {
		f.spent = max(0, f.spent-now.Sub(f.last).Seconds()*floodRate)
	}
	f.last = now
	if f.spent+1 > floodBurst {
		f.missed++
		return false
	}
	f.spent++
	return true
}

// ErrWhat means that an event is of a kind that only a change of the list makes.
var ErrWhat = errors.New("not a kind of event that can be recorded")

// Record adds an event to the audit log. It is in the file when Record returns,
// but for the rare ones not synced: a power cut may take the last half minute of
// sessions and tunnels; nothing else does. Too many at once are counted, not written.
func (s *Store) Record(e Event) error {
	sync, known := happenings[e.What]
	if !known {
		return ErrWhat
	}
	entry, err := s.written(e, sync)
	if err == nil && entry != nil {
		s.tellEntry(entry)
	}
	return err
}

// written makes the line; nil is a line too many.
func (s *Store) written(e Event, sync bool) (*Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.changeable(); err != nil {
		return nil, err
	}
	if !s.flood.take(time.Now()) {
		return nil, nil
	}
	entry := &Entry{Event: e, Missed: s.flood.missed}
	s.stamp(entry)
	l := s.current.Load()
	if err := s.audit.append(entry, l.position, sync); err != nil {
		return nil, err
	}
	s.flood.missed = 0
	if err := s.audit.prune(l, entry.Time); err != nil {
		s.log.Warn("old segments of the audit log stay", "error", err)
	}
	return entry, nil
}
