package attach

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
)

// A StreamKind is the first byte of a TCP connection to a basestation: what the
// connection is for.
type StreamKind byte

// The kinds, and what follows the first byte. Everything is read byte-exact, so
// that what belongs to the next layer stays in the socket.
//
//	0x16                          TLS; nothing is served there yet
//	0x10  1  version              then packets, each after its length in 2 bytes
//	0x11  1  version, 32 ticket   then at once the other leg's bytes, no answer
//	0x12  1  version              answer: length 1 (6 or 18), IP, port as seen
const (
	StreamTLS     StreamKind = 0x16
	StreamAttach  StreamKind = 0x10
	StreamRelay   StreamKind = 0x11
	StreamObserve StreamKind = 0x12
)

// streamVersion is the only one so far of all three.
const streamVersion = 1

func (k StreamKind) String() string {
	switch k {
	case StreamTLS:
		return "tls"
	case StreamAttach:
		return "attach"
	case StreamRelay:
		return "relay"
	case StreamObserve:
		return "observe"
	}
	return "unknown"
}

// AppendPreface appends how a connection of kind StreamAttach or StreamObserve
// begins.
func AppendPreface(b []byte, k StreamKind) []byte { return append(b, byte(k), streamVersion) }

// AppendRelayPreface appends how a leg through a relay begins.
func AppendRelayPreface(b []byte, t Ticket) []byte {
	return append(append(b, byte(StreamRelay), streamVersion), t[:]...)
}

// ReadStreamKind reads the first byte of a connection. It returns ErrMalformed for
// a byte that is none of the kinds, else an error of r. Set a deadline on r, here
// and in the other functions that read.
func ReadStreamKind(r io.Reader) (StreamKind, error) {
	var b [1]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, err
	}
	switch k := StreamKind(b[0]); k {
	case StreamTLS, StreamAttach, StreamRelay, StreamObserve:
		return k, nil
	}
	return 0, fmt.Errorf("%w: first byte %#x", ErrMalformed, b[0])
}

// ReadPreface reads the rest of a preface, after ReadStreamKind. The ticket is
// zero except for StreamRelay.
func ReadPreface(r io.Reader, k StreamKind) (t Ticket, err error) {
	var b [1 + len(t)]byte
	length := 1
	if k == StreamRelay {
		length = len(b)
	}
	if _, err := io.ReadFull(r, b[:length]); err != nil {
		return t, err
	}
	copy(t[:], b[1:length])
	if k == StreamTLS || b[0] != streamVersion || k == StreamRelay && t.IsZero() {
		return Ticket{}, fmt.Errorf("%w: %v preface", ErrMalformed, k)
	}
	return t, nil
}

// packetLength is the length before each packet in a stream.
const packetLength = 2

// AppendPacket appends a packet as it travels in a stream of kind StreamAttach.
//
//	0  2  length, 1 to 1,200
//	2  .. packet, as in a datagram
func AppendPacket(b, packet []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(packet))), packet...)
}

// ReadPacket reads a packet from a stream into buf, which must hold MaxPacket
// bytes. It returns io.EOF at the end of the stream, between two packets, and
// ErrMalformed for a length that cannot be: then the stream is useless.
func ReadPacket(r io.Reader, buf []byte) ([]byte, error) {
	var head [packetLength]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint16(head[:]))
	if length == 0 || length > MaxPacket || length > len(buf) {
		return nil, fmt.Errorf("%w: %d bytes in a stream", ErrMalformed, length)
	}
	if _, err := io.ReadFull(r, buf[:length]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return buf[:length], nil
}

// AppendSeen appends the answer to a connection of kind StreamObserve.
//
//	0  1  length, 6 or 18
//	1  .. IP, port
func AppendSeen(b []byte, a netip.AddrPort) []byte {
	address := appendAddress(nil, a)
	return append(append(b, byte(len(address))), address...)
}

// ReadSeen reads the answer to a connection of kind StreamObserve.
func ReadSeen(r io.Reader) (netip.AddrPort, error) {
	var b [1 + 18]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return netip.AddrPort{}, err
	}
	if b[0] != 6 && b[0] != 18 {
		return netip.AddrPort{}, ErrMalformed
	}
	address := b[1 : 1+b[0]]
	if _, err := io.ReadFull(r, address); err != nil {
		return netip.AddrPort{}, err
	}
	return parseAddress(address)
}

// Inside a node a peer in a stream has an address like any other. They are taken
// from 100::/64, to which nothing on the Internet is routed (RFC 6666), and have
// port 1.
var streamPrefix = netip.MustParsePrefix("100::/64")

// StreamAddr is the address of the n-th stream of a node.
func StreamAddr(n uint64) netip.AddrPort {
	ip := streamPrefix.Addr().As16()
	binary.BigEndian.PutUint64(ip[8:], n)
	return netip.AddrPortFrom(netip.AddrFrom16(ip), 1)
}

// IsStream reports whether an address stands for a stream.
func IsStream(a netip.AddrPort) bool { return streamPrefix.Contains(a.Addr()) }
