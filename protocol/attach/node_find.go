package attach

import (
	"encoding/base32"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A shortID is by what a node finds a device: the first 128 bits of its
// fingerprint, which begin its id as well. Nobody finds a second key for them,
// and they are half of what a million fingerprints would take.
type shortID [16]byte

func shortOf(f identity.Fingerprint) shortID { return shortID(f[:16]) }

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Device returns the attached device with a fingerprint.
func (n *Node) Device(f identity.Fingerprint) (Peer, bool) {
	slot, ok := n.devices[shortOf(f)]
	if !ok || n.slab.at(slot).fingerprint != f {
		return Peer{}, false
	}
	return n.peer(slot), true
}

// DeviceByID returns the attached device with an id.
func (n *Node) DeviceByID(id identity.ID) (Peer, bool) {
	var short shortID
	var buffer [20]byte // room for as many characters as an id may have, and not one more
	if len(id) > 26 {
		return Peer{}, false
	}
	if count, err := idEncoding.Decode(buffer[:], []byte(id)); err != nil || count != len(short) {
		return Peer{}, false
	}
	copy(short[:], buffer[:])
	slot, ok := n.devices[short]
	if !ok || n.slab.at(slot).fingerprint.ID() != id {
		return Peer{}, false
	}
	return n.peer(slot), true
}

// Slot is a small number that no other peer has as long as this one is there:
// for an owner that keeps a table beside the node.
func (p Peer) Slot() uint32 { return uint32(p.Index >> saltBits) }
