package basestation

import (
	"net/netip"
	"time"
)

// A HELLO is the most expensive thing that a stranger can send, and they come in
// bursts: a fleet that comes back, a network that is there again. So they wait here
// while anything else is to be done, and the newest is served first. Whoever comes
// while the node is busy is served at once, and of those who wait too long most have
// sent theirs again.
const (
	helloKind = 0x05 // first byte and size of HELLO, see docs/attach.md
	helloSize = 75
	// maxBacklog is what a core greets in half a second. The oldest goes.
	maxBacklog = 2048
	// helloPatience is when a HELLO is too old to be answered: it was sent again
	// a quarter of a second after the first time, and half a second after that.
	helloPatience = 700 * time.Millisecond
)

// A backlog is the HELLOs that wait: a stack of bounded height.
type backlog struct {
	waiting [maxBacklog]waitingHello
	top     int // where the next one goes, modulo its size
	count   int
}

type waitingHello struct {
	from   netip.AddrPort
	came   time.Duration
	packet [helloSize]byte
}

// push takes a packet if it is a HELLO.
func (b *backlog) push(now time.Duration, from netip.AddrPort, packet []byte) bool {
	if len(packet) != helloSize || packet[0] != helloKind {
		return false
	}
	w := &b.waiting[b.top]
	w.from, w.came = from, now
	copy(w.packet[:], packet)
	b.top = (b.top + 1) % maxBacklog
	b.count = min(b.count+1, maxBacklog)
	return true
}

// pop returns the newest, good until the next push; nil when all that are left are
// too old.
func (b *backlog) pop(now time.Duration) *waitingHello {
	if b.count == 0 {
		return nil
	}
	b.top = (b.top + maxBacklog - 1) % maxBacklog
	b.count--
	w := &b.waiting[b.top]
	if now-w.came > helloPatience {
		b.count = 0 // those below are older
		return nil
	}
	return w
}
