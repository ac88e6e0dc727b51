package attach

import (
	"crypto/sha256"
	"encoding/binary"
)

// kindPunch begins a punch packet; it never goes through a node.
const kindPunch = 0x09

// PunchSize is the length of a punch packet in bytes.
const PunchSize = 1 + tokenSize + 8 + 8

// A PunchToken tells the punches of one introduction from anything else that
// comes to a socket. Who relays the introduction could make it; it
// decides about packets of this size, not about a session.
type PunchToken [tokenSize]byte

// PunchTokenOf returns the token of an introduction, whose name is the hash of
// the client's handshake: SHA-256("keyhole/1 punch" 0x00 hash), cut.
func PunchTokenOf(hash [32]byte) (t PunchToken) {
	sum := sha256.Sum256(append([]byte("keyhole/1 punch\x00"), hash[:]...))
	copy(t[:], sum[:])
	return t
}

// A Punch opens a way through NATs and shows that it is open: who gets its own
// nonce back knows that the other side hears it.
//
//	0  1  0x09
//	1  16 token
//	17 8  nonce of the sender for this address, never 0
//	25 8  echo: the nonce that came from there; 0: none came
type Punch struct {
	Token PunchToken
	Nonce uint64
	Echo  uint64
}

// Append appends the packet to b.
func (p Punch) Append(b []byte) []byte {
	b = append(append(b, kindPunch), p.Token[:]...)
	b = binary.BigEndian.AppendUint64(b, p.Nonce)
	return binary.BigEndian.AppendUint64(b, p.Echo)
}

// IsPunch reports whether a packet says it is a punch.
func IsPunch(packet []byte) bool { return len(packet) > 0 && packet[0] == kindPunch }

// ParsePunch reads a punch packet.
func ParsePunch(packet []byte) (p Punch, err error) {
	if len(packet) != PunchSize || packet[0] != kindPunch {
		return p, ErrMalformed
	}
	copy(p.Token[:], packet[1:])
	p.Nonce, p.Echo = binary.BigEndian.Uint64(packet[17:]), binary.BigEndian.Uint64(packet[25:])
	if p.Nonce == 0 {
		return Punch{}, ErrMalformed
	}
	return p, nil
}
