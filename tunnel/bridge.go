package tunnel

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyholed/keyhole/tunnel/tries"
)

const (
	// DefaultPerPeer is how many tunnels one peer may have open: a browser
	// opens six connections a page, so five pages at once.
	DefaultPerPeer = 32
	// DefaultTotal is how many may be open in all. With 30 KiB each when idle,
	// 128 KiB of buffers when both directions flow at once, and 4.5 MiB that
	// TLS gathers records in, they fit in 25 MiB.
	DefaultTotal = 128
)

// Errors of Open. Both mean that trying again later may help.
var (
	ErrPeerLimit  = errors.New("too many tunnels of this peer")
	ErrTotalLimit = errors.New("too many tunnels")
	// ErrClosed: the Bridge has been closed.
	ErrClosed = errors.New("the bridge is closed")
)

// Config is how a Bridge is made. Zero fields mean the defaults.
type Config struct {
	PerPeer int // DefaultPerPeer
	Total   int // DefaultTotal

	Idle     time.Duration // DefaultIdle
	HalfIdle time.Duration // DefaultHalfIdle
	Stall    time.Duration // DefaultStall
	Dial     time.Duration // DefaultDial

	// Own is asked about every address right before it is dialled, host names
	// resolved. Nil: nothing is our own.
	Own Own
	// Changed is called after a tunnel was opened or has ended, without locks held,
	// possibly from several goroutines. It must not block. Nil: nobody is told.
	Changed func()
	// Log gets one line for each tunnel when it has ended. Nil: none.
	Log *slog.Logger
}

// Meta says on whose behalf a tunnel is opened.
type Meta struct {
	Peer   string // fingerprint: what the limit per peer counts by
	User   string // for the log; "" when nobody is known by a name
	Path   string // "tcp", "quic", …: how the peer reached us
	Remote string // its address, for the log

	Session uint64 // number of the session, for lists
	Kind    string // of principal, for lists and logs; "" for a paired key
	Way     string // "direct", "punched", "relay", for lists and logs

	Place  Place
	Source string // of a stranger: what the limit per source counts by
}

// Bridge opens services and runs the tunnels to them. Its methods may be called
// from any goroutine.
type Bridge struct {
	config   Config
	log      *slog.Logger
	services atomic.Pointer[Table]

	mu     sync.Mutex
	next   uint64
	live   map[uint64]*Tunnel // dialling ones included
	peers  map[string]int     // tunnels in live by Meta.Peer, of who is listed
	others int                // tunnels in live of strangers
	closed bool
}

// NewBridge returns a Bridge without services; see SetServices.
func NewBridge(c Config) *Bridge {
	if c.PerPeer <= 0 {
		c.PerPeer = DefaultPerPeer
	}
	if c.Total <= 0 {
		c.Total = DefaultTotal
	}
	if c.Dial <= 0 {
		c.Dial = DefaultDial
	}
	b := &Bridge{config: c, log: c.Log, live: make(map[uint64]*Tunnel), peers: make(map[string]int)}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	return b
}

// SetServices replaces the table for whatever is opened from now on. Tunnels
// that are open stay as they are, wherever they lead.
func (b *Bridge) SetServices(t *Table) { b.services.Store(t) }

// Services returns the table of now. It may be nil, which is the empty table.
func (b *Bridge) Services() *Table { return b.services.Load() }

// Tunnel is one way into a service, from Open to Close or to the end of Run.
type Tunnel struct {
	bridge   *Bridge
	number   uint64
	meta     Meta
	service  Service
	since    time.Time
	upstream net.Conn // nil while dialling
	open     bool     // not dialling any more; guarded by Bridge.mu
	traffic  Traffic
	guard    *guard          // nil: the access list has decided, nobody counts passwords
	ctx      context.Context // done when the tunnel is cut
	cut      context.CancelCauseFunc
}

// Live is a tunnel as a list shows it.
type Live struct {
	Number   uint64 // counts up from 1, never reused
	Meta     Meta
	Service  string
	Type     string
	Since    time.Time
	Media    bool  // somebody may be watching or listening: it is open, and to such a service
	Up, Down int64 // bytes so far
}

// Open takes a place and dials the service. The errors are ErrPeerLimit,
// ErrTotalLimit, ErrClosed, a *DownError when the service cannot be reached, or
// ctx's. Whoever got a Tunnel must Run or Close it.
func (b *Bridge) Open(ctx context.Context, m Meta, s Service) (*Tunnel, error) {
	t, err := b.reserve(m, s)
	if err != nil {
		return nil, err
	}
	opened := false
	defer func() {
		if !opened { // whatever happened
			t.release()
		}
	}()
	// A tunnel that is cut while it dials does not wait for the answer.
	dialing, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(t.ctx, func() { stop(context.Cause(t.ctx)) })()
	if t.upstream, err = b.Dial(dialing, s); err != nil {
		return nil, err
	}
	opened = true
	b.mu.Lock()
	t.open = true
	b.mu.Unlock()
	b.changed()
	return t, nil
}

func (b *Bridge) changed() {
	if b.config.Changed != nil {
		b.config.Changed()
	}
}

func (b *Bridge) reserve(m Meta, s Service) (*Tunnel, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	if err := b.roomLocked(m, s); err != nil {
		return nil, err
	}
	b.next++
	t := &Tunnel{bridge: b, number: b.next, meta: m, service: s, since: time.Now()}
	t.ctx, t.cut = context.WithCancelCause(context.Background())
	b.live[t.number] = t
	b.countLocked(t, 1)
	return t, nil
}

// release gives the place back, once.
func (t *Tunnel) release() {
	t.cut(nil)
	b := t.bridge
	b.mu.Lock()
	there := b.live[t.number] == t
	if there {
		delete(b.live, t.number)
		b.countLocked(t, -1)
	}
	b.mu.Unlock()
	if there {
		b.changed()
	}
}

// mediaLocked reports whether somebody may be watching or listening through it.
func (t *Tunnel) mediaLocked() bool { return t.open && t.service.Media() }

// Watch has the passwords counted that go through the tunnel, by the ledger of
// failed tries that asker belongs to. It is called before Run, for services whose
// Access is AccessApplication.
func (t *Tunnel) Watch(asker *tries.Asker) { t.guard = newGuard(asker, t.service.Type.Refusals) }

// Service is where the tunnel leads.
func (t *Tunnel) Service() Service { return t.service }

// Close gives back a tunnel that is not run, for example because the peer went
// away before it was answered. After Run it does nothing.
func (t *Tunnel) Close() error {
	err := t.upstream.Close()
	t.release()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Run copies between the peer's stream and the service until the tunnel ends,
// closes both, gives the place back and writes the one log line. Done ctx cuts
// the tunnel. It may be called once.
func (t *Tunnel) Run(ctx context.Context, stream Conn) Report {
	defer t.release()
	c := t.bridge.config
	p := Pump{cut: t.ctx, Idle: c.Idle, HalfIdle: c.HalfIdle, Stall: c.Stall, Traffic: &t.traffic, rtsp: t.service.Type.watch, guard: t.guard}
	service := t.inner()
	report := p.Run(ctx, stream, service)
	verdict(&report, service)
	t.bridge.logEnd(t, report)
	return report
}

func (b *Bridge) logEnd(t *Tunnel, r Report) {
	args := []any{
		"tunnel", t.number, "peer", t.meta.Peer, "user", t.meta.User, "service", t.service.Name,
		"path", t.meta.Path, "remote", t.meta.Remote,
		"up", r.Up, "down", r.Down, "duration", r.Duration.Round(time.Millisecond), "why", string(r.Why),
	}
	if r.Err != nil {
		args = append(args, "error", r.Err)
	}
	b.log.Info("tunnel ended", args...)
}

// List returns the tunnels that are open, dialling ones included, oldest first.
func (b *Bridge) List() []Live {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]Live, 0, len(b.live))
	for t := range maps.Values(b.live) {
		list = append(list, t.now())
	}
	slices.SortFunc(list, func(x, y Live) int { return cmp.Compare(x.Number, y.Number) })
	return list
}

func (t *Tunnel) now() Live {
	return Live{
		Number: t.number, Meta: t.meta, Service: t.service.Name, Type: t.service.Type.Name,
		Since: t.since, Media: t.mediaLocked(), Up: t.traffic.Up(), Down: t.traffic.Down(),
	}
}

// Counts is how many tunnels are open.
type Counts struct {
	Total  int
	Media  int            // those through which somebody may be watching or listening
	ByType map[string]int // by Type.Name; types without tunnels are missing
}

// Counts returns the numbers of now.
func (b *Bridge) Counts() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := Counts{Total: len(b.live), ByType: make(map[string]int)}
	for _, t := range b.live {
		c.ByType[t.service.Type.Name]++
		if t.mediaLocked() {
			c.Media++
		}
	}
	return c
}

// Cut ends the open tunnels that match, at once, and returns how many there
// were. Those it cuts say so in their Report, with err as the detail.
func (b *Bridge) Cut(match func(Live) bool, err error) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, t := range b.live {
		if match(t.now()) {
			t.cut(err)
			n++
		}
	}
	return n
}

// Close cuts all tunnels and lets no more be opened. It does not wait for Run to
// return: whoever called Run does.
func (b *Bridge) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.Cut(func(Live) bool { return true }, ErrClosed)
	return nil
}
