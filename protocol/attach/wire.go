package attach

import (
	"encoding/binary"
	"errors"
)

// version is the only version of the protocol so far.
const version = 1

// The first byte of every packet says what it is. All are below 0x40, because
// QUIC shares the socket of a device and a QUIC packet has bit 0x40 set
// (RFC 9000 §17.2, §17.3; RFC 9443). None is below 4 (STUN, RFC 9443 §3) and
// none is 0x16, which begins a TLS connection where packets travel in TCP. Bit
// 0x20 tells the direction, so that a packet sent back to its sender is nothing.
const (
	kindLocate   = 0x04 // to the basestation
	kindHello    = 0x05
	kindToNode   = 0x06
	kindLocated  = 0x24 // from the basestation
	kindWelcome  = 0x25
	kindFromNode = 0x26
	kindReset    = 0x27
	kindRetry    = 0x28
)

// Opens reports whether a packet to a basestation is one before there are keys:
// the same one may be sent by several ways, and the first answer counts. Of other
// packets a node takes only the first copy, and answers by the way of that one.
func Opens(packet []byte) bool {
	return len(packet) > 0 && (packet[0] == kindLocate || packet[0] == kindHello)
}

// Sizes in bytes. Numbers on the wire are big endian.
const (
	// MaxPacket is the largest datagram of this protocol: what QUIC asks of
	// every path as well (RFC 9000 §14), so it is never fragmented.
	MaxPacket = 1200

	// locateSize pads LOCATE so that the largest LOCATED is not larger.
	locateSize = 256

	indexSize  = 8
	cookieSize = 1 + 16
	tokenSize  = 16
	tagSize    = 16 // AES-GCM
	keySize    = 32 // X25519

	helloHead   = 1 + 1 + indexSize + cookieSize // clear, and the prologue of the handshake
	helloSize   = helloHead + keySize + tagSize
	welcomeSize = 1 + indexSize + keySize + indexSize + tagSize
	retrySize   = 1 + 1 + indexSize + cookieSize
	resetSize   = 1 + indexSize + tokenSize + 2

	packetHead = 1 + indexSize + 8
	minPacket  = packetHead + 1 + tagSize // one byte of frame
	// MaxFrame is the largest content of a sealed packet.
	MaxFrame = MaxPacket - packetHead - tagSize
)

// Errors of reading a packet. They are for tests and counters; a peer that
// sends such a packet is not answered.
var (
	ErrMalformed = errors.New("malformed packet")
	ErrTooLarge  = errors.New("larger than a packet may be")
)

// A cookie proves that its bearer has received a packet at its address.
//
//	0  1  slot: which secret made it
//	1  16 HMAC-SHA256 of slot and address under that secret, cut
type cookie [cookieSize]byte

// A token is what makes a device believe a RESET.
type token [tokenSize]byte

// LOCATE asks a controller which node is responsible.
//
//	0  1  0x04
//	1  1  version
//	2  8  nonce: echoed, so that only who sees the question can answer it
//	10 2  prefix: 16 bits of SHA-256(id), so that the id is not shown
//	12 .. zero up to 256 bytes
type locate struct {
	nonce  uint64
	prefix uint16
}

func (l locate) append(b []byte) []byte {
	start := len(b)
	b = append(b, kindLocate, version)
	b = binary.BigEndian.AppendUint64(b, l.nonce)
	b = binary.BigEndian.AppendUint16(b, l.prefix)
	return append(b, make([]byte, locateSize-(len(b)-start))...)
}

func parseLocate(p []byte) (l locate, err error) {
	if len(p) != locateSize || p[0] != kindLocate || p[1] != version {
		return l, ErrMalformed
	}
	for _, b := range p[12:] {
		if b != 0 {
			return l, ErrMalformed
		}
	}
	return locate{binary.BigEndian.Uint64(p[2:]), binary.BigEndian.Uint16(p[10:])}, nil
}

// LOCATED names the node by its certificate, which holds its addresses.
//
//	0  1  0x24
//	1  8  nonce of the question
//	9  17 cookie
//	26 .. certificate, to the end of the packet
type located struct {
	nonce       uint64
	cookie      cookie
	certificate []byte // aliases the packet when parsed
}

const locatedHead = 1 + 8 + cookieSize

func (l located) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, kindLocated), l.nonce)
	b = append(b, l.cookie[:]...)
	return append(b, l.certificate...)
}

func parseLocated(p []byte) (l located, err error) {
	if len(p) < locatedHead+minCertificate || len(p) > locateSize || p[0] != kindLocated {
		return l, ErrMalformed
	}
	l.nonce = binary.BigEndian.Uint64(p[1:])
	copy(l.cookie[:], p[9:])
	l.certificate = p[locatedHead:]
	return l, nil
}

// HELLO opens a handshake. Everything before the Noise message is its prologue.
//
//	0  1  0x05
//	1  1  version
//	2  8  index: how the node addresses the packets it sends
//	10 17 cookie
//	27 48 Noise message 1: ephemeral key 32, tag of an empty payload 16
type hello struct {
	version byte
	index   uint64
	cookie  cookie
	noise   []byte // aliases the packet when parsed
}

func (h hello) appendHead(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, kindHello, h.version), h.index)
	return append(b, h.cookie[:]...)
}

func (h hello) append(b []byte) []byte { return append(h.appendHead(b), h.noise...) }

func parseHello(p []byte) (h hello, err error) {
	if len(p) != helloSize || p[0] != kindHello {
		return h, ErrMalformed
	}
	h.version, h.index = p[1], binary.BigEndian.Uint64(p[2:])
	copy(h.cookie[:], p[10:])
	h.noise = p[helloHead:]
	return h, nil
}

// WELCOME ends the handshake.
//
//	0  1  0x25
//	1  8  index of the HELLO
//	9  56 Noise message 2: ephemeral key 32, sealed index of the node 8, tag 16
type welcome struct {
	index uint64
	noise []byte // aliases the packet when parsed
}

func (w welcome) append(b []byte) []byte {
	return append(binary.BigEndian.AppendUint64(append(b, kindWelcome), w.index), w.noise...)
}

func parseWelcome(p []byte) (w welcome, err error) {
	if len(p) != welcomeSize || p[0] != kindWelcome {
		return w, ErrMalformed
	}
	return welcome{binary.BigEndian.Uint64(p[1:]), p[9:]}, nil
}

// RETRY answers a HELLO whose version or cookie is not good, before any key is
// touched. The sender tries again with the cookie it was given.
//
//	0  1  0x28
//	1  1  version that the node speaks
//	2  8  index of the HELLO
//	10 17 cookie
type retry struct {
	version byte
	index   uint64
	cookie  cookie
}

func (r retry) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, kindRetry, r.version), r.index)
	return append(b, r.cookie[:]...)
}

func parseRetry(p []byte) (r retry, err error) {
	if len(p) != retrySize || p[0] != kindRetry {
		return r, ErrMalformed
	}
	r.version, r.index = p[1], binary.BigEndian.Uint64(p[2:])
	copy(r.cookie[:], p[10:])
	return r, nil
}

// RESET says that a node does not know an index (spread is zero), or that it has
// restarted and wants its devices back spread over some seconds. It is shorter
// than the shortest packet that can cause it.
//
//	0  1  0x27
//	1  8  index of the node that is unknown
//	9  16 token that ATTACHED gave for this index
//	25 2  spread in seconds
type reset struct {
	index  uint64
	token  token
	spread uint16
}

func (r reset) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, kindReset), r.index)
	b = append(b, r.token[:]...)
	return binary.BigEndian.AppendUint16(b, r.spread)
}

func parseReset(p []byte) (r reset, err error) {
	if len(p) != resetSize || p[0] != kindReset {
		return r, ErrMalformed
	}
	r.index, r.spread = binary.BigEndian.Uint64(p[1:]), binary.BigEndian.Uint16(p[25:])
	copy(r.token[:], p[9:])
	return r, nil
}

// A sealed packet carries one frame. Its head is authenticated with it.
//
//	0  1  0x06 to the node, 0x26 from it
//	1  8  index, chosen by the receiver
//	9  8  counter: the nonce, never used twice under a key
//	17 .. frame, sealed; the last 16 bytes are the tag
type head struct {
	kind    byte
	index   uint64
	counter uint64
}

func (h head) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, h.kind), h.index)
	return binary.BigEndian.AppendUint64(b, h.counter)
}

func parseHead(kind byte, p []byte) (h head, err error) {
	if len(p) < minPacket || len(p) > MaxPacket || p[0] != kind {
		return h, ErrMalformed
	}
	return head{kind, binary.BigEndian.Uint64(p[1:]), binary.BigEndian.Uint64(p[9:])}, nil
}
