package relay

import (
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Errors of Pair. ErrBusy and ErrQuota may pass with time.
var (
	ErrClosed = errors.New("the relay takes no more tunnels")
	ErrBusy   = errors.New("the relay is full")
	ErrQuota  = errors.New("the quota of this device or vendor is used up")
)

// Who is on whose account a tunnel runs.
type Who struct {
	Device string // its id
	Vendor string // "": of no vendor
}

// Config is how a Relay is made. The zero value is useful.
type Config struct {
	Limits Limits
	// Quota returns the quotas of a device and of its vendor; nil: those of
	// Limits. It is called for each pair and each tunnel and must be quick.
	Quota func(Who) (device, vendor Quota)
	// Report is told of each tunnel that ended; nil: nobody is. It is called
	// from a goroutine of the Relay, which Close waits for.
	Report func(Use)
	// Log gets a line for each tunnel that ended; nil: none.
	Log *slog.Logger
}

// A Relay joins legs. Its methods may be called from any goroutine.
type Relay struct {
	config  Config
	limits  Limits
	log     *slog.Logger
	times   times
	mover   func(*flow) mover // newMover, but for tests
	born    time.Time         // what monotonic times below count from
	counter counters
	work    sync.WaitGroup // Serve and both flows of each tunnel

	mu       sync.Mutex
	closed   bool // cut everything
	draining bool // no new pairs
	next     uint64
	tickets  map[[sha256.Size]byte]claim // by the hash of a ticket
	pairs    map[uint64]*pair            // tickets are out, or one leg waits
	perOwner map[string]int              // pairs by device
	tunnels  map[uint64]*tunnel
	accounts accounts
	unjoined int
	sources  map[netip.Prefix]int // unjoined legs
	silent   list.List            // of *leg: those that have not sent a preface, oldest first
	quiet    chan struct{}        // closed when nothing is left of a drain; nil: nobody waits
}

// New returns a Relay.
func New(c Config) *Relay {
	r := &Relay{
		config: c, limits: c.Limits.withDefaults(), log: c.Log, times: patience, mover: newMover, born: time.Now(),
		tickets: map[[sha256.Size]byte]claim{}, pairs: map[uint64]*pair{}, perOwner: map[string]int{},
		tunnels: map[uint64]*tunnel{}, accounts: accounts{by: map[accountKey]*account{}}, sources: map[netip.Prefix]int{},
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	return r
}

// now is the time since the Relay was made.
func (r *Relay) now() time.Duration { return time.Since(r.born) }

func (r *Relay) quota(w Who) (device, vendor Quota) {
	device, vendor = r.limits.PerDevice, r.limits.PerVendor
	if r.config.Quota != nil {
		device, vendor = r.config.Quota(w)
	}
	if w.Vendor == "" {
		vendor = Quota{} // nobody's account
	}
	return device, vendor
}

// Drain makes no more pairs, and waits until those that are made and the live
// tunnels have ended, or until ctx is done, whose error it returns then. It
// cuts nothing; Close does.
func (r *Relay) Drain(ctx context.Context) error {
	r.mu.Lock()
	r.draining = true
	if r.quiet == nil {
		r.quiet = make(chan struct{})
	}
	quiet := r.quiet
	r.settleDrainLocked()
	r.mu.Unlock()
	select {
	case <-quiet:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settleDrainLocked tells those who wait in Drain when nothing is left.
func (r *Relay) settleDrainLocked() {
	if r.quiet == nil || len(r.pairs) > 0 || len(r.tunnels) > 0 {
		return
	}
	select {
	case <-r.quiet:
	default:
		close(r.quiet)
	}
}

// Close forgets all tickets, cuts all tunnels and returns when every goroutine
// of the Relay has ended. It may be called again.
func (r *Relay) Close() {
	r.mu.Lock()
	r.closed, r.draining = true, true
	for _, p := range r.pairs {
		r.forgetLocked(p)
	}
	for e := r.silent.Front(); e != nil; e = e.Next() {
		e.Value.(*leg).conn.Close()
	}
	for _, t := range r.tunnels {
		t.cut(WhyClosed)
	}
	r.settleDrainLocked()
	r.mu.Unlock()
	r.work.Wait()
}
