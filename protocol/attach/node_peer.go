package attach

import (
	"crypto/hmac"
	"math"
	"net/netip"
	"time"

	"github.com/keyholed/keyhole/internal/pace"
	"github.com/keyholed/keyhole/protocol/identity"
)

func (n *Node) receiveSealed(now time.Duration, from netip.AddrPort, packet []byte) {
	h, err := parseHead(kindToNode, packet)
	if err != nil {
		return
	}
	e, slot := n.slab.find(h.index)
	if e == nil {
		if remote, _ := n.remoteOf(from); !n.strangers.allow(now, pace.Source(remote)) {
			return
		}
		n.out = reset{h.index, resetToken(n.c.ResetKey, h.index), 0}.append(n.out[:0])
		n.c.Send(from, n.out)
		return
	}
	if e.window.seen(h.counter) {
		return
	}
	frame, err := open(newCipher(e.toNode), n.in[:0], h, packet)
	if err != nil {
		return
	}
	n.in = frame
	newest := h.counter >= e.window.next
	e.window.take(h.counter)
	e.heard = seconds(now)
	n.follow(e, slot, from, newest, len(packet))
	n.receiveFrame(now, e, slot, from, frame)
}

// follow moves a peer to the address of its newest packet: a packet is found by
// its index, not by where it came from. Until the peer has answered a PING from
// there, no more is sent to the new address than came from it, since somebody
// could have sent on a packet that he saw with an address of his choice.
func (n *Node) follow(e *entry, slot uint32, from netip.AddrPort, newest bool, size int) {
	if newest && !e.at(from) && n.place(slot, e, from) {
		e.credit = 0
		e.challenge = uint16(n.salt()) | 1
	}
	if e.challenge == 0 || !e.at(from) {
		return
	}
	e.credit = uint16(min(int(e.credit)+size, math.MaxUint16))
	if int(e.credit) >= packetHead+beatSize+tagSize {
		n.transmit(e, beat{id: e.challenge}.append(n.frame[:0], framePing))
	}
}

func (n *Node) receiveFrame(now time.Duration, e *entry, slot uint32, from netip.AddrPort, frame []byte) {
	switch frame[0] {
	case framePing:
		if p, err := parseBeat(frame); err == nil && (e.state == entryAttached || e.state == entryClient) {
			n.receivePing(now, e, p)
		}
	case framePong:
		if p, err := parseBeat(frame); err == nil {
			n.receivePong(now, e, slot, from, p)
		}
	case frameControl:
		if c, err := parseControl(frame); err == nil {
			n.receiveControl(now, e, slot, c)
		}
	case frameAck:
		a, err := parseAck(frame)
		if s := n.senders[slot]; err == nil && s != nil && s.acknowledged(a) {
			delete(n.senders, slot)
			if e.state == entryRefused {
				n.drop(slot, CloseLeaving)
			}
		}
	case frameClose:
		if why, err := parseClose(frame); err == nil {
			n.drop(slot, why)
		}
	}
}

func (n *Node) receivePing(now time.Duration, e *entry, p beat) {
	e.interval = min(max(p.interval, minInterval), maxInterval)
	if p.delay == 0 && (e.challenge == 0 || int(e.credit) >= packetHead+beatSize+tagSize) {
		e.pongAt = 0
		n.transmit(e, p.append(n.frame[:0], framePong))
		return
	}
	// The answer to a PING without delay waits for the address to be proven: our own
	// PING took what may be sent there.
	e.pong, e.pongAt = p, max(seconds(now), 1)
	if p.delay != 0 {
		e.pongAt += uint32(min(p.delay, maxInterval)) + 1 // rounded up: not before its time
	}
}

func (n *Node) receivePong(now time.Duration, e *entry, slot uint32, from netip.AddrPort, p beat) {
	if e.challenge != 0 && p.id == e.challenge && e.at(from) {
		e.challenge, e.credit = 0, 0
		n.latePong(now, e)
		if s := n.senders[slot]; s != nil { // what was sent to where it is no more
			s.again(now)
			n.push(now, slot, s)
		}
		if e.state == entryAttached {
			body, _ := Encode(Observed{observedAddress(from)})
			_ = n.queue(now, e, slot, KindObserved, body) // a busy device learns it the next time
			n.event(NodeEvent{Change: PeerMoved, Peer: n.peer(slot)})
		}
	}
	for second, w := range n.pending {
		if w.probe != nil && w.probe.first == indexOf(slot, e.salt) && w.probe.ping == p.id {
			n.duplicate(now, slot, second)
		}
	}
}

// latePong sends a PONG that is due.
func (n *Node) latePong(now time.Duration, e *entry) {
	if e.pongAt != 0 && e.pongAt <= seconds(now) {
		e.pongAt = 0
		n.transmit(e, e.pong.append(n.frame[:0], framePong))
	}
}

func (n *Node) receiveControl(now time.Duration, e *entry, slot uint32, c control) {
	fresh, acknowledge := e.receiver.take(c.number)
	if acknowledge {
		n.transmit(e, e.receiver.ack().append(n.frame[:0]))
	}
	if !fresh {
		return
	}
	switch {
	case e.state == entryGreeted && c.kind == KindAttach:
		n.receiveAttach(now, e, slot, c.body)
	case e.state == entryGreeted && c.kind == KindIntroduce:
		n.receiveIntroduce(now, e, slot, c.body)
	case e.state == entryGreeted && c.kind == KindFind:
		n.receiveFind(now, e, slot, c.body)
	case e.state == entryGreeted:
		n.drop(slot, CloseSilent) // the first message must be one of the three
	case (e.state == entryAttached || e.state == entryClient) && c.kind >= firstOwned && n.c.Message != nil:
		n.c.Message(now, n.peer(slot), c.kind, c.body)
	}
}

func (n *Node) receiveAttach(now time.Duration, e *entry, slot uint32, body []byte) {
	var a Attach
	if Decode(body, &a) != nil || a.check() != nil {
		n.refuse(now, slot, Refused{Code: CodeRefused})
		return
	}
	public, f, err := parseKey(a.PublicKey)
	if err != nil || identity.Verify(public, identity.PurposeAttach, e.hash[:], a.Signature) != nil {
		n.refuse(now, slot, Refused{Code: CodeRefused})
		return
	}
	p := n.pending[slot]
	e.fingerprint, e.state = f, entryAsked
	e.interval = min(max(a.Interval, minInterval), maxInterval)
	p.deadline, p.previous = now+askedTime, a.Previous
	n.c.Ask(now, &Request{
		Index: indexOf(slot, e.salt), Fingerprint: f, Peer: n.peer(slot),
		Serial: a.Serial, Firmware: a.Firmware, Boots: a.Boots, proof: a.Proof,
	})
}

func (n *Node) receiveIntroduce(now time.Duration, e *entry, slot uint32, body []byte) {
	var i Introduce
	if Decode(body, &i) != nil {
		n.drop(slot, CloseSilent)
		return
	}
	f, err := CheckIntroduction(e.hash, &i)
	if err != nil {
		n.drop(slot, CloseSilent)
		return
	}
	if !n.becomeClient(now, e, slot) {
		return
	}
	e.fingerprint = f
	// A client has no ATTACHED to learn it from, and wants it to tell whether a
	// private address that it is offered is in its own network.
	told, _ := Encode(Observed{observedAddress(e.addrPort())})
	_ = n.queue(now, e, slot, KindObserved, told) // it can do without
	if n.c.Introduce != nil {
		n.c.Introduce(now, n.peer(slot), &i)
	}
}

// receiveFind takes the question of a client who wants nothing but a number resolved.
// He proves no key: whoever asks is counted by where he is.
func (n *Node) receiveFind(now time.Duration, e *entry, slot uint32, body []byte) {
	var f Find
	if Decode(body, &f) != nil {
		n.drop(slot, CloseSilent)
		return
	}
	if n.becomeClient(now, e, slot) && n.c.Message != nil {
		n.c.Message(now, n.peer(slot), KindFind, body)
	}
}

// becomeClient makes room for one more client, or tells him that there is none.
func (n *Node) becomeClient(now time.Duration, e *entry, slot uint32) bool {
	remote, _ := n.remoteOf(e.addrPort())
	source := pace.Source(remote)
	if len(n.clients) >= maxClients || n.asking[source] >= n.c.MaxClientsPerSource {
		n.clientsFull++
		n.refuse(now, slot, Refused{Code: CodeBusy})
		return false
	}
	e.state, e.since = entryClient, seconds(now)
	n.settle(slot)
	n.clients[slot] = source
	n.asking[source]++
	return true
}

// Answer decides a request. CodeAccepted attaches the device, unless another one
// with its key is attached and answers a probe. It returns ErrUnknownPeer when
// the request is not waiting any more.
func (n *Node) Answer(now time.Duration, index uint64, code Code) error {
	e, slot := n.slab.find(index)
	if e == nil || e.state != entryAsked {
		return ErrUnknownPeer
	}
	if code != CodeAccepted {
		n.refuse(now, slot, Refused{Code: code})
		return nil
	}
	first, taken := n.devices[shortOf(e.fingerprint)]
	if !taken {
		n.attach(now, slot)
		return nil
	}
	firstIndex := indexOf(first, n.slab.at(first).salt)
	held := resetToken(n.c.ResetKey, firstIndex)
	if p := n.pending[slot]; !hmac.Equal(p.previous, held[:]) {
		e.state = entryProbing
		p.probe = &probe{first: firstIndex, began: now}
		n.tickProbe(now, slot, p)
		return nil
	}
	// Only the device that is attached was told this token: it renews its link.
	n.drop(first, CloseReplaced)
	n.attach(now, slot)
	return nil
}

func (n *Node) attach(now time.Duration, slot uint32) {
	e := n.slab.at(slot)
	e.state, e.since = entryAttached, seconds(now)
	n.settle(slot)
	n.devices[shortOf(e.fingerprint)] = slot
	t := resetToken(n.c.ResetKey, indexOf(slot, e.salt))
	a := Attached{Token: t[:], Observed: observedAddress(e.addrPort())}
	if n.c.Unix != nil {
		a.Unix = n.c.Unix()
	}
	body, err := Encode(a)
	if err == nil {
		err = n.queue(now, e, slot, KindAttached, body)
	}
	if err != nil {
		n.drop(slot, CloseSilent) // cannot be: the message is small and the first
		return
	}
	n.event(NodeEvent{Change: PeerAttached, Peer: n.peer(slot)})
}

func (n *Node) refuse(now time.Duration, slot uint32, r Refused) {
	e, p := n.slab.at(slot), n.pending[slot]
	e.state, p.probe, p.deadline = entryRefused, nil, now+refusedTime
	if body, err := Encode(r); err == nil {
		_ = n.queue(now, e, slot, KindRefused, body) // not heard is refused as well
	}
}

func (n *Node) tickProbe(now time.Duration, slot uint32, p *pending) {
	first, _ := n.slab.find(p.probe.first)
	send, over := p.probe.tick(now)
	switch {
	case first == nil || over:
		if first != nil {
			n.drop(uint32(p.probe.first>>saltBits), CloseReplaced)
		}
		if current, taken := n.devices[shortOf(n.slab.at(slot).fingerprint)]; taken {
			// A third one was faster: it is asked in its turn.
			p.probe = &probe{first: indexOf(current, n.slab.at(current).salt), began: now}
			return
		}
		n.attach(now, slot)
	case send:
		if p.probe.ping == 0 {
			p.probe.ping = uint16(n.salt()) | 1 // one for all three: a slow answer counts as well
		}
		n.transmit(first, beat{id: p.probe.ping}.append(n.frame[:0], framePing))
	}
}

// duplicate sends the second device of one id away: the first is alive.
func (n *Node) duplicate(now time.Duration, first, second uint32) {
	other := n.slab.at(second).addrPort()
	n.refuse(now, second, Refused{Code: CodeDuplicate, After: duplicateAfter})
	n.event(NodeEvent{Change: PeerDuplicate, Peer: n.peer(first), Other: other})
}
