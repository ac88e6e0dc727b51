// Package tries counts failed passwords of services that authenticate by
// themselves, and says when the next one may be tried.
//
// The daemon keeps one Ledger and gives each tunnel to such a service an Asker;
// the tunnel's watcher asks it before a request with a password goes on and tells
// it what the service answered. It knows no protocol and no socket, opens no file
// itself, and decides nothing about who may open a tunnel.
//
// Who counts against whom:
//
//	on the device's own list      a counter of his own at each service
//	strangers who succeeded once  a counter of their own at each service (by key)
//	all others                    one counter for the service and one for their
//	                              source, together: the slower one holds
//
// So a new key is in the slow queue from its first try, gains nothing over the
// one before it, and harms nobody who got in before.
//
// A try is taken before the request goes on and given back when the answer was no
// refusal: many at once are no more than one after the other. One that stays
// without an answer is a failed one.
package tries

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/keyholed/keyhole/internal/pace"
)

const (
	// FreeTries fail without a delay: a person mistypes.
	FreeTries = 3
	// FirstDelay follows the last free one; each failure doubles it, up to
	// MaxDelay: 96 tries a day, some 35,000 a year.
	FirstDelay = time.Second
	MaxDelay   = 900 * time.Second
	// Forgotten is how long a counter needs to lose one failure again. Slower than
	// MaxDelay, so that resting never brings more tries than going on does.
	Forgotten = time.Hour

	// MaxSources are remembered, an IPv4 address or an IPv6 /64 each, as with
	// pairing. To push one out clears the source's counter, not the
	// service's.
	MaxSources = 4096
	// MaxKnown strangers of one service are remembered; the one who has not
	// succeeded for longest makes room. More than a household has, and few enough
	// that somebody who may enter and makes keys gets little for them.
	MaxKnown = 128
	// NewKnown may become known at once, then one each NewKnownEvery: whoever has
	// one password of the service could otherwise make keys, and with each of them
	// try free of delay for another's.
	NewKnown      = 8
	NewKnownEvery = time.Hour
	// MaxUsers of the device's list have failures remembered at one service.
	MaxUsers = 1024

	// maxFailures is where counting ends: the delay is MaxDelay.
	maxFailures = FreeTries + 10
	// flyingOwn tries of somebody known may be under way at once: browsers open
	// six connections.
	flyingOwn = 8
	// sharedPatience and ownPatience are how long a try may be without an answer
	// until it counts as failed. Known ones may ask long questions.
	sharedPatience = 10 * time.Second
	ownPatience    = 2 * time.Minute
	// maxChallenged requests of one service are remembered to be refused to who
	// shows no password.
	maxChallenged = 256
)

// Delay is how long after a failure the next try is held when failures have been
// counted.
func Delay(failures int) time.Duration {
	if failures < FreeTries {
		return 0
	}
	return min(FirstDelay<<min(failures-FreeTries, 32), MaxDelay)
}

// Who is somebody at a service.
type Who struct {
	Service string
	// User names who is on the device's own list, or let in by it in another way:
	// there are only so many of those, and no stranger can make one. "" is a
	// stranger.
	User   string
	Key    [32]byte   // fingerprint of the key that the session proved
	Source netip.Addr // where a stranger comes from; a relay's address for all who come by it
}

// Keeper keeps the ledger over restarts.
type Keeper interface {
	Load() ([]byte, error) // nil where there is nothing yet
	Store([]byte) error    // returns when it is on disk
}

// Config is how a Ledger is made. The zero value forgets all when it ends.
type Config struct {
	Keep Keeper       // nil: nothing is kept
	Log  *slog.Logger // nil: silent
	// Failed is told each failed try, after it was kept, with the delay of the
	// next. It must not block. Nil: nobody is.
	Failed func(w Who, delay time.Duration)
}

// A Ledger has all counters. Its methods may be called from any goroutine.
type Ledger struct {
	config Config
	log    *slog.Logger

	storing sync.Mutex // held while writing; taken before mu

	mu       sync.Mutex
	services map[string]*service
	sources  map[netip.Prefix]*counter
	flying   map[*Try]bool
	waiting  []*waiter
	changed  chan struct{} // closed and replaced when somebody waiting may go
	damaged  bool          // what was kept could not be read
}

// service is what is counted at one service.
type service struct {
	shared     counter               // of all that never succeeded
	known      map[[32]byte]*own     // strangers that did
	users      map[string]*own       // of the device's list, if they failed
	newcomers  pace.Pace             // of known
	challenged [maxChallenged]uint64 // a ring; 0: empty
	next       int                   // place in it
}

// own is the counter of one known asker.
type own struct {
	counter
	proven  uint64    // the password that succeeded last; 0: none, or it cannot be told
	success time.Time // when that was
}

// counter of failures. The zero value has none.
type counter struct {
	failures int
	last     time.Time // failure
	eased    time.Time // from when on the next Forgotten runs
	flying   int       // tries without an answer
}

// New makes a Ledger from what was kept. What cannot be read is said in the log:
// then nobody is known, and every service begins with the longest delay.
func New(c Config) *Ledger {
	l := &Ledger{
		config: c, log: c.Log, services: map[string]*service{}, sources: map[netip.Prefix]*counter{},
		flying: map[*Try]bool{}, changed: make(chan struct{}),
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if c.Keep != nil {
		data, err := c.Keep.Load()
		if err == nil && data != nil {
			err = l.restore(data)
		}
		if err != nil {
			l.damaged = true
			clear(l.services)
			l.log.Error("failed tries of before are not known: everybody new waits", "error", err)
		}
	}
	return l
}

func (l *Ledger) serviceLocked(name string) *service {
	s := l.services[name]
	if s == nil {
		s = &service{known: map[[32]byte]*own{}, users: map[string]*own{}, newcomers: pace.New(NewKnown, NewKnownEvery)}
		if l.damaged {
			s.shared.fail(time.Now())
			s.shared.failures = maxFailures
		}
		l.services[name] = s
	}
	return s
}

// sourceLocked returns the counter of a source. One that is pushed out had no try
// under way and failed longest ago.
func (l *Ledger) sourceLocked(p netip.Prefix) *counter {
	if c := l.sources[p]; c != nil {
		return c
	}
	if len(l.sources) >= MaxSources {
		var oldest netip.Prefix
		for q, c := range l.sources {
			if c.flying == 0 && (!oldest.IsValid() || c.last.Before(l.sources[oldest].last)) {
				oldest = q
			}
		}
		delete(l.sources, oldest)
	}
	c := new(counter)
	l.sources[p] = c
	return c
}

// settle forgets what has been long enough ago.
func (c *counter) settle(now time.Time) {
	n := int(now.Sub(c.eased) / Forgotten)
	if c.failures == 0 || n <= 0 {
		return
	}
	c.failures = max(0, c.failures-n)
	c.eased = c.eased.Add(time.Duration(n) * Forgotten)
}

func (c *counter) fail(now time.Time) {
	c.settle(now)
	c.failures = min(c.failures+1, maxFailures)
	c.last, c.eased = now, now
}

// wait is how long until a try may be taken, while none is under way.
func (c *counter) wait(now time.Time) time.Duration {
	c.settle(now)
	return max(0, c.last.Add(Delay(c.failures)).Sub(now))
}

// free says whether a try may be taken now. Without delay there may be as many
// under way as could fail without one; then it is one after the other.
func (c *counter) free(now time.Time, most int) bool {
	wait := c.wait(now)
	if c.failures+c.flying < FreeTries || c.failures < FreeTries && c.flying < most {
		return true
	}
	return c.flying == 0 && wait == 0
}
