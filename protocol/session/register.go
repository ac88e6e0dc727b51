package session

import (
	"errors"
	"slices"
	"sync"

	"github.com/keyholed/keyhole/protocol/identity"
)

var (
	// errFull means that all places for sessions of this kind are taken.
	errFull = errors.New("too many sessions")
	// errEnded means that the session was closed before it began.
	errEnded = errors.New("session ended")
)

// register knows every live session.
//
// Lock order: register.mu before Session.mu.
type register struct {
	limits  Limits
	observe func(Info, bool) // never nil; called without locks

	mu       sync.Mutex
	closed   bool
	last     uint64
	sessions map[*Session]struct{}
	unpaired int
	paired   int
	perKey   map[identity.Fingerprint]int
}

func newRegister(l Limits, observe func(Info, bool)) *register {
	if observe == nil {
		observe = func(Info, bool) {}
	}
	return &register{limits: l, observe: observe, sessions: make(map[*Session]struct{}), perKey: make(map[identity.Fingerprint]int)}
}

// add puts a session on the books. It is there before known is asked, so that a
// revocation either is seen by known or finds the session.
func (r *register) add(s *Session, c *Config) error {
	if !r.enter(s) {
		return errEnded
	}

	paired := c.Known(s.info.Peer)
	if len(s.info.Chain) > 0 && c.Vouch != nil {
		if leave := c.Vouch(s.info); leave != nil {
			s.vouched(leave)
			paired = true
		}
	}

	r.mu.Lock()
	if _, there := r.sessions[s]; !there {
		r.mu.Unlock()
		return errEnded
	}
	var out *Session
	var err error
	if paired {
		if err = r.promoteLocked(s); err != nil {
			r.dropLocked(s)
		}
	} else if r.unpaired > r.limits.Unpaired {
		if out = r.evictLocked(s, c.Welcome); out == nil {
			r.dropLocked(s)
			err = errFull
		}
	}
	r.mu.Unlock()
	if out != nil {
		out.Close()
	}
	if err != nil {
		s.unvouch() // finish is for sessions that began
		return err
	}
	s.mu.Lock()
	s.watchLocked()
	s.mu.Unlock()
	r.observe(s.Info(), false)
	return nil
}

func (r *register) enter(s *Session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || r.closed {
		return false
	}
	r.last++
	s.info.Number = r.last
	r.sessions[s] = struct{}{}
	r.unpaired++ // until known has said otherwise
	return true
}

// close lets nobody in any more.
func (r *register) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}

func (r *register) promote(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, there := r.sessions[s]; there {
		_ = r.promoteLocked(s) // full: it stays an unpaired one, which only shortens its idle time
	}
}

func (r *register) promoteLocked(s *Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.info.Paired {
		return nil
	}
	if r.paired >= r.limits.Paired || r.perKey[s.info.Peer] >= r.limits.PerKey {
		return errFull
	}
	r.unpaired--
	r.paired++
	r.perKey[s.info.Peer]++
	s.info.Paired = true
	s.watchLocked()
	return nil
}

// evictLocked finds the session that makes room for the unpaired newcomer s:
// the oldest without a request of the busiest source, if that source has more
// than the newcomer's would then have; for one who is welcome, the oldest without a
// request of somebody who is not. Else nil: the newcomer is refused.
func (r *register) evictLocked(s *Session, welcome func(identity.Fingerprint) bool) *Session {
	counts := make(map[source]int)
	var idle []*Session
	for other := range r.sessions {
		info := other.Info()
		if info.Paired {
			continue
		}
		counts[other.from]++
		if other != s && info.Requests == 0 {
			idle = append(idle, other)
		}
	}
	slices.SortFunc(idle, byNumber)
	var out *Session
	for _, other := range idle {
		if out == nil || counts[other.from] > counts[out.from] {
			out = other
		}
	}
	if out != nil && counts[out.from] > counts[s.from] {
		return out
	}
	if welcome(s.info.Peer) {
		for _, other := range idle {
			if !welcome(other.info.Peer) {
				return other
			}
		}
	}
	return nil
}

func (r *register) remove(s *Session) {
	r.mu.Lock()
	_, there := r.sessions[s]
	if there {
		r.dropLocked(s)
	}
	r.mu.Unlock()
	if there {
		r.observe(s.Info(), true)
	}
}

func (r *register) dropLocked(s *Session) {
	delete(r.sessions, s)
	if !s.Info().Paired {
		r.unpaired--
		return
	}
	r.paired--
	if r.perKey[s.info.Peer]--; r.perKey[s.info.Peer] == 0 {
		delete(r.perKey, s.info.Peer)
	}
}

// all returns the live sessions, oldest first.
func (r *register) all() []*Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*Session, 0, len(r.sessions))
	for s := range r.sessions {
		list = append(list, s)
	}
	slices.SortFunc(list, byNumber)
	return list
}

// Numbers never change after add, so no lock is needed.
func byNumber(a, b *Session) int {
	if a.info.Number < b.info.Number {
		return -1
	}
	return 1
}
