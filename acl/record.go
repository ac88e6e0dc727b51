package acl

import (
	"errors"
	"time"
)

// Events that peers can cause are bounded, or they could wear out the flash and
// push the past out of the log: floodBurst at once, then floodRate a second, of
// people; a quarter of that for each of the others. How many were left out is in
// the next line that is written.
const (
	floodBurst = 2000 // 1,000 sessions that begin and end
	floodRate  = 2.0  // a second; with the others 70 MB a day at worst
)

// A crowd is whose events are bounded together: nobody can hide what others do, or
// what is rare and matters, behind a flood of his own.
type crowd int

const (
	crowdPeople    crowd = iota // sessions, tunnels and refusals of users and guests
	crowdStrangers              // the same of strangers
	crowdSupport                // what a hotline asks for
	crowdRare                   // all that nobody can cause at will
	crowds
)

// kindStranger is how the log has a key that is nobody's.
const kindStranger = "stranger"

func crowdOf(e *Event) crowd {
	switch e.What {
	case WhatSupportAction:
		return crowdSupport
	case WhatSessionStarted, WhatSessionEnded, WhatTunnelStarted, WhatTunnelEnded, WhatRefused, WhatTryFailed:
		if e.Kind == KindAnonymous.String() || e.Kind == kindStranger {
			return crowdStrangers
		}
		return crowdPeople
	}
	return crowdRare
}

// flood has a token bucket for each crowd, on the monotonic clock.
type flood struct {
	buckets [crowds]bucket
	missed  uint64
}

type bucket struct {
	spent float64
	last  time.Time
}

func (f *flood) take(now time.Time, c crowd) bool {
	b, burst, rate := &f.buckets[c], float64(floodBurst), floodRate
	if c != crowdPeople {
		burst, rate = burst/4, rate/4
	}
	if !b.last.IsZero() {
		b.spent = max(0, b.spent-now.Sub(b.last).Seconds()*rate)
	}
	b.last = now
	if b.spent+1 > burst {
		f.missed++
		return false
	}
	b.spent++
	return true
}

// ErrWhat means that an event is of a kind that only a change of the list makes.
var ErrWhat = errors.New("not a kind of event that can be recorded")

// Record adds an event to the audit log. It is in the file when Record returns,
// but for the rare ones not synced: a power cut may take the last half minute of
// sessions and tunnels; nothing else does. Too many at once are counted, not written.
func (s *Store) Record(e Event) error {
	_, err := s.Recorded(e)
	return err
}

// Recorded is Record, and tells whether the event was written; false without an error:
// it was one too many.
func (s *Store) Recorded(e Event) (written bool, err error) {
	sync, known := happenings[e.What]
	if !known {
		return false, ErrWhat
	}
	entry, err := s.written(e, sync)
	if err != nil || entry == nil {
		return false, err
	}
	s.tellEntry(entry)
	return true, nil
}

// written makes the line; nil is a line too many.
func (s *Store) written(e Event, sync bool) (*Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.changeable(); err != nil {
		return nil, err
	}
	if !s.flood.take(time.Now(), crowdOf(&e)) {
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
