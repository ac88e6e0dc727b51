package relay

import "time"

// How long things may take. The figures of a tunnel are those of a tunnel on
// the device (package tunnel): a relayed path must not be less patient.
const (
	// prefaceTime is for 33 bytes that are sent at once: 5 s is what every
	// step of an exchange gets.
	prefaceTime = 5 * time.Second
	// joinTime is what the second leg gets at least after the first came, even
	// if the tickets end sooner: the message to the device may need two
	// retransmissions, and its connection one (RFC 6298: 1 s).
	joinTime = 10 * time.Second
	// idleTime ends a tunnel without a byte, as patient as a NAT must be with
	// a silent TCP connection (RFC 5382 REQ-5).
	idleTime = 2 * time.Hour
	// halfIdleTime is the same once one side is done.
	halfIdleTime = 10 * time.Minute
	// stallTime ends a tunnel of which one side takes nothing while there is
	// something for it, and is how long a peer may acknowledge nothing. The kernel
	// has one clock for both, so a dead peer is not found sooner.
	stallTime = 5 * time.Minute

	// Keep-alive by the kernel: it costs this process nothing, keeps mappings
	// of NATs that forget a silent connection after a minute or two, and finds
	// a dead peer: after 45 s + 4 * 15 s, on Linux after stallTime.
	keepAliveIdle     = 45 * time.Second
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 4
)

// Defaults of Limits.
const (
	// DefaultTunnels at up to 17 KiB each when idle are 70 MiB; each takes two
	// descriptors, and four more while bytes flow both ways.
	DefaultTunnels = 4096
	// DefaultPairs is a minute's worth of introductions at a thousand a second
	// that do not come to use their tickets; about 0.6 KiB each.
	DefaultPairs = 32768
	// DefaultPairsPerDevice: one household's clients all at once, a few legs each.
	DefaultPairsPerDevice = 64
	// DefaultUnjoined legs, each of which lives for seconds only.
	DefaultUnjoined = 1024
	// DefaultUnjoinedPerSource: a NAT with many clients behind it gets them
	// through one after the other, within a round trip each.
	DefaultUnjoinedPerSource = 64
	// maxAccounts bounds the devices and vendors whose use is remembered for a
	// quota: about 100 MB.
	maxAccounts = 1 << 20
)

// Limits bound what a Relay holds. Zero fields are the defaults; a zero Quota
// is no quota.
type Limits struct {
	Tunnels           int // live at once
	Pairs             int // pairs of tickets that are not used up
	PairsPerDevice    int
	Unjoined          int // connections whose other leg is not there yet
	UnjoinedPerSource int // the same of one IPv4 address or IPv6 /64

	PerDevice, PerVendor Quota // unless Config.Quota says otherwise
}

// A Quota bounds what is relayed for one device, or for all devices of one
// vendor. Zero fields are no limit.
type Quota struct {
	// Bytes in both directions together within Every; Every 0 means for as
	// long as the process lives. They are counted when they are taken from a
	// leg, to the byte; what a cut finds on its way is lost.
	Bytes int64
	Every time.Duration
	// Tunnels is how many there may be at once.
	Tunnels int
	// Time is how long one tunnel may last, busy or not.
	Time time.Duration
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field *int
		value int
	}{
		{&l.Tunnels, DefaultTunnels}, {&l.Pairs, DefaultPairs}, {&l.PairsPerDevice, DefaultPairsPerDevice},
		{&l.Unjoined, DefaultUnjoined}, {&l.UnjoinedPerSource, DefaultUnjoinedPerSource},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	return l
}

// times are the patience of a Relay; tests are less patient.
type times struct{ preface, join, idle, halfIdle, stall time.Duration }

var patience = times{prefaceTime, joinTime, idleTime, halfIdleTime, stallTime}
