package attach

import (
	"net/netip"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// An entryState is how far a peer is, as its node sees it.
type entryState uint8

const (
	entryFree     entryState = iota
	entryGreeted             // handshake done, nothing proven but the address
	entryAsked               // proven; the owner of the node decides
	entryProbing             // accepted, but another one with this id is attached
	entryRefused             // told so; forgotten soon
	entryAttached            // a device
	entryClient              // a client that has asked for a device
)

// An entry is all that a node keeps of a silent peer. It holds no pointer, so a
// million of them are nothing to the garbage collector, and keys instead of
// ciphers: an expanded AES-GCM key is five times as large as this entry.
type entry struct {
	toNode, fromNode [32]byte
	hash             [32]byte
	fingerprint      identity.Fingerprint
	peer             uint64 // index that packets to the peer carry
	salt             uint64 // the random part of our index
	counter          uint64 // of the next packet to the peer
	window           window
	receiver         receiver
	address          [16]byte
	lastNumber       uint32 // of the control messages sent
	since, heard     uint32 // seconds
	pongAt           uint32 // seconds; when the delayed PONG is due; 0: none
	pong             beat
	interval         uint16 // seconds within which the peer said it would be heard
	challenge        uint16 // id of the PING that must be answered from this address; 0: it is proven
	credit           uint16 // bytes that may be sent to an address that is not proven
	port             uint16
	state            entryState
}

func (e *entry) addrPort() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(e.address).Unmap(), e.port)
}

func (e *entry) setAddress(a netip.AddrPort) { e.address, e.port = a.Addr().As16(), a.Port() }

func (e *entry) at(a netip.AddrPort) bool {
	return e.port == a.Port() && e.address == a.Addr().As16()
}

const (
	// chunkEntries is how many entries are allocated at once: a quarter of a megabyte.
	chunkEntries = 1024
	// An index is a slot and a random salt, so that a packet finds its entry
	// without a search, a forgotten index does not fit the slot's next owner,
	// and reset tokens cannot be collected beforehand.
	saltBits = 40
	maxSlots = 1 << 24
)

// A slab holds the entries.
type slab struct {
	chunks []*[chunkEntries]entry
	used   int      // slots ever used
	free   []uint32 // used before, and not now
}

func (s *slab) at(slot uint32) *entry { return &s.chunks[slot/chunkEntries][slot%chunkEntries] }

// find returns the entry of an index, or nil.
func (s *slab) find(index uint64) (*entry, uint32) {
	slot := uint32(index >> saltBits)
	if int(slot) >= s.used {
		return nil, 0
	}
	e := s.at(slot)
	if e.state == entryFree || e.salt != index&(1<<saltBits-1) {
		return nil, 0
	}
	return e, slot
}

// alloc returns an empty entry, or false when limit entries are in use.
func (s *slab) alloc(limit int) (uint32, bool) {
	if n := len(s.free); n > 0 {
		slot := s.free[n-1]
		s.free = s.free[:n-1]
		return slot, true
	}
	if s.used >= min(limit, maxSlots) {
		return 0, false
	}
	if s.used%chunkEntries == 0 {
		s.chunks = append(s.chunks, new([chunkEntries]entry))
	}
	s.used++
	return uint32(s.used - 1), true
}

// release erases an entry, its keys with it.
func (s *slab) release(slot uint32) {
	*s.at(slot) = entry{}
	s.free = append(s.free, slot)
}

func indexOf(slot uint32, salt uint64) uint64 { return uint64(slot)<<saltBits | salt }

func seconds(now time.Duration) uint32 { return uint32(now / time.Second) }
