package netstate

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// When the network moves it moves in bursts: a cable brings a link, then
// addresses, then routes.
const (
	settle      = 200 * time.Millisecond // wait after the first event, for the rest of its burst
	quietPeriod = time.Second            // least time between two notifications
	retryAfter  = time.Second            // before listening again after an error
)

// A Monitor tells when interfaces, usable addresses or default routes changed.
// Events are coalesced: the first change is told within a fraction of a second,
// later ones at most once a second, and only when what matters really differs.
//
// It is a Task: Run blocks until its context ends.
type Monitor struct {
	log   *slog.Logger
	ready chan struct{}

	mu       sync.Mutex
	watchers map[*watcher]struct{}
}

type watcher struct{ ch chan struct{} }

// NewMonitor returns a Monitor that is idle until Run. A nil log discards.
func NewMonitor(log *slog.Logger) *Monitor {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Monitor{log: log, ready: make(chan struct{}), watchers: map[*watcher]struct{}{}}
}

func (m *Monitor) String() string { return "network monitor" }

// Ready is closed when Run listens: a later change is not missed.
func (m *Monitor) Ready() <-chan struct{} { return m.ready }

// Watch returns a channel that holds a token after one or more changes; tokens
// coalesce, a slow reader loses none but their number. Call stop when done.
func (m *Monitor) Watch() (changes <-chan struct{}, stop func()) {
	w := &watcher{ch: make(chan struct{}, 1)}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers[w] = struct{}{}
	return w.ch, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, w)
	}
}

func (m *Monitor) notify() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for w := range m.watchers {
		poke(w.ch)
	}
}

func poke(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Run listens until ctx ends, and then returns nil. It starts anew when the
// kernel's notifications are interrupted and then looks whether something was
// missed; it never ends by itself. It may be called once.
func (m *Monitor) Run(ctx context.Context) error {
	events := make(chan struct{}, 1)
	before := m.describe("")
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.listenForever(ctx, events)
	}()
	coalesce(ctx, events, func() {
		if now := m.describe(before); now != before {
			before = now
			m.log.Debug("network changed", "state", now)
			m.notify()
		}
	})
	<-done
	return nil
}

func (m *Monitor) listenForever(ctx context.Context, events chan<- struct{}) {
	once := sync.OnceFunc(func() { close(m.ready) })
	for {
		err := listen(ctx, func() { once(); poke(events) }, func() { poke(events) })
		if ctx.Err() != nil {
			return
		}
		m.log.Warn("network notifications interrupted, listening again", "error", err)
		poke(events)
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryAfter):
		}
	}
}

// coalesce calls check soon after an event, then at most once per quietPeriod
// while events go on, and after the last of them.
func coalesce(ctx context.Context, events <-chan struct{}, check func()) {
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-events:
		}
		wait := settle
		if !last.IsZero() {
			wait = max(wait, quietPeriod-time.Since(last))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		select { // what came while waiting is part of this look
		case <-events:
		default:
		}
		check()
		last = time.Now()
	}
}

// describe is the part of the network's state whose change is news. When it
// cannot be read, the state is taken to be as before.
func (m *Monitor) describe(before string) string {
	t, err := read()
	if err != nil {
		m.log.Warn("the kernel's network tables cannot be read", "error", err)
		return before
	}
	return t.describe()
}

func (t *table) describe() string {
	var lines []string
	for _, l := range t.links {
		if l.up && !l.loopback {
			lines = append(lines, fmt.Sprintf("link %d %s", l.index, l.name))
		}
	}
	for _, a := range t.addresses {
		lines = append(lines, fmt.Sprintf("address %d %s", a.link, a.prefix))
	}
	for _, r := range t.routes {
		if r.to.Bits() == 0 {
			lines = append(lines, fmt.Sprintf("default %d %s %t", r.link, r.to, r.direct))
		}
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "; ")
}
