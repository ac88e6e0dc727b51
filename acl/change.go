package acl

import (
	"fmt"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// MaxListBytes bounds the list as it is stored, before sealing.
const MaxListBytes = 1 << 20

// A step is one change on its way: what to do, how to tell of it, and whose
// permission it makes smaller.
type step struct {
	change
	event   Event
	smaller []identity.Fingerprint // keys that may do less than before
	blocked *Block                 // who was blocked by name
	entry   *Entry                 // the line, once it is written
	takes   bool                   // it takes away without touching a key: an invite
}

// run makes one change: plan looks at the list in force and says what to do, or
// nil for nothing. When run returns nil the change is synced in the log and in
// both copies; on an error nothing has changed.
func (s *Store) run(by By, plan func(*list) (*step, error)) error {
	st, err := s.runLocked(by, plan)
	if err != nil || st == nil {
		return err
	}
	if f := s.onRevoke.Load(); f != nil && len(st.smaller) > 0 {
		(*f)(st.smaller)
	}
	if f := s.onBlock.Load(); f != nil && st.blocked != nil {
		(*f)(st.blocked.Kind, st.blocked.Name)
	}
	if f := s.onChange.Load(); f != nil {
		(*f)()
	}
	s.tellEntry(st.entry)
	return nil
}

func (s *Store) runLocked(by By, plan func(*list) (*step, error)) (*step, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.changeable(); err != nil {
		return nil, err
	}
	old := s.current.Load()
	st, err := plan(old)
	if err != nil || st == nil {
		return nil, err
	}
	next, err := old.with(st.change)
	if err != nil {
		return nil, err
	}
	if p := st.put; p != nil && next.users[p.ID].bytes > max(maxUserBytes, old.users[p.ID].bytes) {
		return nil, ErrTooMany
	}
	if len(next.users) > MaxUsers && len(next.users) > len(old.users) {
		return nil, ErrFull
	}
	if next.bytes > MaxListBytes && next.bytes > old.bytes {
		return nil, ErrFull
	}
	less := st.takes || len(st.smaller) > 0
	if !less {
		// On a full disk what is left is for those who are to be put out.
		if err := s.ballast.keep(); full(err) {
			return nil, fmt.Errorf("access list: %w", err)
		}
	}
	e := &Entry{Event: st.event, Put: st.put, Gone: st.gone, Block: st.block, Unblock: st.unblock, Invite: st.invite, Ended: st.ended, Batch: st.batch}
	e.By = by
	s.stamp(e)
	err = s.audit.append(e, next.position, true)
	for full(err) && less && s.ballast.release() {
		err = s.audit.append(e, next.position, true)
	}
	if err != nil {
		return nil, err
	}
	next.seen, st.entry = s.audit.end(), e
	// The change is durable, so it is in force, whatever becomes of the copies.
	s.current.Store(next)
	s.writeCopies(next, st.change)
	s.keepBallast()
	return st, nil
}

func (s *Store) changeable() error {
	switch {
	case s.closed:
		return ErrClosed
	case s.readOnly != nil:
		return &ReadOnlyError{s.readOnly}
	}
	return nil
}

// A ReadOnlyError says why nothing can be changed. It is ErrReadOnly.
type ReadOnlyError struct{ Cause error }

func (e *ReadOnlyError) Error() string { return ErrReadOnly.Error() + ": " + e.Cause.Error() }

// Unwrap makes errors.Is work for ErrReadOnly and the cause.
func (e *ReadOnlyError) Unwrap() []error { return []error{ErrReadOnly, e.Cause} }

// writeCopies brings both copies to l. One that cannot be written is not an
// error of the change: the log has it, the next change or start makes the copy
// anew, and until then the other copy and the log are two.
func (s *Store) writeCopies(l *list, what change) {
	for _, c := range s.copies {
		err := c.commit(l, what)
		for full(err) && s.ballast.release() {
			err = c.commit(l, what)
		}
		if err != nil {
			s.log.Error("copy of the access list cannot be written", "file", c.path, "at", l.position.String(), "error", err)
			c.abandon(err)
		}
	}
}

// Degraded reports how many of the two copies are out of use since something
// went wrong with them. 0 is how it should be.
func (s *Store) Degraded() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.copies {
		if c.db == nil && !s.closed {
			n++
		}
	}
	return n
}

// stamp gives e the time. RFC 3339 has years 0 to 9999; clocks of boards do not
// always.
func (s *Store) stamp(e *Entry) {
	clock := s.clock()
	e.Time, e.Unset = wallTime(clock.Now), !clock.Known
	e.trim()
}

func wallTime(t time.Time) time.Time {
	t = t.UTC().Truncate(time.Second)
	if y := t.Year(); y < 1970 || y > 9998 {
		return time.Unix(0, 0).UTC()
	}
	return t
}

// now is the time for what is kept in the list.
func (s *Store) now() time.Time { return wallTime(s.clock().Now) }
