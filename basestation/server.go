package basestation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/keyholed/keyhole/basestation/push"
	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/basestation/relay"
	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A Config says what a basestation is. Data and Store must be set.
type Config struct {
	// Listen are the addresses served, as "IP:PORT" or ":PORT" for all of this
	// machine's; none: ":7443". TCP is served on all of them, UDP on the first, and on
	// the first of the other family where that one has only one.
	Listen []string
	// Advertise are the addresses at which this node is reached, up to 3: its
	// certificate names them. None: where it listens, or the addresses of this machine.
	Advertise []netip.AddrPort
	// Data is the directory of the keys, and of what survives a restart.
	Data string
	// Store keeps the records. It stays the caller's to close, after Run.
	Store store.Store

	Enrol  Enrol         // who may attach; zero: everybody
	Master attach.Secret // of factory secrets that are derived; zero: there are only explicit ones
	// Authorize is asked about each introduction, *push.Asker's Ask for example; nil:
	// the device decides alone.
	Authorize func(context.Context, push.Question) (push.Verdict, error)
	// Gate keeps out whom the operator names, before anybody is asked: a *gate.Gate;
	// nil: nobody.
	Gate Gate
	// Events is told what happens and what devices say; nil: it goes into the store's
	// log and nowhere else.
	Events Events
	// Relay is how connections are relayed; nil: not at all.
	Relay *relay.Config
	// Fleet has this node look for others that share the store.
	Fleet bool

	Limits Limits
	// Spread is over how long devices move to a node that joins; 0: 50 s, so that they
	// have moved within a minute.
	Spread time.Duration
	// Drain is how long a server that stops lets devices move to other nodes and
	// relayed connections finish; 0: it does not wait.
	Drain time.Duration
	Log   *slog.Logger // nil: silent
}

// A Gate knows whom the operator keeps out, and where addresses are.
type Gate interface {
	// Refuses says why a client at an address may not be introduced to a device; "":
	// nothing is known against it. It does not wait.
	Refuses(client identity.Fingerprint, device identity.ID, source netip.Addr) (why string)
	// Country is where an address is, as two letters; "": unknown.
	Country(source netip.Addr) string
}

// A Server is one node of a basestation: alone, or in a fleet.
type Server struct {
	config     Config
	log        *slog.Logger
	chatter    *slog.Logger // for lines that strangers can cause
	keys       *Keyring
	self       string
	address    []netip.AddrPort
	began      time.Time
	hub        *hub
	registry   *registry.Registry
	relay      *relay.Relay
	pusher     *push.Pusher    // ours, when the caller has none
	cookies    *attach.Cookies // the loop's, and so is cookieSlot
	cookieSlot uint64
	metrics    *metrics
	gauges     gauges
	peers      *peerFile
	toldPeers  int // devices of the run before

	net     *network
	streams streams
	fleet   *membership

	calls    chan func(now time.Duration)
	tasks    tasks
	loopDone chan struct{}
	ready    chan struct{}
	once     sync.Once
	hurry    context.Context // ends with Hurry
	hurried  context.CancelFunc
	// lookAgain has room for one: the fleet changed, see reconcile.
	lookAgain chan struct{}
	blocks    blocks
	backlog   backlog // the loop's
}

// maxCalls bounds the results of tasks that wait for the loop; a task that finds it
// full waits.
const maxCalls = 1024

// New reads or makes the keys, and listens. The server serves when Run is called;
// whoever does not call Run calls Close.
func New(c Config) (*Server, error) {
	if c.Store == nil || c.Data == "" {
		return nil, errors.New("basestation: a store and a data directory are needed")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if len(c.Listen) == 0 {
		c.Listen = []string{":7443"}
	}
	if c.Spread <= 0 {
		c.Spread = relocateSpread
	}
	c.Limits = c.Limits.withDefaults()
	s := &Server{
		config: c, log: c.Log, chatter: newChatter(c.Log), began: time.Now(), cookies: new(attach.Cookies), metrics: newMetrics(),
		calls: make(chan func(time.Duration), maxCalls), loopDone: make(chan struct{}), ready: make(chan struct{}), lookAgain: make(chan struct{}, 1),
	}
	s.hurry, s.hurried = context.WithCancel(context.Background())
	var err error
	if s.keys, err = OpenKeyring(c.Data); err != nil {
		return nil, err
	}
	s.self = s.keys.NodeID()
	if s.net, err = listen(c.Listen); err != nil {
		return nil, err
	}
	if err := s.build(); err != nil {
		s.net.close()
		return nil, err
	}
	return s, nil
}

// build makes everything that needs the addresses.
func (s *Server) build() (err error) {
	if s.address = s.config.Advertise; len(s.address) == 0 {
		if s.address, err = s.net.reachable(); err != nil {
			return err
		}
	}
	certificate, err := s.keys.Certificate(s.address)
	if err != nil {
		return err
	}
	s.registry = registry.New(registry.Config{Store: s.config.Store, Seal: s.keys.Seal(), Node: s.self, Log: s.log})
	if s.config.Events == nil {
		if s.pusher, err = push.New(push.Config{Store: s.config.Store, Node: s.self, Log: s.log}); err != nil {
			return err
		}
		s.config.Events = s.pusher
	}
	if s.config.Relay != nil {
		s.relay = relay.New(*s.config.Relay)
	}
	if s.peers, err = openPeerFile(s.config.Data, s.log); err != nil {
		return err
	}
	s.streams.init(s)
	s.showGauges()
	if s.fleet, err = newMembership(s, certificate); err != nil {
		return err
	}
	s.cookies.Rotate(0, newSecret()) // until the fleet's are read
	s.hub, err = newHub(attach.NodeConfig{
		PrivateKey: s.keys.node.Private, ResetKey: s.keys.node.Reset, Certificate: certificate, Cookies: s.cookies,
		Locate: s.fleet.locate, Send: s.sendPacket, Unix: func() uint64 { return uint64(time.Now().Unix()) },
	}, around{
		limits: s.config.Limits, self: s.self, certificate: certificate,
		start: s.tasks.start, post: s.post, remote: s.streams.remote, enrol: s.enrol, authorize: s.config.Authorize, gate: s.config.Gate,
		pair: s.pair(), vendor: s.vendor(), find: s.fleet.find, send: s.fleet.send, tellAll: s.fleet.tell, mine: s.fleet.mine, others: s.fleet.others,
		presence: s.registry, book: s.registry, events: s.config.Events, seen: s.peers.seen, metrics: s.metrics,
	}, s.log)
	return err
}

// pair returns how tickets are made, or nil.
func (s *Server) pair() func(relay.Who, func()) (forClient, forDevice attach.Ticket, err error) {
	if s.relay == nil {
		return nil
	}
	return func(who relay.Who, first func()) (attach.Ticket, attach.Ticket, error) {
		return s.relay.Pair(who, ticketTime, first)
	}
}

// vendor returns how it is found out on whose account a device relays; nil where no
// quota depends on it.
func (s *Server) vendor() func(context.Context, identity.ID) (string, error) {
	if s.relay == nil || s.config.Relay.Quota == nil && s.config.Relay.Limits.PerVendor == (relay.Quota{}) {
		return nil
	}
	return func(ctx context.Context, id identity.ID) (string, error) {
		d, err := s.registry.Device(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			err = nil // nobody's
		}
		return d.Vendor, err
	}
}

// ticketTime is how long a ticket is good: the client opens its leg 400 ms after
// the yes, or when its other tries have failed.
const ticketTime = 30 * time.Second

// Keys returns the root keys as they go into a device's configuration.
func (s *Server) Keys() []string { return s.keys.Keys() }

// Roots returns the root keys as a device pins them.
func (s *Server) Roots() []attach.Root { return s.keys.Roots() }

// Address is where the server is reached: the first that its certificate names.
func (s *Server) Address() netip.AddrPort { return s.address[0] }

// Addresses are all that its certificate names.
func (s *Server) Addresses() []netip.AddrPort { return append([]netip.AddrPort(nil), s.address...) }

// NodeID names this node in its fleet.
func (s *Server) NodeID() string { return s.self }

// Registry holds the records, for the operator's API.
func (s *Server) Registry() *registry.Registry { return s.registry }

// Ready is closed when devices are served.
func (s *Server) Ready() <-chan struct{} { return s.ready }

func (s *Server) String() string { return "basestation " + s.self }

// now is the time of the hub: since the server was made, on a clock that only
// advances.
func (s *Server) now() time.Duration { return time.Since(s.began) }

// post has f called by the loop. It waits until the loop takes it, or has ended.
func (s *Server) post(f func(now time.Duration)) {
	select {
	case s.calls <- f:
	case <-s.loopDone:
	}
}

// do calls f in the loop and waits for it; false when the loop has ended.
func (s *Server) do(ctx context.Context, f func(now time.Duration)) bool {
	done := make(chan struct{})
	call := func(now time.Duration) {
		defer close(done)
		f(now)
	}
	select {
	case s.calls <- call:
	case <-s.loopDone:
		return false
	case <-ctx.Done():
		return false
	}
	select {
	case <-done:
		return true
	case <-s.loopDone:
	case <-ctx.Done():
	}
	return false
}

// Devices returns how many devices are attached to this node.
func (s *Server) Devices(ctx context.Context) (n int, err error) {
	if !s.do(ctx, func(time.Duration) { n = s.hub.node.Devices() }) {
		return 0, fmt.Errorf("basestation: %w", errors.Join(errors.New("not running"), ctx.Err()))
	}
	return n, nil
}

// Close releases what New took, where Run was not called.
func (s *Server) Close() {
	s.once.Do(func() {
		s.net.close()
		s.hurried()
		s.peers.close()
		if s.relay != nil {
			s.relay.Close()
		}
		s.closed()
	})
}

// closed closes loopDone where the loop has not.
func (s *Server) closed() {
	select {
	case <-s.loopDone:
	default:
		close(s.loopDone)
	}
}
