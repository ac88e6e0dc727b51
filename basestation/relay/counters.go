package relay

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// Counters are totals since the Relay was made, and what is there now.
type Counters struct {
	Joined  uint64 // tunnels
	Bytes   int64  // of both directions of all tunnels, live ones included
	Refused uint64 // pairs and tunnels over a limit or quota
	Expired uint64 // pairs whose time was over

	// Connections that came to nothing.
	Unknown   uint64 // ticket unknown, used before or expired
	Malformed uint64 // no preface
	Flooded   uint64 // over the limits of unjoined legs

	// Now.
	Tunnels, Pairs, Unjoined int
}

type counters struct {
	bytes                                                 atomic.Int64 // of tunnels that have ended
	joined, refused, expired, unknown, malformed, flooded atomic.Uint64
}

// Counters returns the numbers of now.
func (r *Relay) Counters() Counters {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := &r.counter
	c := Counters{
		Joined: k.joined.Load(), Bytes: k.bytes.Load(), Refused: k.refused.Load(), Expired: k.expired.Load(),
		Unknown: k.unknown.Load(), Malformed: k.malformed.Load(), Flooded: k.flooded.Load(),
		Tunnels: len(r.tunnels), Pairs: len(r.pairs), Unjoined: r.unjoined,
	}
	for _, t := range r.tunnels {
		c.Bytes += t.bytes[client].Load() + t.bytes[device].Load()
	}
	return c
}

// Live returns the tunnels of now, oldest first.
func (r *Relay) Live() []Use {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Use, 0, len(r.tunnels))
	for _, t := range r.tunnels {
		list = append(list, t.use())
	}
	slices.SortFunc(list, func(a, b Use) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// report tells of a tunnel that ended. It is called without locks.
func (r *Relay) report(u *Use) {
	r.log.Info("relayed tunnel ended", "tunnel", u.ID, "device", u.Who.Device, "vendor", u.Who.Vendor,
		"up", u.Up, "down", u.Down, "duration", u.Duration.Round(time.Millisecond), "why", string(u.Why))
	if r.config.Report != nil {
		r.config.Report(*u)
	}
}
