package attach

import (
	"net/netip"
	"slices"
	"time"
)

// maxStreamPeers is how many peers may be in one stream: one, and a few more
// while it renews its link.
const maxStreamPeers = 4

// A stream is a TCP connection of kind StreamAttach, as the node sees it.
type stream struct {
	remote netip.Addr // limits and cookies are of this address
	peers  []uint32   // slots of those who are there
}

// Opened tells that a TCP connection of kind StreamAttach from remote is there and
// that stream, a StreamAddr, stands for it from now on: in Receive and in
// NodeConfig.Send. Packets of a stream that was not opened are dropped. A datagram
// whose source IsStream is forged: the owner of the socket drops it.
func (n *Node) Opened(stream netip.AddrPort, remote netip.Addr) {
	if IsStream(stream) {
		n.streams[stream] = newStream(remote)
	}
}

func newStream(remote netip.Addr) *stream { return &stream{remote: remote.Unmap()} }

// lostGrace is how long a peer whose stream has ended may take to come back by
// another way, with the same keys, before it counts as gone: a device whose
// network changes needs a second or two, and nobody is to be told that it left.
const lostGrace = 5 * time.Second

// Lost tells that a stream has ended. Whoever is still there is gone with CloseLost
// unless it is heard from elsewhere within 5 seconds.
func (n *Node) Lost(now time.Duration, stream netip.AddrPort) {
	s := n.streams[stream]
	if s == nil {
		return
	}
	delete(n.streams, stream)
	for _, slot := range s.peers {
		e := n.slab.at(slot)
		if e.challenge != 0 {
			continue // it never said that it is there: somebody sent on what he saw
		}
		switch e.state {
		case entryAttached, entryClient:
			// Silent for so long already that it is found after the grace.
			silence := clientTime
			if e.state == entryAttached {
				silence = time.Duration(silenceAfter(e)) * time.Second
			}
			e.heard = min(e.heard, seconds(max(now+lostGrace-silence, 0)))
		case entryFree:
		default:
			n.drop(slot, CloseSilent)
		}
	}
}

// silent is the reason of a peer that is heard no more.
func (n *Node) silent(e *entry) CloseReason {
	if at := e.addrPort(); IsStream(at) && n.streams[at] == nil {
		return CloseLost
	}
	return CloseSilent
}

// Holds reports whether a device that is attached, or a client that has asked, is in a
// stream and has said so from there.
func (n *Node) Holds(stream netip.AddrPort) (device, client bool) {
	s := n.streams[stream]
	if s == nil {
		return false, false
	}
	for _, slot := range s.peers {
		e := n.slab.at(slot)
		device = device || e.state == entryAttached && e.challenge == 0
		client = client || e.state == entryClient && e.challenge == 0
	}
	return device, client
}

// Streams returns how many streams are open.
func (n *Node) Streams() int { return len(n.streams) }

// place notes where a peer is from now on; false when there is no room for it.
func (n *Node) place(slot uint32, e *entry, at netip.AddrPort) bool {
	if IsStream(at) {
		s := n.streams[at]
		if s == nil || len(s.peers) >= maxStreamPeers {
			return false
		}
		s.peers = append(s.peers, slot)
	}
	n.displace(slot, e)
	e.setAddress(at)
	return true
}

// displace takes a peer out of the stream where it is, if it is in one.
func (n *Node) displace(slot uint32, e *entry) {
	if !streamPrefix.Contains(netip.AddrFrom16(e.address)) {
		return
	}
	if s := n.streams[e.addrPort()]; s != nil {
		if i := slices.Index(s.peers, slot); i >= 0 {
			s.peers = slices.Delete(s.peers, i, i+1)
		}
	}
}

// remoteOf is the IP address that stands behind from; false for a stream that is
// not open.
func (n *Node) remoteOf(from netip.AddrPort) (netip.Addr, bool) {
	if !IsStream(from) {
		return from.Addr(), true
	}
	s := n.streams[from]
	if s == nil {
		return netip.Addr{}, false
	}
	return s.remote, true
}
