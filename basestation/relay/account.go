package relay

import (
	"runtime"
	"sync"
	"time"
)

// An account is what is used up of one quota. It exists while there is
// something to remember: tunnels, or bytes of a period that is not over.
type account struct {
	tunnels int // guarded by Relay.mu

	mu       sync.Mutex
	quota    Quota // of the latest tunnel
	used     int64 // bytes of this period
	reserved int64 // by flows that are asking the kernel right now
	ends     time.Duration
}

type accountKey struct {
	vendor bool
	name   string
}

func deviceKey(w Who) accountKey { return accountKey{false, w.Device} }
func vendorKey(w Who) accountKey { return accountKey{true, w.Vendor} }

// accounts is guarded by Relay.mu.
type accounts struct {
	by    map[accountKey]*account
	sweep int // look for accounts to forget when there are so many
}

// room reports whether a tunnel more would be within the quota.
func (a *accounts) room(now time.Duration, k accountKey, q Quota) bool {
	x := a.by[k]
	if x == nil {
		return true
	}
	if q.Tunnels > 0 && x.tunnels >= q.Tunnels {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.quota = q
	x.renewLocked(now)
	return q.Bytes == 0 || x.used < q.Bytes
}

// open counts a tunnel; nil means that too many accounts are remembered.
func (a *accounts) open(now time.Duration, k accountKey, q Quota) *account {
	x := a.by[k]
	if x == nil {
		if len(a.by) >= max(a.sweep, 1024) {
			a.forget(now)
			a.sweep = 2 * len(a.by)
		}
		if len(a.by) >= maxAccounts {
			return nil
		}
		x = &account{ends: now + q.Every}
		a.by[k] = x
	}
	x.tunnels++
	x.mu.Lock()
	x.quota = q
	x.mu.Unlock()
	return x
}

func (a *accounts) close(now time.Duration, k accountKey, x *account) {
	x.tunnels--
	if x.idle(now) {
		delete(a.by, k)
	}
}

func (a *accounts) forget(now time.Duration) {
	for k, x := range a.by {
		if x.idle(now) {
			delete(a.by, k)
		}
	}
}

// idle reports whether there is nothing to remember.
func (x *account) idle(now time.Duration) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.renewLocked(now)
	return x.tunnels == 0 && (x.used == 0 || x.quota.Bytes == 0)
}

func (x *account) renewLocked(now time.Duration) {
	if x.quota.Every > 0 && now >= x.ends {
		x.used, x.ends = 0, now+x.quota.Every
	}
}

// reserve returns how many of want bytes may be taken from a leg now; 0: the
// quota is used up. What is reserved must be settled at once: who comes to find
// everything reserved tries again until it is known what was really taken, so
// the quota is exact.
func (x *account) reserve(now time.Duration, want int) int {
	for {
		x.mu.Lock()
		x.renewLocked(now)
		free := int64(want)
		if x.quota.Bytes > 0 {
			free = min(free, x.quota.Bytes-x.used-x.reserved)
		}
		if free > 0 {
			x.reserved += free
			x.mu.Unlock()
			return int(free)
		}
		over := x.used >= x.quota.Bytes
		x.mu.Unlock()
		if over {
			return 0
		}
		runtime.Gosched()
	}
}

// settle says how many of the reserved bytes were taken.
func (x *account) settle(reserved, taken int) {
	x.mu.Lock()
	x.reserved -= int64(reserved)
	x.used += int64(taken)
	x.mu.Unlock()
}
