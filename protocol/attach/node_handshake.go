package attach

import (
	"net/netip"
	"time"

	"github.com/keyholed/keyhole/internal/pace"
)

// Receive takes a packet and where it came from. What it answers to an address
// that has not proven itself is never larger than the packet.
func (n *Node) Receive(now time.Duration, from netip.AddrPort, packet []byte) {
	if len(packet) == 0 || !from.IsValid() {
		return
	}
	remote, ok := n.remoteOf(from)
	if !ok {
		return
	}
	switch packet[0] {
	case kindLocate:
		n.receiveLocate(now, from, remote, packet)
	case kindHello:
		n.receiveHello(now, from, remote, packet)
	case kindToNode:
		n.receiveSealed(now, from, packet)
	}
}

func (n *Node) receiveLocate(now time.Duration, from netip.AddrPort, remote netip.Addr, packet []byte) {
	l, err := parseLocate(packet)
	if err != nil || !n.strangers.allow(now, pace.Source(remote)) {
		return
	}
	certificate := n.c.Certificate
	if n.c.Locate != nil {
		if other := n.c.Locate(l.prefix); other != nil {
			certificate = other
		}
	}
	if len(certificate) > maxCertificate {
		return // rather silent than larger than the question
	}
	n.out = located{l.nonce, n.cookies.issue(remote), certificate}.append(n.out[:0])
	n.c.Send(from, n.out)
}

// receiveHello checks version and cookie, then that there is room, and only then
// computes anything. In a stream no cookie is needed: TCP has proven the address.
func (n *Node) receiveHello(now time.Duration, from netip.AddrPort, remote netip.Addr, packet []byte) {
	h, err := parseHello(packet)
	if err != nil {
		return
	}
	source := pace.Source(remote)
	if h.version != version || !IsStream(from) && !n.cookies.check(h.cookie, remote) {
		if n.strangers.allow(now, source) {
			n.out = retry{version, h.index, n.cookies.issue(remote)}.append(n.out[:0])
			n.c.Send(from, n.out)
		}
		return
	}
	key := helloKey{from: from, index: h.index}
	copy(key.noise[:], h.noise)
	if slot, ok := n.hellos[key]; ok {
		n.c.Send(from, n.pending[slot].welcome)
		return
	}
	if !n.greetings.allow(now, source) {
		return
	}
	slot, ok := n.room(source)
	if !ok {
		n.full++
		return
	}
	salt := n.salt()
	answer, k, err := receive(n.c.Random, n.static, packet, h, indexOf(slot, salt))
	if err != nil || !n.place(slot, n.slab.at(slot), from) {
		n.slab.release(slot)
		return
	}
	e := n.slab.at(slot)
	*e = entry{
		address: e.address, port: e.port,
		toNode: k.toNode, fromNode: k.fromNode, hash: k.hash, peer: h.index, salt: salt,
		heard: seconds(now), interval: firstInterval, state: entryGreeted,
	}
	n.pending[slot] = &pending{key: key, source: source, welcome: answer, deadline: now + greetedTime}
	n.hellos[key] = slot
	n.sources[source]++
	n.c.Send(from, answer)
}

// room returns a slot for another handshake of a source, if there is one.
func (n *Node) room(source netip.Prefix) (uint32, bool) {
	if n.sources[source] >= n.c.MaxPendingPerSource || len(n.pending) >= n.c.MaxPending && !n.evict() {
		return 0, false
	}
	return n.slab.alloc(n.c.MaxPeers)
}

// evict makes room among the unfinished by dropping one that has not shown a
// proof yet, of the busiest source.
func (n *Node) evict() bool {
	var victim uint32
	var worst *pending
	for slot, p := range n.pending {
		if n.slab.at(slot).state != entryGreeted {
			continue
		}
		busier := worst == nil || n.sources[p.source] > n.sources[worst.source]
		if busier || n.sources[p.source] == n.sources[worst.source] && p.deadline < worst.deadline {
			victim, worst = slot, p
		}
	}
	if worst == nil {
		return false
	}
	n.drop(victim, CloseSilent)
	return true
}

// Tick does what is due: retransmissions, probes, late answers, silences.
func (n *Node) Tick(now time.Duration) {
	if n.c.Cookies == nil && now >= n.slotEnd {
		n.rotate(now)
	}
	for slot, s := range n.senders {
		if n.push(now, slot, s) {
			n.drop(slot, CloseSilent)
		}
	}
	for slot, p := range n.pending {
		if p.probe != nil {
			n.tickProbe(now, slot, p)
		} else if now >= p.deadline {
			n.drop(slot, CloseSilent)
		}
	}
	for slot := range n.clients {
		if e := n.slab.at(slot); now > time.Duration(e.heard)*time.Second+clientTime {
			n.drop(slot, n.silent(e))
		}
	}
	n.sweep(now)
}

// silenceAfter is how many seconds of silence mean that a device is gone.
func silenceAfter(e *entry) uint32 { return 2*uint32(e.interval) + silenceGrace }

// sweep looks at a part of all peers, so that all are seen every sweepTime.
func (n *Node) sweep(now time.Duration) {
	elapsed := now - n.sweptAt
	n.sweptAt = now
	count := n.slab.used
	if elapsed < sweepTime {
		count = int(int64(n.slab.used)*int64(elapsed)/int64(sweepTime)) + 1
	}
	for range min(count, n.slab.used) {
		if n.swept >= n.slab.used {
			n.swept = 0
		}
		slot := uint32(n.swept)
		n.swept++
		e := n.slab.at(slot)
		if e.state != entryAttached {
			continue
		}
		n.latePong(now, e)
		if seconds(now) > e.heard+silenceAfter(e) {
			n.drop(slot, n.silent(e))
		}
	}
}
