package attach

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// Limits of what a node holds for those who have not proven a key.
const (
	// maxPending bounds handshakes under way: 3 MB, and at the pace of one core
	// more than a second's worth.
	maxPending = 4096
	// maxPendingPerSource is for one IPv4 address or IPv6 /64. A source is
	// proven, so this only keeps one from taking all; a NAT with more devices
	// behind it gets them through in a few round trips.
	maxPendingPerSource = 128
	greetedTime         = 5 * time.Second  // from WELCOME to ATTACH: what pairing gives a step
	askedTime           = 20 * time.Second // what the owner has to decide
	refusedTime         = 5 * time.Second  // to hear about it
	clientTime          = 60 * time.Second // a client without a word

	// sweepTime is how long a node takes to look at every peer once.
	sweepTime = 2 * time.Second
	// TickEvery is how often Node.Tick wants to be called.
	TickEvery = 100 * time.Millisecond

	// A peer may promise to be heard within a second to ten minutes.
	minInterval, maxInterval = 1, 600
	// silenceGrace after two missed keep-alives.
	silenceGrace = 10
	// firstInterval holds until a peer has said its own.
	firstInterval = 30
	// duplicateAfter is what the second device of one id is told to wait.
	duplicateAfter = 60
)

// ErrUnknownPeer means that an index is not, or no longer, that of a peer.
var ErrUnknownPeer = errors.New("no such peer")

// A Node is the side of the basestation: controller and node in one. It is
// handed packets by Receive and the time by Tick, about every TickEvery. Times are
// durations since the node was made, on a clock that only advances. Ask may call
// Answer, Introduce and Message may call Send and Close; the other functions must
// not call the node.
type Node struct {
	c       NodeConfig
	static  responder
	cookies *Cookies
	slotEnd time.Duration // of our own cookies

	slab    slab
	devices map[shortID]uint32      // slots of the attached ones
	pending map[uint32]*pending     // entries that are neither attached nor client
	clients map[uint32]netip.Prefix // where it was when it asked
	hellos  map[helloKey]uint32     // to answer a repeated HELLO with the same WELCOME
	sources map[netip.Prefix]int    // pending, by source
	asking  map[netip.Prefix]int    // clients, by source
	streams map[netip.AddrPort]*stream
	senders map[uint32]*sender // of peers that have control messages waiting
	swept   int                // next slot to look at
	sweptAt time.Duration

	strangers, greetings *limit
	clientsFull, full    uint64

	out, frame, in []byte // scratch
}

// pending is what only an unfinished attach needs.
type pending struct {
	key      helloKey
	source   netip.Prefix
	welcome  []byte
	deadline time.Duration
	previous []byte // reset token that the ATTACH showed
	probe    *probe
}

// A helloKey tells a repeated HELLO from a new one.
type helloKey struct {
	from  netip.AddrPort
	index uint64
	noise [keySize]byte
}

// NewNode returns a node without peers.
func NewNode(c NodeConfig) (*Node, error) {
	if c.Send == nil || c.Ask == nil || c.ResetKey == (Secret{}) {
		return nil, errors.New("attach node: send, ask and reset key are needed")
	}
	if len(c.Certificate) < minCertificate || len(c.Certificate) > maxCertificate {
		return nil, fmt.Errorf("attach node: certificate: %w", ErrMalformed)
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	c.MaxPeers = cmp.Or(c.MaxPeers, maxSlots)
	c.MaxPending = cmp.Or(c.MaxPending, maxPending)
	c.MaxPendingPerSource = cmp.Or(c.MaxPendingPerSource, maxPendingPerSource)
	c.MaxClientsPerSource = cmp.Or(c.MaxClientsPerSource, maxClientsPerSource)
	static, err := newResponder(c.PrivateKey)
	if err != nil {
		return nil, err
	}
	n := &Node{
		c: c, static: static, cookies: c.Cookies,
		devices: map[shortID]uint32{}, pending: map[uint32]*pending{}, clients: map[uint32]netip.Prefix{},
		hellos: map[helloKey]uint32{}, sources: map[netip.Prefix]int{}, asking: map[netip.Prefix]int{}, streams: map[netip.AddrPort]*stream{},
		senders:   map[uint32]*sender{},
		strangers: newLimit(cmp.Or(c.StrangersPerSecond, strangersPerSecond)), greetings: newLimit(cmp.Or(c.GreetingsPerSecond, greetingsPerSecond)),
	}
	if n.cookies == nil {
		n.cookies = new(Cookies)
		n.rotate(0)
	}
	return n, nil
}

// PublicKey returns the X25519 key that belongs into a node's certificate.
func PublicKey(private Secret) (public [32]byte, err error) {
	r, err := newResponder(private)
	if err == nil {
		copy(public[:], r.key.Public)
	}
	return public, err
}

// Devices returns how many devices are attached.
func (n *Node) Devices() int { return len(n.devices) }

// Peers calls yield with each attached device until it returns false.
func (n *Node) Peers(yield func(Peer) bool) {
	for _, slot := range n.devices {
		if !yield(n.peer(slot)) {
			return
		}
	}
}

func (n *Node) peer(slot uint32) Peer {
	e := n.slab.at(slot)
	return Peer{
		Index: indexOf(slot, e.salt), Fingerprint: e.fingerprint, Hash: e.hash, Address: e.addrPort(),
		Since: time.Duration(e.since) * time.Second, Client: e.state == entryClient,
	}
}

// Send queues a control message for a peer. It returns ErrUnknownPeer, ErrBusy or
// ErrTooLarge.
func (n *Node) Send(now time.Duration, index uint64, k Kind, body []byte) error {
	e, slot := n.slab.find(index)
	if e == nil || e.state != entryAttached && e.state != entryClient {
		return ErrUnknownPeer
	}
	return n.queue(now, e, slot, k, body)
}

// Close ends a link and tells the peer, once: if that is lost the peer learns it
// from the RESET that answers its next packet.
func (n *Node) Close(now time.Duration, index uint64, reason CloseReason) error {
	e, slot := n.slab.find(index)
	if e == nil {
		return ErrUnknownPeer
	}
	n.transmit(e, []byte{frameClose, byte(reason)})
	n.drop(slot, reason)
	return nil
}

// RestartNotice is the packet that tells a device of an earlier run of this node,
// known by its index, to come back within spread. It is the owner's to keep the
// indices and addresses over a restart, and to pace the notices.
func (n *Node) RestartNotice(index uint64, spread time.Duration) []byte {
	s := uint16(min(spread/time.Second, 65535))
	return reset{index, resetToken(n.c.ResetKey, index), s}.append(nil)
}

func (n *Node) event(e NodeEvent) {
	if n.c.Event != nil {
		n.c.Event(e)
	}
}

func (n *Node) rotate(now time.Duration) {
	var s Secret
	n.read(s[:])
	n.cookies.Rotate(n.cookies.slot+1, s)
	n.slotEnd = now + CookieSlot
}

func (n *Node) read(b []byte) {
	if _, err := io.ReadFull(n.c.Random, b); err != nil {
		panic("attach: no randomness: " + err.Error()) // crypto/rand never fails
	}
}

func (n *Node) salt() uint64 {
	var b [8]byte
	n.read(b[:5])
	return binary.LittleEndian.Uint64(b[:])
}

// transmit seals and sends one frame. To an address that is not proven goes no
// more than came from it; what does not fit is lost, like on any bad network.
func (n *Node) transmit(e *entry, frame []byte) {
	size := packetHead + len(frame) + tagSize
	if e.challenge != 0 {
		if int(e.credit) < size {
			return
		}
		e.credit -= uint16(size)
	}
	p, err := seal(newCipher(e.fromNode), n.out[:0], head{kindFromNode, e.peer, e.counter}, frame)
	if err != nil {
		return // used up: the peer renews, or falls silent and is dropped
	}
	e.counter++
	n.out = p
	n.c.Send(e.addrPort(), p)
}

func (n *Node) queue(now time.Duration, e *entry, slot uint32, k Kind, body []byte) error {
	s := n.senders[slot]
	if s == nil {
		s = &sender{last: e.lastNumber}
	}
	if err := s.add(now, k, body); err != nil {
		return err
	}
	e.lastNumber = s.last
	n.senders[slot] = s
	n.push(now, slot, s)
	return nil
}

// push sends what is due and reports whether the peer answers no more.
func (n *Node) push(now time.Duration, slot uint32, s *sender) (lost bool) {
	e := n.slab.at(slot)
	_, lost = s.tick(now, time.Duration(e.heard)*time.Second, func(frame []byte) { n.transmit(e, frame) })
	return lost
}

// drop forgets a peer. Reason is for the event of those who were attached.
func (n *Node) drop(slot uint32, reason CloseReason) {
	e := n.slab.at(slot)
	peer, attached := n.peer(slot), e.state == entryAttached
	if attached && n.devices[shortOf(e.fingerprint)] == slot {
		delete(n.devices, shortOf(e.fingerprint))
	}
	n.settle(slot)
	n.forgetClient(slot)
	delete(n.senders, slot)
	n.displace(slot, e)
	n.slab.release(slot)
	if attached {
		n.event(NodeEvent{Change: PeerGone, Peer: peer, Reason: reason})
	}
}

// settle forgets what only an unfinished attach needs.
func (n *Node) settle(slot uint32) {
	p := n.pending[slot]
	if p == nil {
		return
	}
	delete(n.pending, slot)
	delete(n.hellos, p.key)
	countDown(n.sources, p.source)
}

func (n *Node) forgetClient(slot uint32) {
	if source, ok := n.clients[slot]; ok {
		delete(n.clients, slot)
		countDown(n.asking, source)
	}
}

func countDown(counts map[netip.Prefix]int, source netip.Prefix) {
	if counts[source]--; counts[source] <= 0 {
		delete(counts, source)
	}
}
