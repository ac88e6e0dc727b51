package daemon

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/central"
)

// Figures of the vendor's list.
const (
	// listJitter is by how much of the interval each poll is earlier or later, so that
	// a fleet does not ask in step.
	listJitter = 0.2
	// firstPoll bounds when a device asks after its start: a fleet comes back at once
	// after a power cut. It is a sixtieth of the interval, at most this.
	firstPoll = time.Minute
	// listRetry is the first wait after a failure; it doubles up to the interval.
	listRetry = time.Minute
	// clockWait is how often it is looked whether the clock is set by now.
	clockWait = 10 * time.Second
)

// Why a list does not count here.
var (
	errOtherList  = errors.New("the list is for another device")
	errOldList    = errors.New("an older version than one that was here: a rollback")
	errTwoLists   = errors.New("another list of the same version")
	errListClock  = errors.New("clock not set: no certificate can be judged")
	errListOff    = errors.New("refused by the owner")
	errListFloors = errors.New("which version was here cannot be written down")
)

// A listDesk fetches the vendor's list and brings it into the access list. The task
// runs where pairing.modes has "central".
//
//	poll -> fetch (HTTPS, ETag) -> signed by the vendor? for me? not older than one
//	        that was here? -> its version written down, synced -> acl.MergeCentral
//	                                                              (sessions cut)
//
// A list that cannot be had, or that does not hold, changes nothing: the last one
// stays in force, within the end that it states itself.
type listDesk struct {
	d     *Daemon
	log   *slog.Logger
	keys  central.Keys
	roles []string
	poll  time.Duration
	from  *listSource
	floor *listFloor
	clock func() acl.Clock

	kicked chan struct{} // holds one: ask now

	mu    sync.Mutex
	state listState
	last  *central.List // that was taken since the start, for when it is told unchanged
}

// listState is what the status tells.
type listState struct {
	version uint64
	people  int // that came in
	refused int // that did not
	asked   time.Time
	had     time.Time // a list that holds was had; zero: not since the start
	err     error     // of the last try
}

// openList makes the task that fetches the list; nothing where there is none.
func (d *Daemon) openList() error {
	c := d.config().Central
	if c.List == "" {
		if err := d.dropList("no list is configured"); err != nil && !errors.Is(err, acl.ErrReadOnly) {
			return fmt.Errorf("users of a list that is not configured any more: %w", err)
		}
		return nil
	}
	texts, setting := c.ListKeys, "central.list_key"
	if len(texts) == 0 {
		texts, setting = c.Keys, "central.key"
	}
	keys, err := vendorKeys(texts, setting)
	if err != nil {
		return err
	}
	from, err := newListSource(c.List, d.key.ID(), c.Roots, func() time.Time { return d.clock().Now })
	if err != nil {
		return err
	}
	log := d.log.With("room", "central")
	d.list = &listDesk{
		d: d, log: log, keys: keys, roles: c.Roles, poll: c.Poll, from: from,
		floor: openListFloor(d.config().Device.Identity, d.config().Device.State, log), kicked: make(chan struct{}, 1), clock: d.clock,
	}
	d.list.state.version = d.list.floor.now.Version
	return nil
}

// run asks for the list until ctx ends. That it cannot be had keeps nobody from
// being ready.
func (t *listDesk) run(ctx context.Context, ready func()) error {
	defer t.from.close()
	ready()
	wait := rand.N(min(t.poll/60, firstPoll))
	failures := 0
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-t.kicked:
			timer.Stop()
		case <-timer.C:
		}
		err := t.ask(ctx)
		if ctx.Err() != nil {
			return nil
		}
		t.report(err)
		switch {
		case errors.Is(err, errListClock):
			wait = clockWait
		case err == nil || errors.Is(err, errListOff):
			failures, wait = 0, jittered(t.poll)
		default:
			failures++
			wait = jittered(min(t.poll, listRetry<<min(failures-1, 20)))
		}
	}
}

func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 - listJitter + 2*listJitter*rand.Float64()))
}

// kick has the list asked for now. A nil desk does nothing.
func (t *listDesk) kick() {
	if t == nil {
		return
	}
	select {
	case t.kicked <- struct{}{}:
	default: // it will be anyway
	}
}

// ask fetches the list once and brings it in.
func (t *listDesk) ask(ctx context.Context) error {
	if !t.d.takesCentral() {
		return cmp.Or(t.d.dropList("refused by the owner"), errListOff)
	}
	if !t.clock().Known {
		return errListClock
	}
	token, err := t.from.fetch(ctx)
	if errors.Is(err, errUnchanged) {
		return t.again()
	}
	if err != nil {
		return err
	}
	l, err := t.judge(token)
	if err != nil {
		t.from.forget()
		return err
	}
	if err := t.bring(&l); err != nil {
		t.from.forget() // so that it is sent whole the next time
		return err
	}
	return nil
}

// again brings in the list that the server says has not changed: what the owner put
// out may have been let in again.
func (t *listDesk) again() error {
	t.mu.Lock()
	last := t.last
	t.mu.Unlock()
	if last == nil {
		t.from.forget()
		return errors.New("the server says that nothing changed, and there was no list since the start")
	}
	return t.bring(last)
}

// judge says whether a list may be brought in, and writes down its version before.
func (t *listDesk) judge(token []byte) (central.List, error) {
	l, err := t.keys.ReadList(token)
	if err != nil {
		return l, err
	}
	if l.Device != t.d.key.ID() {
		return l, errOtherList
	}
	mark := listMark{l.Version, digestOf(&l)}
	switch have := t.floor.now; {
	case mark.Version < have.Version:
		return l, fmt.Errorf("%w: version %d, and %d was here", errOldList, mark.Version, have.Version)
	case mark.Version == have.Version && mark.Digest != have.Digest:
		return l, fmt.Errorf("%w: %d", errTwoLists, mark.Version)
	}
	return l, t.floor.raise(mark)
}

// digestOf tells lists apart by what they say, in whatever order and signed anew.
func digestOf(l *central.List) string {
	people := slices.Clone(l.People)
	slices.SortFunc(people, func(a, b central.Person) int { return cmp.Compare(a.Name, b.Name) })
	text, err := json.Marshal([]any{l.Expires, people})
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// bring makes the access list say what l says. The owner's word on the vendor is asked
// for under the same lock under which it changes.
func (t *listDesk) bring(l *central.List) error {
	var people []acl.CentralUser
	var refused []acl.Refused
	for _, p := range l.People {
		if len(allowedRoles([]string{p.Role}, t.roles)) == 0 {
			refused = append(refused, acl.Refused{Name: p.Name, Why: "role " + p.Role + " is not among central.roles"})
			continue
		}
		people = append(people, acl.CentralUser{Name: p.Name, Role: p.Role, Keys: p.Keys, Until: earlier(p.Until, l.Expires)})
	}
	t.d.changing.Lock()
	defer t.d.changing.Unlock()
	if !t.d.takesCentral() {
		return errListOff
	}
	m, err := t.d.store.MergeCentral(people, fmt.Sprintf("version %d", l.Version), acl.By{Kind: acl.KindCentral.String(), Via: "list"})
	if err != nil {
		return fmt.Errorf("version %d was not taken: %w", l.Version, err)
	}
	t.took(l, m, append(refused, m.Refused...))
	return nil
}

func (t *listDesk) took(l *central.List, m acl.Merged, refused []acl.Refused) {
	t.mu.Lock()
	first := t.last == nil || t.last.Version != l.Version
	t.last = l
	t.state.version, t.state.people, t.state.refused = l.Version, len(l.People)-len(refused), len(refused)
	t.mu.Unlock()
	if m.Added+m.Changed+m.Removed > 0 {
		t.log.Info("the vendor's list is in force", "version", l.Version, "added", m.Added, "changed", m.Changed, "removed", m.Removed)
	}
	const most = 20 // of them in the log: it is on flash
	for i, r := range refused {
		if first && i < most {
			t.log.Warn("an entry of the vendor's list does not count", "version", l.Version, "name", r.Name, "why", r.Why)
		}
	}
	if first && len(refused) > most {
		t.log.Warn("more entries of the vendor's list do not count", "version", l.Version, "entries", len(refused)-most)
	}
}

// earlier is the first of two ends; zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// report tells what became of a try, when it is another thing than before.
func (t *listDesk) report(err error) {
	t.mu.Lock()
	before := t.state.err
	t.state.err, t.state.asked = err, time.Now()
	if err == nil {
		t.state.had = t.state.asked
	}
	t.mu.Unlock()
	if fmt.Sprint(before) == fmt.Sprint(err) {
		return
	}
	switch {
	case err == nil:
		t.log.Info("the vendor's list is had again")
	case errors.Is(err, errListOff):
		t.log.Info("the vendor's list is not asked for: the owner has refused it")
	default:
		t.log.Warn("the vendor's list does not come in: the last one stays in force", "error", err)
	}
	if errors.Is(err, errOldList) || errors.Is(err, errTwoLists) || errors.Is(err, central.ErrSignature) {
		t.d.record(acl.Event{What: acl.WhatRolledBack, Kind: acl.KindCentral.String(), Why: err.Error()})
	}
}

// dropList takes everybody out whom the vendor listed, who is not asked any more.
func (d *Daemon) dropList(why string) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	return d.dropListLocked(why, acl.By{Via: "list"})
}

// dropListLocked is dropList under d.changing.
func (d *Daemon) dropListLocked(why string, by acl.By) error {
	_, err := d.store.MergeCentral(nil, why, by)
	return err
}

func (t *listDesk) now() listState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}
