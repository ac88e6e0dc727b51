package session

import (
	"errors"
	"net/netip"
	"time"

	"github.com/keyholed/keyhole/internal/pace"
	"github.com/keyholed/keyhole/protocol/identity"
)

// Limits bound what peers can cost. A zero field is its default.
type Limits struct {
	Unauthenticated int           // connections whose handshake is not finished
	Unpaired        int           // sessions of keys that Known does not know
	Paired          int           // sessions of keys that it does
	PerKey          int           // sessions of one paired key
	Handshake       time.Duration // from the first packet to the end of the handshake
	Header          time.Duration // for the header of a request, from its first byte
	Idle            time.Duration // of a session without requests
	UnpairedIdle    time.Duration // of a session of an unknown key without requests
}

// The defaults.
const (
	// The first three are SECURITY figures: they hold memory under 64 MiB with
	// hostile peers and still let every owner in.
	defaultUnauthenticated = 128
	defaultUnpaired        = 32
	defaultPaired          = 256
	// defaultPerKey leaves a quarter of the places to everybody else when one
	// client goes wild.
	defaultPerKey = 192
	// A handshake takes three round trips and some milliseconds of CPU; 5 s is
	// a bad mobile network on a slow board.
	defaultHandshake = 5 * time.Second
	defaultHeader    = 10 * time.Second
	// defaultIdle is longer than a person is away from a window that shows a
	// device; peers that vanished are found by TCP keep-alive in a minute.
	defaultIdle = time.Hour
	// An unknown key has nothing to do here but to ask for pairing; the 30 s in
	// which it waits for the button are a request, not idleness.
	defaultUnpairedIdle = 30 * time.Second
)

const (
	// maxHeaderBytes is the largest request header. Ours are under 1 KiB; curl
	// and browsers stay under 8.
	maxHeaderBytes = 16 << 10

	// maxHandshakeBytes is what a peer may say over TCP before the handshake is
	// over: a hello of 2 KiB, identity.MaxChainBytes of certificates, a signature,
	// and as much again. crypto/tls would read, and parse, 256 KiB of certificates
	// from anybody; quic-go takes 16 KiB.
	maxHandshakeBytes = 2 * identity.MaxChainBytes

	// quicShare of the unauthenticated places may be taken by QUIC, which
	// offers no way to evict a half-open connection: half, so that it cannot
	// lock TCP out.
	quicShare = 2
	// quicSourceShare of them may be one source's.
	quicSourceShare = 8

	// maxRefusals is how many peers at once are told in a response that there
	// is no place for a session; others are cut.
	maxRefusals    = 16
	refusalTimeout = 5 * time.Second

	// drainLinger is left, when the server drains, between the end of a
	// session's last request and its close: the answer has to leave first.
	drainLinger = 500 * time.Millisecond
)

func (l Limits) withDefaults() Limits {
	number := func(field *int, value int) {
		if *field <= 0 {
			*field = value
		}
	}
	duration := func(field *time.Duration, value time.Duration) {
		if *field <= 0 {
			*field = value
		}
	}
	number(&l.Unauthenticated, defaultUnauthenticated)
	number(&l.Unpaired, defaultUnpaired)
	perKey := defaultPerKey
	if l.Paired > 0 {
		perKey = max(1, l.Paired*defaultPerKey/defaultPaired)
	}
	number(&l.PerKey, perKey)
	number(&l.Paired, defaultPaired)
	duration(&l.Handshake, defaultHandshake)
	duration(&l.Header, defaultHeader)
	duration(&l.Idle, defaultIdle)
	duration(&l.UnpairedIdle, defaultUnpairedIdle)
	return l
}

// errLongHandshake means that a peer has said more than maxHandshakeBytes.
var errLongHandshake = errors.New("too long a handshake")

// A source is what one attacker has for free: an IPv4 address, or the /64 that
// every IPv6 host can draw addresses from. Behind a relay, where all have one
// address, it is the key that was introduced: an attacker has as many keys as
// he likes, but those that a device lets itself be introduced to are few.
type source struct {
	prefix netip.Prefix
	peer   identity.Fingerprint // zero where the address tells enough
}

func sourceOf(a netip.AddrPort) source {
	return source{prefix: pace.Source(a.Addr())} // invalid addresses share one
}
