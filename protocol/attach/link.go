package attach

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/flynn/noise"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A State is how far a link is.
type State int

// The states. A renewal runs through them beside the live link, which stays
// StateAttached meanwhile.
//
//	Waiting -> Locating -> Greeting -> Attaching -> Attached
//	   ^---------+------------+------------+------------'   failed, refused, reset, silent
//	Waiting ---------------> Greeting                       node and cookie remembered
const (
	StateWaiting State = iota
	StateLocating
	StateGreeting
	StateAttaching
	StateAttached
	StateClosed
)

func (s State) String() string {
	return [...]string{"waiting", "locating", "greeting", "attaching", "attached", "closed"}[s]
}

const (
	// renewAfter is how long the keys of one handshake are used. A day, and not
	// the minutes of a VPN: a million devices renewing daily are a dozen
	// handshakes a second, and little is said on this link. Up to an eighth is
	// taken off at random, so that a fleet does not renew together.
	renewAfter = 24 * time.Hour
	// rememberedTries of a remembered node before it is asked for anew: 1.75 s.
	rememberedTries = 3
	// maxRetries of a HELLO for the sake of its cookie, before giving up.
	maxRetries = 3
	// maxBasestations bounds what names resolve to; a LOCATE numbers them in a byte.
	maxBasestations = 16
	// duplicateWait, when a node names no wait: DESIGN gives the first a minute.
	duplicateWait = time.Minute
)

// Errors of a link.
var (
	ErrSilent     = errors.New("no answer")
	ErrVersion    = errors.New("the node speaks another version of the protocol")
	ErrLinkConfig = errors.New("link configuration")
)

// A RefusedError is what a node said instead of attaching a device.
type RefusedError struct{ Code Code }

func (e *RefusedError) Error() string { return "refused by the basestation: " + e.Code.String() }

// A LostError ends a live link.
type LostError struct{ Reason CloseReason }

func (e *LostError) Error() string { return "link lost: " + e.Reason.String() }

// Known is what is worth keeping of a node between two links: with it the next
// attach needs one round trip less. The zero value knows nothing.
type Known struct {
	Certificate []byte
	Cookie      []byte
}

// LinkConfig is what a link needs. Key, Roots, Basestations and Send must be set.
type LinkConfig struct {
	Key          *identity.Key
	Roots        []Root           // one or two; floors as they were kept
	Basestations []netip.AddrPort // controllers, the last good one first
	Factory      Factory          // of a device whose vendor uses one
	Introduce    *Introduce       // a client's question
	Find         *Find            // a client's other question; neither is a device
	Firmware     string           // at most 64 bytes, shown to the operator
	Boots        uint32
	Known        Known

	// Send hands out a packet. Event and Message, if set, tell what happened and
	// which control messages came that this package does not know itself. None
	// of them may call the link.
	Send    func(to netip.AddrPort, packet []byte)
	Event   func(LinkEvent)
	Message func(k Kind, body []byte)

	Random io.Reader // nil is crypto/rand
}

// A LinkEvent tells the owner of a link what changed.
type LinkEvent struct {
	State      State          // after the event
	Err        error          // why the link ended or an attempt failed, else nil
	Controller netip.AddrPort // who located the node: the one to keep as last good
	Observed   netip.AddrPort // the address this side is seen at, when it became known
	Unix       uint64         // time in seconds as the node has it; 0: not told
}

// A Link is the side of a device or of a client. It is handed packets by
// Receive and the time by Tick, which also says when it wants to be called next.
// Times are durations since any fixed instant, on a clock that only advances.
type Link struct {
	c        LinkConfig
	roots    []Root
	prefix   uint16
	live     *session // attached; nil while there is none
	keep     keepalive
	renewAt  time.Duration
	previous token // of the latest attach: proves that a new one replaces it
	replaces bool

	// The attempt under way; stage StateAttached means none.
	stage        State
	due          time.Duration
	tries        int
	retries      int
	backoff      backoff
	controller   int              // in Basestations
	basestations []netip.AddrPort // for the next attempt; nil: the same
	remembered   bool
	nonce        uint64      // of LOCATE; its last byte is the controller's place in Basestations
	probe        uint64      // of Probe; 0: none
	certificate  Certificate // of the node
	node         netip.AddrPort
	cookie       cookie
	known        Known
	index        uint64
	packet       []byte // HELLO, sent again as it is
	handshake    *noise.HandshakeState
	next         *session
	lastErr      error // what was wrong with the answers so far

	asked   time.Duration // when the oldest packet was sent that should have been answered
	waiting bool          // there is one
}

// NewLink returns a link that begins at its first Tick. It returns an error that
// wraps ErrLinkConfig.
func NewLink(c LinkConfig) (*Link, error) {
	switch {
	case c.Key == nil || c.Send == nil || len(c.Basestations) == 0:
		return nil, fmt.Errorf("%w: key, basestation and send are needed", ErrLinkConfig)
	case len(c.Roots) < 1 || len(c.Roots) > maxRoots:
		return nil, fmt.Errorf("%w: want one or two root keys, not %d", ErrLinkConfig, len(c.Roots))
	case len(c.Basestations) > maxBasestations:
		return nil, fmt.Errorf("%w: more than %d addresses of basestations", ErrLinkConfig, maxBasestations)
	case len(c.Factory.Serial) > maxSerial || len(c.Firmware) > maxSerial:
		return nil, fmt.Errorf("%w: serial number or firmware longer than %d bytes", ErrLinkConfig, maxSerial)
	}
	l := &Link{c: c, roots: append([]Root(nil), c.Roots...), keep: keepaliveOf(c)}
	id := c.Key.ID()
	if c.Find != nil {
		if c.Introduce != nil {
			return nil, fmt.Errorf("%w: one question a link", ErrLinkConfig)
		}
		if err := c.Find.check(); err != nil {
			return nil, fmt.Errorf("%w: call number: %w", ErrLinkConfig, err)
		}
		id = "" // every node knows
	}
	if c.Introduce != nil {
		if err := c.Introduce.check(); err != nil {
			return nil, fmt.Errorf("%w: introduction: %w", ErrLinkConfig, err)
		}
		if err := c.Introduce.fitsKey(c.Key.Public()); err != nil {
			return nil, fmt.Errorf("%w: introduction: %w", ErrLinkConfig, err)
		}
		id = c.Introduce.Device
	}
	l.prefix = Prefix(id)
	if l.c.Random == nil {
		l.c.Random = rand.Reader
	}
	l.known = c.Known
	return l, nil
}

func keepaliveOf(c LinkConfig) keepalive {
	if c.client() {
		return newClientKeepalive()
	}
	return newKeepalive()
}

// client tells whether the link is that of a client, who is done when his question has
// arrived.
func (c LinkConfig) client() bool { return c.Introduce != nil || c.Find != nil }

// Prefix is what LOCATE shows of an id: the first 16 bits of its SHA-256.
func Prefix(id identity.ID) uint16 {
	sum := sha256.Sum256([]byte(id))
	return binary.BigEndian.Uint16(sum[:])
}

// State returns how far the link is; StateAttached also while it renews itself.
func (l *Link) State() State {
	if l.live != nil && l.stage != StateClosed {
		return StateAttached
	}
	return l.stage
}

// Roots returns the root keys with the floors to be kept on disk.
func (l *Link) Roots() []Root { return append([]Root(nil), l.roots...) }

// Known returns what to remember of the node.
func (l *Link) Known() Known { return l.known }

// Hash names the present attach; ok is false while there is none.
func (l *Link) Hash() (hash [32]byte, ok bool) {
	if l.live == nil {
		return hash, false
	}
	return l.live.hash, true
}

// Interval is the present interval between keep-alives.
func (l *Link) Interval() time.Duration { return l.keep.interval() }

// Receive takes a packet that came in, from wherever it came: what it says
// counts only if its seal, its nonce or its token is right. It reports whether
// that was so, and thus whether the way by which the packet came is open.
func (l *Link) Receive(now time.Duration, packet []byte) (genuine bool) {
	if len(packet) == 0 || l.stage == StateClosed {
		return false
	}
	switch packet[0] {
	case kindLocated:
		genuine = l.receiveLocated(now, packet)
	case kindRetry:
		genuine = l.receiveRetry(now, packet)
	case kindWelcome:
		genuine = l.receiveWelcome(now, packet)
	case kindReset:
		genuine = l.receiveReset(now, packet)
	case kindFromNode:
		genuine = l.receiveSealed(now, packet)
	}
	return genuine
}

// Tick does what is due and returns when to call it next. Calling it earlier, or
// after every Receive, does no harm.
func (l *Link) Tick(now time.Duration) time.Duration {
	if l.stage == StateClosed {
		return now + maxRetry
	}
	if l.live != nil {
		l.tickLive(now)
	}
	if l.stage != StateAttached && now >= l.due {
		l.tickAttempt(now)
	}
	wake := now + maxRetry
	if l.stage != StateAttached {
		wake = min(wake, l.due)
	}
	if s := l.live; s != nil {
		wake = min(wake, s.beatAt)
		if s.controlAt != 0 {
			wake = min(wake, s.controlAt)
		}
		if l.stage == StateAttached {
			wake = min(wake, l.renewAt)
		}
	}
	return max(wake, now)
}

// NetworkChanged tells that addresses or routes of this machine changed: waits
// end, and a live link shows the node its new address at once.
func (l *Link) NetworkChanged(now time.Duration) {
	l.backoff.reset()
	l.keep = keepaliveOf(l.c)
	switch l.stage {
	case StateWaiting:
		l.due = now
	case StateLocating, StateGreeting:
		l.tries, l.due = 0, now
	}
	l.Check(now)
}

// Send queues a control message on the live link. It returns ErrSilent when
// there is none, ErrBusy or ErrTooLarge.
func (l *Link) Send(now time.Duration, k Kind, body []byte) error {
	if l.live == nil {
		return ErrSilent
	}
	err := l.live.sender.add(now, k, body)
	l.pushControl(now, l.live)
	return err
}

// Close says goodbye and ends the link for good.
func (l *Link) Close(now time.Duration) {
	if l.live != nil {
		l.transmit(now, l.live, []byte{frameClose, byte(CloseLeaving)})
	}
	l.live, l.next, l.stage = nil, nil, StateClosed
}

func (l *Link) event(e LinkEvent) {
	if l.c.Event != nil {
		e.State = l.State()
		l.c.Event(e)
	}
}

// transmit seals and sends one frame. A key that is used up sends nothing more;
// the renewal that it set off long before will replace it.
func (l *Link) transmit(now time.Duration, s *session, frame []byte) {
	if p, err := s.seal(frame); err == nil {
		s.traffic = now
		l.c.Send(s.node, p)
	}
}

// pushControl sends what is due and reports whether the node answers no more.
func (l *Link) pushControl(now time.Duration, s *session) (lost bool) {
	s.controlAt, lost = s.sender.tick(now, s.heard, func(frame []byte) {
		if !l.waiting {
			l.asked, l.waiting = now, true
		}
		l.transmit(now, s, frame)
	})
	return lost
}

func (l *Link) random() uint64 {
	var b [8]byte
	if _, err := io.ReadFull(l.c.Random, b[:]); err != nil {
		panic("attach: no randomness: " + err.Error()) // crypto/rand never fails
	}
	return binary.BigEndian.Uint64(b[:])
}

// fraction returns a number in [0, 1).
func (l *Link) fraction() float64 { return float64(l.random()>>11) / (1 << 53) }

func (l *Link) receiveReset(now time.Duration, packet []byte) bool {
	r, err := parseReset(packet)
	if err != nil || l.live == nil || !l.live.hasToken || r.index != l.live.peer ||
		subtle.ConstantTimeCompare(r.token[:], l.live.token[:]) != 1 {
		return false
	}
	l.waiting = false
	spread := max(time.Duration(r.spread)*time.Second, minBackoff)
	l.lost(now, CloseReset, time.Duration(l.fraction()*float64(spread)))
	return true
}

// lost ends the live link; a new attempt begins after wait.
func (l *Link) lost(now time.Duration, why CloseReason, wait time.Duration) {
	l.live = nil
	if l.stage == StateAttached {
		l.stage, l.due = StateWaiting, now+wait
	}
	l.event(LinkEvent{Err: &LostError{why}})
}
