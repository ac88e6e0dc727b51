package attach

import (
	"io"
	"net/netip"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A Peer is what a node knows of a device or client.
type Peer struct {
	Index       uint64 // names this attach; never used for another
	Fingerprint identity.Fingerprint
	Hash        [32]byte // of the handshake
	Address     netip.AddrPort
	Since       time.Duration // attached at
	Client      bool
}

// A NodeChange says what a NodeEvent is about.
type NodeChange int

// The changes. After PeerDuplicate the first device stays and the second was
// sent away: somebody has copied a key, and operator and owner want to know.
const (
	PeerAttached NodeChange = iota
	PeerGone
	PeerMoved
	PeerDuplicate
)

// A NodeEvent tells the owner of a node what changed.
type NodeEvent struct {
	Change NodeChange
	Peer   Peer
	Reason CloseReason    // of PeerGone
	Other  netip.AddrPort // of PeerDuplicate: where the second one is
}

// NodeConfig is what a node needs. PrivateKey, Certificate, ResetKey, Send and
// Ask must be set.
type NodeConfig struct {
	PrivateKey  Secret   // X25519; its public half is in the certificate
	Certificate []byte   // signed by a root
	ResetKey    Secret   // the same after a restart, so that devices learn of it
	Cookies     *Cookies // shared in a fleet and rotated by its owner; nil: the node makes its own

	// Locate returns the certificate of the node responsible for a prefix; nil,
	// or a nil result: this node. It must not be longer than SignCertificate makes.
	Locate func(prefix uint16) []byte

	// Send hands out a packet, whose bytes are good during the call only. To may
	// be an address of Node.Opened.
	Send func(to netip.AddrPort, packet []byte)
	// Ask wants Node.Answer for a device, at once or within 20 seconds.
	Ask func(now time.Duration, r *Request)
	// Event, Introduce and Message may be nil. Introduce is called with a question
	// whose signature is good; a client hears nothing but what is sent to it
	// afterwards, so that the owner alone decides when a no leaves. Message is
	// called with kinds from KindIntroduction on, of devices and clients alike;
	// body is good during the call only. A client that began with KindFind has
	// proven no key.
	Event     func(NodeEvent)
	Introduce func(now time.Duration, from Peer, i *Introduce)
	Message   func(now time.Duration, from Peer, k Kind, body []byte)
	// Unix is the wall clock in seconds for devices without one; nil: not told.
	Unix func() uint64

	MaxPeers            int       // 0: 16 million
	MaxPending          int       // handshakes under way; 0: 4096
	MaxPendingPerSource int       // of one IPv4 address or IPv6 /64; 0: 128
	StrangersPerSecond  int       // answers to a source that has proven nothing; 0: 4000
	GreetingsPerSecond  int       // handshakes of one source; 0: 500
	MaxClientsPerSource int       // 0: 1024
	Random              io.Reader // nil is crypto/rand
}
