package relay

import (
	"crypto/sha256"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
)

// A side of a tunnel.
type side int

const (
	client side = iota
	device
)

func (s side) other() side { return 1 - s }

// A pair is two tickets, and the first leg while it waits for the second. It
// ends when it is joined, when its time is over or with the Relay.
//
//	Pair -> both tickets out -> one leg waits -> joined
//	              │                   │
//	              └── timer ──────────┴──> forgotten, the leg closed
//
// All of it is guarded by Relay.mu.
type pair struct {
	id      uint64
	who     Who
	first   func()
	until   time.Duration
	timer   *time.Timer
	hashes  [2][sha256.Size]byte
	waiting *leg // nil: none yet
	side    side // of waiting
}

// A claim is what a ticket stands for. Tickets are looked up by their hash, so
// that how long it takes tells nothing about those that exist.
type claim struct {
	pair *pair
	side side
}

func hashOf(t attach.Ticket) [sha256.Size]byte { return sha256.Sum256(t[:]) }

// Pair makes the tickets of one tunnel, good for ttl and once each. First, if
// not nil, is called once when the client's leg has come and waits: then the
// device is to be told. It is called on the goroutine of Serve.
//
// The errors are ErrClosed, also while draining, ErrBusy and ErrQuota.
func (r *Relay) Pair(who Who, ttl time.Duration, first func()) (forClient, forDevice attach.Ticket, err error) {
	forClient, forDevice = attach.NewTicket(), attach.NewTicket()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.mayLocked(who); err != nil {
		r.counter.refused.Add(1)
		return attach.Ticket{}, attach.Ticket{}, err
	}
	r.next++
	p := &pair{id: r.next, who: who, first: first, until: r.now() + ttl}
	for s, t := range []attach.Ticket{client: forClient, device: forDevice} {
		p.hashes[s] = hashOf(t)
		r.tickets[p.hashes[s]] = claim{p, side(s)}
	}
	r.pairs[p.id] = p
	r.perOwner[who.Device]++
	p.timer = time.AfterFunc(ttl, func() { r.expire(p) })
	return forClient, forDevice, nil
}

func (r *Relay) mayLocked(who Who) error {
	switch {
	case r.draining:
		return ErrClosed
	case len(r.pairs) >= r.limits.Pairs, len(r.tunnels) >= r.limits.Tunnels, r.perOwner[who.Device] >= r.limits.PairsPerDevice:
		return ErrBusy
	}
	ofDevice, ofVendor := r.quota(who)
	if !r.accounts.room(r.now(), deviceKey(who), ofDevice) || !r.accounts.room(r.now(), vendorKey(who), ofVendor) {
		return ErrQuota
	}
	return nil
}

// expire is what the timer of a pair does.
func (r *Relay) expire(p *pair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pairs[p.id] != p {
		return
	}
	if left := p.until - r.now(); left > 0 { // it was given more time
		p.timer.Reset(left)
		return
	}
	r.counter.expired.Add(1)
	r.forgetLocked(p)
}

// forgetLocked takes a pair's tickets back and closes the leg that waits.
func (r *Relay) forgetLocked(p *pair) {
	p.timer.Stop()
	for _, h := range p.hashes {
		delete(r.tickets, h)
	}
	delete(r.pairs, p.id)
	if r.perOwner[p.who.Device]--; r.perOwner[p.who.Device] == 0 {
		delete(r.perOwner, p.who.Device)
	}
	if l := p.waiting; l != nil {
		p.waiting = nil
		r.leaveLocked(l)
		l.conn.Close()
	}
	r.settleDrainLocked()
}
