package attach

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// What one source, an IPv4 address or an IPv6 /64, may ask of a node in a second.
// Behind one address may be a carrier's NAT with thousands of devices, which all
// come back when the node was restarted: so the limits are wide, and what is
// over them comes a retransmission later.
const (
	// strangersPerSecond are answers to who has proven nothing: LOCATED, RETRY,
	// RESET. Each costs a few microseconds and never more bytes than it answers;
	// the limit bounds what a forged source can draw upon somebody else.
	strangersPerSecond = 4000
	// greetingsPerSecond are handshakes, with an address that has been proven:
	// at some 400 microseconds each, a fifth of one core.
	greetingsPerSecond = 500
	// Both may come in a burst of so many seconds' worth.
	burstSeconds = 4

	// maxClients in all and of one source: a client is kept for a minute of
	// silence, and needs nothing to be one but a key of its own.
	maxClients          = 1 << 16
	maxClientsPerSource = 1 << 10
)

// limitBuckets is how many sources are told apart, in half a megabyte. Two that fall
// into one share its limit; which do cannot be known from outside.
const limitBuckets = 1 << 16

// A limit lets each source do something so many times a second, in bounded memory:
// of each bucket it keeps the time until which its allowance is used up (GCRA,
// ITU-T I.371).
type limit struct {
	seed    maphash.Seed
	every   time.Duration // one for each
	burst   time.Duration
	until   []time.Duration // by bucket
	refused uint64
}

func newLimit(perSecond int) *limit {
	return &limit{
		seed: maphash.MakeSeed(), every: time.Second / time.Duration(perSecond), burst: burstSeconds * time.Second,
		until: make([]time.Duration, limitBuckets),
	}
}

func (l *limit) allow(now time.Duration, source netip.Prefix) bool {
	u := &l.until[maphash.Comparable(l.seed, source)%limitBuckets]
	if *u-now > l.burst {
		l.refused++
		return false
	}
	*u = max(*u, now) + l.every
	return true
}

// sourceOf is what counts as one source: an IPv4 address or an IPv6 /64.
func sourceOf(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// NodeCounts are what a node has refused because of its limits, since it was made.
type NodeCounts struct {
	Strangers uint64 // answers to who has proven nothing
	Greetings uint64 // handshakes
	Clients   uint64 // introductions, because too many clients are there
	Full      uint64 // handshakes, because too many are under way or all slots are taken
}

// Counts returns what was refused because of limits.
func (n *Node) Counts() NodeCounts {
	return NodeCounts{n.strangers.refused, n.greetings.refused, n.clientsFull, n.full}
}
