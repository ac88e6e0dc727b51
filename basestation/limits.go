package basestation

import (
	"time"

	"github.com/keyholed/keyhole/internal/pace"
)

// Limits bound what peers can make a basestation spend. Zero fields are the
// defaults beside them.
type Limits struct {
	Devices              int // attached to this node: 16 million
	Connections          int // TCP connections that are no relayed ones: 16,384
	ConnectionsPerSource int // of one IPv4 address or IPv6 /64: 1,024, a carrier's NAT
	Introductions        int // questions of one source in a minute: 120, an office behind one address
	Questions            int // introductions under way or not yet forgotten: 65,536
	Handshakes           int // of one source in a second: 500, see package attach
	PendingPerSource     int // unfinished handshakes of one source: 128, see package attach
	ClientsPerSource     int // clients of one source that are not forgotten yet: 1,024

	strangers time.Duration // strangerTime, but for tests
}

const (
	defaultConnections          = 16 << 10
	defaultConnectionsPerSource = 1 << 10
	defaultIntroductions        = 120
	defaultQuestions            = 1 << 16

	// introductionBurst is how many of a minute's introductions may come at once.
	introductionBurst = 30 * time.Second
	// perDeviceIntroductions is how many a minute one device is asked, by whoever:
	// each costs it a signature check, and a board's core takes milliseconds.
	perDeviceIntroductions = 240
	// perKnownIntroductions is how many a minute of one client are passed on beside
	// those, if it shows a presence pass of the device: an id is no secret, and
	// strangers who ask for it without a pause must not keep its owner out.
	perKnownIntroductions = 20
	// perDeviceEvents is how many events of one device a minute are taken.
	perDeviceEvents = 120

	// maxTasks bounds what waits for store, webhook or another node: at some 4 KiB
	// of stack and a packet's worth of data each, some 30 MB.
	maxTasks = 4096
)

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field *int
		value int
	}{
		{&l.Connections, defaultConnections}, {&l.ConnectionsPerSource, defaultConnectionsPerSource},
		{&l.Introductions, defaultIntroductions}, {&l.Questions, defaultQuestions},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	if l.strangers <= 0 {
		l.strangers = strangerTime
	}
	return l
}

// paced is a table of so many things of one key a minute, of which burst's may come at once.
func paced[K comparable](perMinute int, burst time.Duration) *pace.Table[K] {
	every := time.Minute / time.Duration(perMinute)
	return pace.NewTable[K](int(burst/every)+1, every)
}
