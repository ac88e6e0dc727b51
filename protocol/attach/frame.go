package attach

import "encoding/binary"

// A sealed packet holds exactly one frame; its first byte says which.
const (
	framePing    = 1
	framePong    = 2
	frameControl = 3
	frameAck     = 4
	frameClose   = 5
)

const (
	beatSize    = 1 + 2 + 2 + 2
	controlHead = 1 + 4 + 2
	ackSize     = 1 + 4 + 4
	closeSize   = 1 + 1

	// MaxBody is the largest CBOR body of a control message.
	MaxBody = MaxFrame - controlHead
)

// A beat is a PING or its PONG, which repeats it. A device pings and names a
// delay; the node answers after that time of silence, and so each keep-alive
// also measures that the mapping of the NAT lives that long. A node pings with
// delay zero, to probe an address or a device.
//
//	0  1  1 PING, 2 PONG
//	1  2  id, echoed
//	3  2  delay in seconds before the answer
//	5  2  interval in seconds within which the sender will be heard again
type beat struct{ id, delay, interval uint16 }

func (p beat) append(b []byte, frame byte) []byte {
	b = binary.BigEndian.AppendUint16(append(b, frame), p.id)
	b = binary.BigEndian.AppendUint16(b, p.delay)
	return binary.BigEndian.AppendUint16(b, p.interval)
}

func parseBeat(p []byte) (beat, error) {
	if len(p) != beatSize || p[0] != framePing && p[0] != framePong {
		return beat{}, ErrMalformed
	}
	return beat{binary.BigEndian.Uint16(p[1:]), binary.BigEndian.Uint16(p[3:]), binary.BigEndian.Uint16(p[5:])}, nil
}

// A control frame is one control message.
//
//	0  1  3
//	1  4  number: 1, 2, 3 … in each direction
//	5  2  kind
//	7  .. body: one CBOR map with small integers as keys
type control struct {
	number uint32
	kind   Kind
	body   []byte // aliases the frame when parsed
}

func (c control) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, frameControl), c.number)
	b = binary.BigEndian.AppendUint16(b, uint16(c.kind))
	return append(b, c.body...)
}

func parseControl(p []byte) (control, error) {
	if len(p) < controlHead || len(p) > MaxFrame || p[0] != frameControl {
		return control{}, ErrMalformed
	}
	return control{binary.BigEndian.Uint32(p[1:]), Kind(binary.BigEndian.Uint16(p[5:])), p[controlHead:]}, nil
}

// An acknowledgement says which control messages have arrived.
//
//	0  1  4
//	1  4  next: all numbers below have arrived
//	5  4  bits: bit i says that number next+i has arrived; bit 0 is never set
type ack struct{ next, bits uint32 }

func (a ack) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, frameAck), a.next)
	return binary.BigEndian.AppendUint32(b, a.bits)
}

func parseAck(p []byte) (ack, error) {
	if len(p) != ackSize || p[0] != frameAck || p[8]&1 != 0 {
		return ack{}, ErrMalformed
	}
	return ack{binary.BigEndian.Uint32(p[1:]), binary.BigEndian.Uint32(p[5:])}, nil
}

// A CloseReason says in a CLOSE frame, and in events, why a link ended.
//
//	0  1  5
//	1  1  reason
type CloseReason uint8

// The reasons. Those of a frame are below 64.
const (
	CloseLeaving CloseReason = 1 // the sender stops on purpose
	CloseMoved   CloseReason = 2 // the sender has a newer link

	CloseSilent   CloseReason = 64 // nothing was heard for two keep-alives
	CloseReplaced CloseReason = 65 // a newer attach of the same id took its place
	CloseReset    CloseReason = 66 // the node said so, with the token
	CloseLost     CloseReason = 67 // the TCP connection that carried the link ended
)

func (r CloseReason) String() string {
	switch r {
	case CloseLeaving:
		return "leaving"
	case CloseMoved:
		return "moved"
	case CloseSilent:
		return "silent"
	case CloseReplaced:
		return "replaced"
	case CloseReset:
		return "reset"
	case CloseLost:
		return "connection lost"
	}
	return "unknown reason"
}

func parseClose(p []byte) (CloseReason, error) {
	if len(p) != closeSize || p[0] != frameClose {
		return 0, ErrMalformed
	}
	return CloseReason(p[1]), nil
}
