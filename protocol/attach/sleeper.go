package attach

import "time"

// A Sleeper is what a device has to hold between two keep-alives: about 130 bytes
// without a pointer, where a Link is some kilobytes. It cannot attach and knows no
// control message. It is for load generators, which are a million devices at once;
// a device has a Link.
type Sleeper struct {
	toNode, fromNode [32]byte
	index, peer      uint64
	counter          uint64
	receiver         receiver
	beat             uint16
}

// Sleep takes what is needed to keep the live link of l, which must not be used any
// more. It returns false when there is none.
func (l *Link) Sleep() (s Sleeper, ok bool) {
	if l.live == nil {
		return s, false
	}
	v := l.live
	l.stage, l.live = StateClosed, nil
	return Sleeper{
		toNode: v.keys.toNode, fromNode: v.keys.fromNode, index: v.index, peer: v.peer, counter: v.counter,
		receiver: v.receiver, beat: v.beat.id,
	}, true
}

// Index is what packets to this sleeper carry; see PacketIndex.
func (s *Sleeper) Index() uint64 { return s.index }

// PacketIndex returns for whom a sealed packet of a node is.
func PacketIndex(packet []byte) (index uint64, ok bool) {
	h, err := parseHead(kindFromNode, packet)
	return h.index, err == nil
}

// Ping appends a keep-alive to b, which must be empty: the node is to answer after
// delay, and to hear from the sleeper within interval again.
func (s *Sleeper) Ping(b []byte, delay, interval time.Duration) ([]byte, error) {
	s.beat++
	p := beat{s.beat, uint16(delay / time.Second), uint16(interval / time.Second)}
	return s.seal(b, p.append(nil, framePing))
}

func (s *Sleeper) seal(b, frame []byte) ([]byte, error) {
	b, err := seal(newCipher(s.toNode), b, head{kindToNode, s.peer, s.counter}, frame)
	if err == nil {
		s.counter++
	}
	return b, err
}

// Receive takes a packet of the node. Answered is true for the PONG of the latest
// Ping; answer, appended to b, which must be empty, is what to send at once, if
// anything: to the node's own PING, or to a control message, which is acknowledged
// unread. Replays are not looked for.
func (s *Sleeper) Receive(b, packet []byte) (answer []byte, answered bool) {
	h, err := parseHead(kindFromNode, packet)
	if err != nil || h.index != s.index {
		return nil, false
	}
	frame, err := open(newCipher(s.fromNode), nil, h, packet)
	if err != nil || len(frame) == 0 {
		return nil, false
	}
	switch frame[0] {
	case framePong:
		p, err := parseBeat(frame)
		return nil, err == nil && p.id == s.beat
	case framePing:
		if p, err := parseBeat(frame); err == nil {
			answer, _ = s.seal(b, p.append(nil, framePong)) // a key that is used up is silent
		}
	case frameControl:
		if c, err := parseControl(frame); err == nil {
			if _, acknowledge := s.receiver.take(c.number); acknowledge {
				answer, _ = s.seal(b, s.receiver.ack().append(nil))
			}
		}
	}
	return answer, false
}
