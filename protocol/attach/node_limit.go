package attach

import (
	"net/netip"
	"time"

	"github.com/keyholed/keyhole/internal/pace"
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

// A limit lets each source do something so many times a second, and counts whom it
// does not let.
type limit struct {
	*pace.Table[netip.Prefix]
	refused uint64
}

func newLimit(perSecond int) *limit {
	every := time.Second / time.Duration(perSecond)
	return &limit{Table: pace.NewTable[netip.Prefix](int(burstSeconds*time.Second/every)+1, every)}
}

func (l *limit) allow(now time.Duration, source netip.Prefix) bool {
	ok := l.Allow(now, source)
	if !ok {
		l.refused++
	}
	return ok
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
