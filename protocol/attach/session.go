package attach

import (
	"net/netip"
	"time"

	"github.com/flynn/noise"
)

// A session is one finished handshake, as the device or client holds it.
type session struct {
	index       uint64 // ours: packets to us carry it
	peer        uint64 // the node's
	node        netip.AddrPort
	certificate Certificate // of the node
	hash        [32]byte
	keys        keys // of out and in, for Sleep
	out, in     noise.Cipher
	counter     uint64
	window      window
	sender      sender
	receiver    receiver
	controlAt   time.Duration // when the sender has something to do; 0: nothing waits

	token    token
	hasToken bool

	traffic time.Duration // the last packet in either direction
	heard   time.Duration // the last packet from the node
	beat    beat          // the PING that waits for its PONG
	beatAt  time.Duration // when that PONG is late
	tries   int           // PINGs without delay, sent one after the other; 0: the PING has a delay
	late    bool          // these PINGs were sent because an answer was late
}

func newSession(k keys, index, peer uint64, node netip.AddrPort, c Certificate) *session {
	return &session{index: index, peer: peer, node: node, certificate: c, hash: k.hash, keys: k, out: newCipher(k.toNode), in: newCipher(k.fromNode)}
}

func (s *session) seal(frame []byte) ([]byte, error) {
	p, err := seal(s.out, make([]byte, 0, packetHead+len(frame)+tagSize), head{kindToNode, s.peer, s.counter}, frame)
	if err == nil {
		s.counter++
	}
	return p, err
}

// open returns the frame of a packet, or nil if it is forged or a replay.
func (s *session) open(h head, packet []byte) []byte {
	if s.window.seen(h.counter) {
		return nil
	}
	frame, err := open(s.in, nil, h, packet)
	if err != nil {
		return nil
	}
	s.window.take(h.counter)
	return frame
}

// worn reports whether the keys have done enough.
func (s *session) worn() bool { return s.counter >= rekeyPackets || s.window.next >= rekeyPackets }
