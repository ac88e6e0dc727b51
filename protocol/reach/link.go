package reach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// LinkConfig is what a Link needs. Key, Roots, Addresses and Packets must be set.
type LinkConfig struct {
	Key       *identity.Key
	Roots     []attach.Root // one or two; floors as they were kept
	Addresses []string      // of the basestation: host:port, the last good one first
	Factory   attach.Factory
	Introduce *attach.Introduce // a client's question
	Find      *attach.Find      // a client's other question; neither is a device
	Firmware  string            // at most 64 bytes
	Boots     uint32
	Known     attach.Known // as it was kept; the zero value costs a round trip

	Packets Packets // the UDP socket; what it receives goes to Link.Deliver

	// Event and Message tell what happened and which control messages came. They
	// are called one after the other, in the goroutine of Run, and may call the
	// link. Either may be nil.
	Event   func(attach.LinkEvent)
	Message func(k attach.Kind, body []byte)

	// Network names the network that this machine is in now: that UDP is blocked is
	// remembered by it. Nil: all are one.
	Network func() string
	// Blocked tells of the present network, for a program that is new in it, that
	// UDP was blocked there before.
	Blocked bool
	Log     *slog.Logger // nil discards

	// Lookup resolves a host name; nil: as the system does.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
}

// A Link keeps device or client attached to a node of the basestation: over UDP
// where that works, in TCP where it does not.
//
//	UDP -- no answer for 1.5 s --> UDP and TCP -- the first that answers --> UDP or TCP
//	TCP -- every 10 min, or another network --> asks over UDP -- an answer --> UDP
//
// It is the same attach all the time: a packet is found by its index, so the node
// follows from one way to the other as it follows to another address.
type Link struct {
	c       LinkConfig
	log     *slog.Logger
	ready   chan struct{}
	packets chan arrived // to Run
	dial    func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	wake    chan struct{} // to Run: something has changed; holds one token
	looking chan struct{} // to the resolver, likewise

	mu       sync.Mutex
	link     *attach.Link                // nil until a name was resolved, and before Run
	began    time.Time                   // times of link are since then
	names    []string                    // Addresses, the last good one first
	resolved map[string][]netip.AddrPort // by name
	ways     ways
	streams  map[netip.AddrPort]*stream
	running  *sync.WaitGroup // goroutines that Run waits for; nil before and after
	ctx      context.Context // of Run
	calls    []func()        // callbacks for Run
	widened  time.Duration   // since when the link waited when packets were last sent both ways because of it
	attached bool
	status   Status
}

// An arrived packet, and how it came.
type arrived struct {
	way    way
	packet []byte
}

// arrivedMost is how many packets may wait for Run: what a node sends at once,
// many times over. More are lost, like on any network.
const arrivedMost = 64

// Status says how a link is.
type Status struct {
	State    attach.State
	Address  string         // of the basestation, as configured: the last good one, to be kept
	Node     netip.AddrPort // attached to; the zero value when not attached
	Over     string         // "udp" or "tcp"; "" when not attached
	Observed netip.AddrPort // where the node sees our UDP socket; none over TCP
	Since    time.Time      // attached, or not attached, since then
	Err      error          // why not attached: of the last attempt; nil when attached
}

// NewLink returns a link that does nothing until Run. It returns an error that wraps
// attach.ErrLinkConfig.
func NewLink(c LinkConfig) (*Link, error) {
	if c.Packets == nil || len(c.Addresses) == 0 {
		return nil, fmt.Errorf("%w: addresses and a socket are needed", attach.ErrLinkConfig)
	}
	for _, a := range c.Addresses {
		if _, _, err := splitAddress(a); err != nil {
			return nil, fmt.Errorf("%w: %w", attach.ErrLinkConfig, err)
		}
	}
	if c.Network == nil {
		c.Network = func() string { return "" }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Lookup == nil {
		c.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	l := &Link{
		c: c, log: c.Log, dial: dialStream, ready: make(chan struct{}), packets: make(chan arrived, arrivedMost),
		wake: make(chan struct{}, 1), looking: make(chan struct{}, 1),
		began: time.Now(), names: append([]string(nil), c.Addresses...), resolved: map[string][]netip.AddrPort{}, streams: map[netip.AddrPort]*stream{},
		status: Status{Since: time.Now()}, widened: -1,
	}
	l.ways = newWays(c.Network())
	if c.Blocked {
		l.ways.remember(0)
	}
	// What is wrong with the rest of the configuration is said now and not when
	// the first name is resolved.
	if _, err := attach.NewLink(l.linkConfig([]netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), 1)})); err != nil {
		return nil, err
	}
	return l, nil
}

// String names the task.
func (l *Link) String() string { return "basestation" }

// Ready is closed as soon as Run has begun: nothing waits for a basestation.
func (l *Link) Ready() <-chan struct{} { return l.ready }

// Deliver takes a packet from the socket's reader: all that begin with a byte below
// 0x40 and are no punch may be given. It keeps nothing of packet and does not block.
func (l *Link) Deliver(_ netip.AddrPort, packet []byte) {
	if len(packet) == 0 || len(packet) > attach.MaxPacket {
		return
	}
	select {
	case l.packets <- arrived{overUDP, append([]byte(nil), packet...)}:
	default: // as if the network had lost it
	}
}

// Send queues a control message for the node; body is what attach.Encode takes. It
// returns attach.ErrSilent while there is no node, attach.ErrBusy or attach.ErrTooLarge.
func (l *Link) Send(k attach.Kind, body any) error {
	b, err := attach.Encode(body)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.link == nil || l.running == nil {
		return attach.ErrSilent
	}
	err = l.link.Send(l.nowLocked(), k, b)
	poke(l.wake)
	return err
}

// NetworkChanged tells that addresses or routes of this machine changed: waits
// end, a live link shows the node its new address at once, and UDP is tried
// again.
func (l *Link) NetworkChanged() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ways.moved(l.nowLocked(), l.c.Network())
	for _, s := range l.streams {
		s.cut() // its local address may be gone; another is there in a round trip
	}
	if l.link != nil {
		l.link.NetworkChanged(l.nowLocked())
	}
	poke(l.looking)
	poke(l.wake)
}

// Status returns how the link is now.
func (l *Link) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// Hash names the present attach, and with it an introduction; ok is false while there
// is none.
func (l *Link) Hash() (hash [32]byte, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.link == nil {
		return hash, false
	}
	return l.link.Hash()
}

// Node returns the certificate of the node to which the link is attached: its addresses
// are where a relay leg goes.
func (l *Link) Node() (c attach.Certificate, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.link == nil {
		return c, false
	}
	return l.link.Node()
}

// Known returns what to keep of the node for the next start.
func (l *Link) Known() attach.Known {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.link == nil {
		return l.c.Known
	}
	return l.link.Known()
}

// Roots returns the root keys with the floors to be kept on disk.
func (l *Link) Roots() []attach.Root {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.link == nil {
		return append([]attach.Root(nil), l.c.Roots...)
	}
	return l.link.Roots()
}

func (l *Link) nowLocked() time.Duration { return time.Since(l.began) }

// poke leaves a token in a channel that holds one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

var errStopped = errors.New("the link was stopped")
