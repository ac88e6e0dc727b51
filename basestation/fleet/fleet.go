// Package fleet knows which nodes of a basestation live, which of them is
// responsible for a device, and carries messages from node to node. It is used
// by basestation; every node of a fleet runs one Fleet on the same store.
//
// Membership is by heartbeat: a node says every second that it lives and is out
// when nothing was heard of it for three. There is no leader and nothing is
// stored. Two nodes may differ for a moment about who lives, so Locate is advice:
// who really has a device is in the registry.
//
// A node that hears not even itself is cut off from the store; it then keeps the
// list it had, since the others most likely live.
//
// It deliberately knows neither devices nor clients. Whoever can write to the
// store can speak as a node: the store's door is the fleet's.
package fleet

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyholed/keyhole/basestation/store"
)

// Times of membership.
const (
	// BeatEvery is how often a node says that it lives.
	BeatEvery = time.Second
	// OutAfter is how long a silent node counts as alive: two beats may be lost.
	OutAfter = 3 * time.Second
	// settleFor is how long a node that starts listens before it is Ready: each of
	// the others has beaten once by then, even if its answer to our hello came
	// before the cluster knew that we listen. A node that nobody answers is alone
	// and ready at once.
	settleFor = BeatEvery + BeatEvery/4
)

// Limits.
const (
	MaxNodes            = 256 // a fleet of more is not heard
	MaxAddresses        = 8   // of a node
	MaxCertificateBytes = 1 << 10
)

// Errors.
var (
	ErrTwin  = errors.New("another process runs as this node")
	ErrBusy  = errors.New("node has too many calls under way")
	ErrGone  = errors.New("node is gone")
	ErrKind  = errors.New("node does not know this kind of call")
	ErrNode  = errors.New("not the id of a node: want 1 to 32 of [a-z0-9_-]")
	errSized = errors.New("too many addresses or too large a certificate")
)

// Node is what the fleet knows of one of its members.
type Node struct {
	ID          string           // [a-z0-9_-]{1,32}
	Address     []netip.AddrPort // where devices and clients reach it, best first
	Certificate []byte           // as LOCATED carries it
	Draining    bool             // it leaves: it gets no new prefixes, and answers calls
}

func (n Node) check() error {
	if store.CheckName(n.ID) != nil {
		return fmt.Errorf("%w: %.40q", ErrNode, n.ID)
	}
	if len(n.Address) > MaxAddresses || len(n.Certificate) > MaxCertificateBytes {
		return fmt.Errorf("node %s: %w", n.ID, errSized)
	}
	return nil
}

func (n Node) equal(o Node) bool {
	return n.ID == o.ID && n.Draining == o.Draining && slices.Equal(n.Address, o.Address) &&
		slices.Equal(n.Certificate, o.Certificate)
}

// Config is what a Fleet needs.
type Config struct {
	Store store.Store
	Self  Node
	// Changed is called with all live nodes, ourselves among them, whenever one
	// joins, leaves, begins to drain or moves; one call at a time. Nil: nobody
	// wants to know. It must not call Leave or Announce.
	Changed func(live []Node)
	Log     *slog.Logger // nil: discard
}

// Fleet is one node's view of its fleet.
type Fleet struct {
	config Config
	log    *slog.Logger
	start  uint64 // random; tells our own beats from those of a twin
	self   atomic.Pointer[Node]
	view   atomic.Pointer[view]
	ready  chan struct{}
	nudge  chan struct{} // one slot: beat now

	mu      sync.Mutex
	members map[string]*member // the others, by id
	heard   time.Time          // our own beat last came back
	twin    bool
	changes chan struct{} // one slot: the view may have to be made anew

	calls calls
}

// member is another node; guarded by Fleet.mu.
type member struct {
	node  Node
	start uint64
	heard time.Time
}

// view is what Locate and Live read; it never changes.
type view struct {
	live  []Node // sorted by id
	takes []seat // of those that take prefixes
}

// New makes a Fleet; Run makes it live. Until then it knows itself alone.
func New(c Config) (*Fleet, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if err := c.Self.check(); err != nil {
		return nil, err
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	f := &Fleet{
		config: c, log: c.Log, start: binary.BigEndian.Uint64(random[:]),
		ready: make(chan struct{}), nudge: make(chan struct{}, 1), changes: make(chan struct{}, 1),
		members: make(map[string]*member),
	}
	f.calls.handlers = make(map[string]Handler)
	self := c.Self
	f.self.Store(&self)
	f.view.Store(seen([]Node{self}))
	return f, nil
}

// String names the task.
func (f *Fleet) String() string { return "fleet" }

// Ready is closed once the others that live have been heard.
func (f *Fleet) Ready() <-chan struct{} { return f.ready }

// Self returns this node as the others see it.
func (f *Fleet) Self() Node { return *f.self.Load() }

// Live returns the nodes that live, this one among them, sorted by id. The slice
// is shared: do not change it.
func (f *Fleet) Live() []Node { return f.view.Load().live }

// Find returns a live node by its id.
func (f *Fleet) Find(id string) (Node, bool) {
	live := f.Live()
	i, found := slices.BinarySearchFunc(live, id, func(n Node, id string) int { return strings.Compare(n.ID, id) })
	if !found {
		return Node{}, false
	}
	return live[i], true
}

// Isolated tells whether this node is cut off from the store's messages.
func (f *Fleet) Isolated() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.heard.IsZero() && time.Since(f.heard) > OutAfter
}

// Leave says at once that this node takes no new devices. It goes on to live and
// to answer calls until Run ends.
func (f *Fleet) Leave() {
	f.change(func(n *Node) { n.Draining = true })
}

// Announce replaces this node's addresses and certificate, and says so at once.
func (f *Fleet) Announce(address []netip.AddrPort, certificate []byte) error {
	next := Node{ID: f.config.Self.ID, Address: address, Certificate: certificate}
	if err := next.check(); err != nil {
		return err
	}
	f.change(func(n *Node) { n.Address, n.Certificate = address, certificate })
	return nil
}

func (f *Fleet) change(how func(*Node)) {
	f.mu.Lock()
	next := *f.self.Load()
	how(&next)
	f.self.Store(&next)
	f.mu.Unlock()
	f.publish()
	poke(f.nudge)
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run lives until ctx ends, and then says that this node is gone. It returns
// ErrTwin when another process lives under the same id, or why the store's
// subjects cannot be heard.
func (f *Fleet) Run(ctx context.Context) error {
	f.mu.Lock()
	f.heard = time.Now()
	f.mu.Unlock()
	alone, err := f.ask(ctx)
	if err != nil {
		return err
	}
	if f.twinned() {
		return fmt.Errorf("fleet: node %s: %w", f.config.Self.ID, ErrTwin)
	}
	subscriptions, err := f.listen(ctx)
	defer func() {
		for _, stop := range subscriptions {
			stop()
		}
		f.calls.wait()
	}()
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	defer f.beat(gone)
	settled := time.NewTimer(settleFor)
	defer settled.Stop()
	f.beat(hello)
	if alone {
		close(f.ready)
		settled.Stop()
	}
	tick := time.NewTicker(BeatEvery)
	defer tick.Stop()
	expiry := time.NewTimer(OutAfter)
	defer expiry.Stop()
	for {
		expiry.Reset(f.review())
		if f.twinned() {
			return fmt.Errorf("fleet: node %s: %w", f.config.Self.ID, ErrTwin)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-settled.C:
			close(f.ready)
		case <-tick.C:
			f.beat(alive)
		case <-f.nudge:
			f.beat(alive)
		case <-f.changes:
		case <-expiry.C:
		}
	}
}

// listen subscribes to all that is for this node.
func (f *Fleet) listen(ctx context.Context) (stops []func(), err error) {
	id := f.config.Self.ID
	for _, s := range []struct {
		pattern string
		hear    func(string, []byte, func([]byte))
	}{
		{beatSubject, func(_ string, data []byte, _ func([]byte)) { f.hear(data) }},
		{helloSubject, func(_ string, _ []byte, reply func([]byte)) { reply(f.encode(alive)) }},
		{callSubject + "." + id + ".*", func(subject string, data []byte, reply func([]byte)) { f.serve(ctx, subject, data, reply) }},
		{tellSubject + ".*", func(subject string, data []byte, reply func([]byte)) { f.serve(ctx, subject, data, reply) }},
	} {
		stop, err := f.config.Store.Subscribe(s.pattern, s.hear)
		if err != nil {
			return stops, err
		}
		stops = append(stops, stop)
	}
	return stops, nil
}

// ask finds out whether anybody lives, before we can answer ourselves.
func (f *Fleet) ask(ctx context.Context) (alone bool, err error) {
	limit, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	answer, err := f.config.Store.Request(limit, helloSubject, nil)
	switch {
	case err == nil:
		f.hear(answer)
		return false, nil
	case errors.Is(err, store.ErrNoResponder):
		return true, nil
	case errors.Is(err, store.ErrClosed):
		return false, fmt.Errorf("fleet: %w", err)
	}
	return false, nil // it may be there and slow: settle
}
