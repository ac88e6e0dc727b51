package relay

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Why says how a tunnel ended.
type Why string

// The reasons.
const (
	WhyDone    Why = "done"    // both sides said that they had sent all
	WhyReset   Why = "reset"   // a side broke off
	WhyIdle    Why = "idle"    // no byte for too long
	WhyStalled Why = "stalled" // a side takes nothing, or is gone
	WhyQuota   Why = "quota"   // bytes, or tunnels at once, of device or vendor
	WhyTime    Why = "time"    // it lasted as long as a tunnel may
	WhyClosed  Why = "closed"  // the relay closes
	WhyFull    Why = "full"    // the relay had no room for it
)

// Use is what a tunnel used.
type Use struct {
	ID       uint64 // counts up from 1 in one Relay, with gaps
	Who      Who
	Up, Down int64 // bytes from the client, and from the device
	Duration time.Duration
	Why      Why // "" of a live one
}

// A tunnel is two legs that are joined. Each of its two flows has a goroutine.
type tunnel struct {
	relay   *Relay
	id      uint64
	who     Who
	legs    [2]*net.TCPConn
	since   time.Duration
	until   time.Duration // its life; 0: no limit
	opened  [2]*account   // of device and vendor
	metered []*account    // those of them with a quota of bytes

	bytes [2]atomic.Int64 // by the side that sent them
	last  atomic.Int64    // when bytes moved, a time.Duration of the Relay
	done  atomic.Int32    // flows whose sender has sent all

	mu  sync.Mutex
	why Why // set once, by whoever ends it
}

// joinLocked makes a tunnel of two legs, or closes them and says what it used.
func (r *Relay) joinLocked(p *pair, legs [2]*net.TCPConn) (refused *Use) {
	now := r.now()
	t := &tunnel{relay: r, id: p.id, who: p.who, legs: legs, since: now}
	t.last.Store(int64(now))
	if why := r.openLocked(t, now); why != "" {
		for _, c := range legs {
			c.Close()
		}
		r.counter.refused.Add(1)
		return &Use{ID: t.id, Who: t.who, Why: why}
	}
	r.tunnels[t.id] = t
	r.counter.joined.Add(1)
	for _, c := range legs {
		r.tune(c)
	}
	r.work.Add(2)
	pair := [2]*flow{newFlow(t, client), newFlow(t, device)}
	for _, f := range pair {
		go f.run()
	}
	return nil
}

// openLocked opens the accounts of a tunnel.
func (r *Relay) openLocked(t *tunnel, now time.Duration) Why {
	if r.closed {
		return WhyClosed
	}
	if len(r.tunnels) >= r.limits.Tunnels {
		return WhyFull
	}
	keys := [2]accountKey{deviceKey(t.who), vendorKey(t.who)}
	var quotas [2]Quota
	quotas[0], quotas[1] = r.quota(t.who)
	for i, k := range keys {
		if !r.accounts.room(now, k, quotas[i]) {
			return WhyQuota
		}
	}
	for i, k := range keys {
		if quotas[i] == (Quota{}) {
			continue
		}
		a := r.accounts.open(now, k, quotas[i])
		if a == nil {
			r.closeAccountsLocked(t, now)
			return WhyFull
		}
		t.opened[i] = a
		if quotas[i].Bytes > 0 {
			t.metered = append(t.metered, a)
		}
		if end := now + quotas[i].Time; quotas[i].Time > 0 && (t.until == 0 || end < t.until) {
			t.until = end
		}
	}
	return ""
}

func (r *Relay) closeAccountsLocked(t *tunnel, now time.Duration) {
	for i, k := range []accountKey{deviceKey(t.who), vendorKey(t.who)} {
		if t.opened[i] != nil {
			r.accounts.close(now, k, t.opened[i])
			t.opened[i] = nil
		}
	}
}

// cut ends a tunnel before its time. What is on its way is lost, and both
// peers are told by a reset: an end that looked like the end of the data would
// be a lie. It does nothing when the tunnel is being ended already.
func (t *tunnel) cut(why Why) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.why != "" {
		return
	}
	t.why = why
	for _, c := range t.legs {
		_ = c.SetLinger(0)
		c.Close()
	}
}

// ended is called by each flow when it ends; the second one cleans up.
func (t *tunnel) ended() {
	if t.done.Add(1) < 2 {
		return
	}
	t.mu.Lock()
	if t.why == "" {
		t.why = WhyDone
	}
	for _, c := range t.legs {
		c.Close()
	}
	t.mu.Unlock()
	r := t.relay
	use := t.use()
	r.mu.Lock()
	delete(r.tunnels, t.id)
	r.closeAccountsLocked(t, r.now())
	r.counter.bytes.Add(use.Up + use.Down)
	r.settleDrainLocked()
	r.mu.Unlock()
	r.report(&use)
}

func (t *tunnel) use() Use {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Use{
		ID: t.id, Who: t.who, Up: t.bytes[client].Load(), Down: t.bytes[device].Load(),
		Duration: t.relay.now() - t.since, Why: t.why,
	}
}

// errQuota ends a flow that may take no byte more.
var errQuota = errors.New("quota")

// reserve returns how many of want bytes the quotas allow now; see account.
func (t *tunnel) reserve(want int) int {
	if len(t.metered) == 0 {
		return want
	}
	now := t.relay.now()
	for i, a := range t.metered {
		granted := a.reserve(now, want)
		for _, before := range t.metered[:i] {
			before.settle(want-granted, 0)
		}
		if want = granted; want == 0 {
			return 0
		}
	}
	return want
}

// took says how many of the reserved bytes came from a side.
func (t *tunnel) took(from side, reserved, n int) {
	for _, a := range t.metered {
		a.settle(reserved, n)
	}
	if n > 0 {
		t.bytes[from].Add(int64(n))
		t.last.Store(int64(t.relay.now()))
	}
}
