package discovery

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/keyholed/keyhole/internal/netstate"
)

const (
	// spacing is the least time between two registrations. zeroconf may be stopped
	// only after its receivers have started, and neighbours need not hear of a
	// button's bounce.
	spacing = 500 * time.Millisecond

	// repeatAfter is when an announcement is said once more, in case it was lost
	// (RFC 6762 §8.3).
	repeatAfter = time.Second

	// tryAgain is how long an announcement that failed waits.
	tryAgain = 10 * time.Second
)

// Config is what an Announcer needs. The zero value announces on every local
// network, with a monitor of its own.
type Config struct {
	Monitor    *netstate.Monitor // tells when the network changed; nil: run one
	Interfaces []string          // names that count as a local network whatever their kind
	Log        *slog.Logger      // nil discards
}

// An Announcer tells the local network of one device. It is a Task: Run blocks
// until its context ends, and then says goodbye.
type Announcer struct {
	config Config
	ready  chan struct{}
	poked  chan struct{} // holds a token after Set; coalesces

	mu     sync.Mutex
	record Record // what Set asked for

	// Owned by Run.
	standing   Record // what is announced
	interfaces []netstate.Interface
	reg        registration
	responder  *responder
	registered time.Time
}

// NewAnnouncer returns an Announcer that is idle until Run, and silent until Set.
func NewAnnouncer(c Config) *Announcer {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Announcer{config: c, ready: make(chan struct{}), poked: make(chan struct{}, 1)}
}

func (a *Announcer) String() string { return "mDNS announcer" }

// Ready is closed when Run has announced what Set gave it, or has seen that there
// is no network to announce it on yet.
func (a *Announcer) Ready() <-chan struct{} { return a.ready }

// Set changes what is announced, at any time. It does not wait. The zero Record
// withdraws.
func (a *Announcer) Set(r Record) {
	r.Pair = slices.Clone(r.Pair)
	a.mu.Lock()
	a.record = r
	a.mu.Unlock()
	select {
	case a.poked <- struct{}{}:
	default:
	}
}

// Run announces until ctx ends, says goodbye and returns nil. A network that is
// missing or refuses is tried again, never an error. It may be called once.
func (a *Announcer) Run(ctx context.Context) error {
	monitor := a.config.Monitor
	var tasks sync.WaitGroup
	if monitor == nil {
		monitor = netstate.NewMonitor(a.config.Log)
		tasks.Go(func() { _ = monitor.Run(ctx) }) // its only result is nil
	}
	changes, stop := monitor.Watch()
	defer tasks.Wait()
	defer stop()
	defer a.withdraw()

	once := sync.OnceFunc(func() { close(a.ready) })
	for ctx.Err() == nil {
		again := a.refresh(ctx)
		once()
		var timer <-chan time.Time
		if again > 0 {
			timer = time.After(again)
		}
		select {
		case <-ctx.Done():
		case <-a.poked:
		case <-changes:
		case <-timer:
			a.repeat()
		}
	}
	return nil
}

// refresh makes what is announced agree with Set and with the interfaces there
// are. It returns after what time to be woken, 0 for never.
func (a *Announcer) refresh(ctx context.Context) time.Duration {
	a.mu.Lock()
	record := a.record
	a.mu.Unlock()
	interfaces, err := netstate.Interfaces(a.config.Interfaces)
	if err != nil {
		a.config.Log.Warn("cannot announce on the local network", "error", err)
		return tryAgain
	}
	if a.responder != nil && record.equal(a.standing) && sameLinks(interfaces, a.interfaces) {
		if !sameAddresses(interfaces, a.interfaces) {
			a.interfaces = interfaces
			a.responder.sockets.update(interfaces)
			a.responder.announce(false)
			return repeatAfter
		}
		return 0
	}
	if a.responder == nil && (record.empty() || len(interfaces) == 0) {
		return 0
	}
	if a.responder != nil && !wait(ctx, spacing-time.Since(a.registered)) {
		return 0
	}
	if record.empty() || len(interfaces) == 0 {
		a.withdraw()
		return 0
	}
	return a.replace(record, interfaces)
}

// replace registers anew. What did not change is known again before the
// neighbours have forgotten it: a goodbye takes effect after one second (RFC
// 6762 §10.1), our announcement follows at once.
func (a *Announcer) replace(record Record, interfaces []netstate.Interface) time.Duration {
	a.end()
	a.registered = time.Now()
	reg, err := register(record, interfaces)
	if err != nil {
		a.config.Log.Warn("cannot announce on the local network", "error", err)
		return tryAgain
	}
	// After zeroconf, so that packets to our own address come here: the kernel
	// gives those to the last socket of a port, and zeroconf answers strangers.
	responder, err := startResponder(record, interfaces)
	if err != nil {
		reg.shutdown()
		a.config.Log.Warn("cannot announce on the local network", "error", err)
		return tryAgain
	}
	a.reg, a.responder, a.standing, a.interfaces = reg, responder, record, interfaces
	responder.announce(false)
	a.config.Log.Debug("announced on the local network", "instance", record.instance(), "interfaces", len(interfaces), "pair", record.Pair)
	return repeatAfter
}

func (a *Announcer) repeat() {
	if a.responder != nil {
		a.responder.announce(false)
	}
}

// end stops zeroconf, with its goodbye, and our sockets, without one.
func (a *Announcer) end() {
	if a.responder == nil {
		return
	}
	a.responder.hush()
	a.reg.shutdown()
	a.responder.close()
	a.reg, a.responder = nil, nil
}

// withdraw says goodbye to everything.
func (a *Announcer) withdraw() {
	if a.responder == nil {
		return
	}
	wait(context.Background(), spacing-time.Since(a.registered))
	a.responder.hush()
	a.reg.shutdown()
	a.responder.announce(true)
	a.responder.close()
	a.reg, a.responder, a.standing, a.interfaces = nil, nil, Record{}, nil
}

// wait reports whether d passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func sameLinks(a, b []netstate.Interface) bool {
	return slices.EqualFunc(a, b, func(a, b netstate.Interface) bool { return a.Index == b.Index && a.Name == b.Name })
}

func sameAddresses(a, b []netstate.Interface) bool {
	return slices.EqualFunc(a, b, func(a, b netstate.Interface) bool { return slices.Equal(a.Prefixes, b.Prefixes) })
}
