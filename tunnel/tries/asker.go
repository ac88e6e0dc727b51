package tries

import (
	"slices"
	"time"

	"github.com/keyholed/keyhole/internal/pace"
)

// An Asker is one tunnel's end of the ledger. It has no state of its own: several
// of one Who count together.
type Asker struct {
	ledger *Ledger
	who    Who
	source *counter // guarded by ledger.mu; looked up anew for each try
}

// Asker returns the end for somebody's tunnel.
func (l *Ledger) Asker(w Who) *Asker { return &Asker{ledger: l, who: w} }

// An Answer is what became of a try.
type Answer int

// The answers of a service to a request with a password.
const (
	Neutral   Answer = iota // neither: an error, a redirection, a stale nonce
	Refused                 // 401; with RTSP 403 as well
	Succeeded               // it was let in where somebody without a password is not
	Abandoned               // the asker went away before there was one
)

// A Try is one request with a password under way. End must be called once.
type Try struct {
	asker      *Asker
	credential uint64
	counters   []*counter
	own        *own // nil: the shared counters
	deadline   time.Time
	counted    bool // as failed, for lack of an answer
	exempt     bool // the password that succeeded last, shown again
}

// waiter is who waits for a try.
type waiter struct {
	service *service
	source  *counter
}

// Delay is how long a try would have to wait now, not counting others that wait.
func (a *Asker) Delay() time.Duration {
	l := a.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if o := a.ownLocked(); o != nil {
		return o.wait(now)
	}
	wait := l.serviceLocked(a.who.Service).shared.wait(now)
	if c := l.sources[pace.Source(a.who.Source)]; c != nil {
		wait = max(wait, c.wait(now))
	}
	return wait
}

// Known says whether the asker has a counter of his own.
func (a *Asker) Known() bool {
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	return a.who.User != "" || a.ledger.serviceLocked(a.who.Service).known[a.who.Key] != nil
}

// Knows says whether a stranger with this key has succeeded at any service.
func (l *Ledger) Knows(key [32]byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.services {
		if s.known[key] != nil {
			return true
		}
	}
	return false
}

// Challenged notes that a request was refused to somebody without a password, or
// with a wrong one of this scheme. Request is a number that stands for method,
// target and scheme.
func (a *Asker) Challenged(request uint64) {
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	s := a.ledger.serviceLocked(a.who.Service)
	if request == 0 || slices.Contains(s.challenged[:], request) {
		return
	}
	s.challenged[s.next] = request
	s.next = (s.next + 1) % maxChallenged
}

// IsChallenged says whether that is so.
func (a *Asker) IsChallenged(request uint64) bool {
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	return request != 0 && slices.Contains(a.ledger.serviceLocked(a.who.Service).challenged[:], request)
}

// Begin takes a try, as soon as there is one to be had. It is false when gone was
// closed before. Credential is a number that stands for the password, the same for
// the same one; 0 where that cannot be told.
func (a *Asker) Begin(gone <-chan struct{}, credential uint64) (*Try, bool) {
	l := a.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	var w *waiter
	defer func() {
		if w != nil {
			l.waiting = slices.DeleteFunc(l.waiting, func(x *waiter) bool { return x == w })
			l.wakeLocked()
		}
	}()
	for {
		t, next := a.takeLocked(time.Now(), credential, w)
		if t != nil {
			return t, true
		}
		if w == nil {
			w = &waiter{service: l.serviceLocked(a.who.Service), source: a.source}
			l.waiting = append(l.waiting, w)
		}
		if !l.sleepLocked(gone, next) {
			return nil, false
		}
	}
}

// sleepLocked waits for a change, for the time until, or for gone, which is false.
func (l *Ledger) sleepLocked(gone <-chan struct{}, until time.Duration) bool {
	changed := l.changed
	l.mu.Unlock()
	defer l.mu.Lock()
	t := time.NewTimer(until)
	defer t.Stop()
	select {
	case <-gone:
		return false
	case <-changed:
	case <-t.C:
	}
	return true
}

func (l *Ledger) wakeLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// ownLocked returns the counter that is this asker's alone, nil if he has none.
func (a *Asker) ownLocked() *own {
	s := a.ledger.serviceLocked(a.who.Service)
	if a.who.User == "" {
		return s.known[a.who.Key]
	}
	o := s.users[a.who.User]
	if o == nil {
		if len(s.users) >= MaxUsers {
			s.dropUser()
		}
		o = new(own)
		s.users[a.who.User] = o
	}
	return o
}

// takeLocked takes a try if one is free and it is w's turn; else it returns when to
// look again at the latest.
func (a *Asker) takeLocked(now time.Time, credential uint64, w *waiter) (*Try, time.Duration) {
	l := a.ledger
	l.expireLocked(now)
	o := a.ownLocked()
	t := &Try{asker: a, credential: credential, own: o}
	if o != nil {
		t.exempt = credential != 0 && credential == o.proven
		t.deadline, t.counters = now.Add(ownPatience), []*counter{&o.counter}
		if !t.exempt && !o.free(now, flyingOwn) {
			return nil, l.nextLocked(now, &o.counter)
		}
	} else {
		s := l.serviceLocked(a.who.Service)
		a.source = l.sourceLocked(pace.Source(a.who.Source))
		t.deadline, t.counters = now.Add(sharedPatience), []*counter{&s.shared, a.source}
		if !s.shared.free(now, 0) || !a.source.free(now, 0) || !l.turnLocked(now, w, s, a.source) {
			return nil, l.nextLocked(now, &s.shared, a.source)
		}
	}
	if !t.exempt {
		for _, c := range t.counters {
			c.flying++
		}
		l.flying[t] = true
	}
	return t, 0
}

// turnLocked says whether it is w's turn among those that wait at his service: who
// comes from where fewest tries have failed goes first, then who waits longest. So
// somebody new has his turn beside a guesser who never rests.
func (l *Ledger) turnLocked(now time.Time, w *waiter, s *service, source *counter) bool {
	ahead := true // of w in the line; a newcomer is behind all
	for _, x := range l.waiting {
		if x == w {
			ahead = false
			continue
		}
		if x.service != s || x.source == nil || !x.source.free(now, 0) {
			continue
		}
		if x.source.failures < source.failures || x.source.failures == source.failures && ahead {
			return false
		}
	}
	return true
}

// nextLocked is when a try may become free without anybody telling.
func (l *Ledger) nextLocked(now time.Time, counters ...*counter) time.Duration {
	next := MaxDelay
	for _, c := range counters {
		if wait := c.wait(now); wait > 0 {
			next = min(next, wait)
		}
	}
	for t := range l.flying {
		next = min(next, max(0, t.deadline.Sub(now)))
	}
	return next + time.Millisecond // not a moment too early
}

// expireLocked counts the tries that have been without an answer for too long.
func (l *Ledger) expireLocked(now time.Time) {
	for t := range l.flying {
		if now.Before(t.deadline) {
			continue
		}
		l.landLocked(t)
		t.counted = true
		for _, c := range t.counters {
			c.fail(now)
		}
	}
}

func (l *Ledger) landLocked(t *Try) {
	if l.flying[t] {
		delete(l.flying, t)
		for _, c := range t.counters {
			c.flying--
		}
	}
}

// End says what came of a try. After a refusal it returns when that is kept.
func (t *Try) End(answer Answer) {
	l := t.asker.ledger
	l.mu.Lock()
	keep, failed := t.endLocked(answer, time.Now())
	l.wakeLocked()
	l.mu.Unlock()
	if keep {
		l.keep()
	}
	if failed && l.config.Failed != nil {
		l.config.Failed(t.asker.who, t.asker.Delay())
	}
}

func (t *Try) endLocked(answer Answer, now time.Time) (keep, failed bool) {
	l := t.asker.ledger
	l.landLocked(t)
	if answer == Abandoned {
		answer = Refused // an exchange that was broken off is a failed one
		if t.own != nil {
			answer = Neutral // nothing was learnt by it, and browsers do it all the time
		}
	}
	switch {
	case answer == Refused && !t.counted:
		for _, c := range t.counters {
			c.fail(now)
		}
	case answer != Refused && t.counted:
		for _, c := range t.counters {
			c.failures = max(0, c.failures-1)
		}
	}
	if answer == Refused {
		t.refusedLocked()
		return true, true
	}
	if answer == Succeeded {
		keep = t.succeededLocked(now)
	}
	return keep || t.counted, false
}

// refusedLocked takes back what a key had by its success when it fails on and on:
// keys can be made, and each would be good for MaxDelay's 96 tries a day.
func (t *Try) refusedLocked() {
	if t.own == nil {
		return
	}
	t.own.proven = 0
	if w := t.asker.who; w.User == "" && t.own.failures >= maxFailures {
		delete(t.asker.ledger.serviceLocked(w.Service).known, w.Key)
	}
}

// succeededLocked makes a stranger known, and reports whether that is news.
func (t *Try) succeededLocked(now time.Time) (news bool) {
	a := t.asker
	o := a.ownLocked()
	if o == nil {
		s := a.ledger.serviceLocked(a.who.Service)
		if !s.mayAdd(now) {
			return false
		}
		o, news = new(own), true
		s.known[a.who.Key] = o
	}
	o.proven, o.success = t.credential, now
	return news
}

// mayAdd paces those who become known, and makes room.
func (s *service) mayAdd(now time.Time) bool {
	if !s.newcomers.AllowAt(now) {
		return false
	}
	for len(s.known) >= MaxKnown {
		var oldest [32]byte
		var o *own
		for k, x := range s.known {
			if o == nil || x.success.Before(o.success) {
				oldest, o = k, x
			}
		}
		delete(s.known, oldest)
	}
	return true
}

// dropUser forgets the user whose failures are fewest, of those with no try under
// way.
func (s *service) dropUser() {
	name, least := "", (*own)(nil)
	for n, o := range s.users {
		if o.flying == 0 && (least == nil || o.failures < least.failures) {
			name, least = n, o
		}
	}
	delete(s.users, name)
}

// Fail counts a failed try that no Begin came before.
func (a *Asker) Fail() {
	l := a.ledger
	l.mu.Lock()
	o := a.ownLocked()
	t := &Try{asker: a, own: o}
	if o != nil {
		t.counters = []*counter{&o.counter}
	} else {
		t.counters = []*counter{&l.serviceLocked(a.who.Service).shared, l.sourceLocked(pace.Source(a.who.Source))}
	}
	l.mu.Unlock()
	t.End(Refused)
}
