// Package pace bounds how often something may happen: for all together (Pace), or for
// each of many keys in bounded memory (Table). It is for every room that serves
// strangers, and knows no clock: who asks says what time it is, on the monotonic
// clock and from whatever beginning.
//
// Both are the generic cell rate algorithm (ITU-T I.371): all that is kept is the time
// until which the allowance is used up.
package pace

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// A Pace lets so many things happen at once and then one each so often. The zero
// value lets everything happen.
type Pace struct {
	every, burst, until time.Duration
	start               time.Time // of AllowAt
}

// New makes a Pace of atOnce things and then one each every.
func New(atOnce int, every time.Duration) Pace {
	return Pace{every: every, burst: time.Duration(atOnce-1) * every}
}

// Allow counts one thing that happens now, or reports that it may not.
func (p *Pace) Allow(now time.Duration) bool { return allow(&p.until, now, p.every, p.burst) }

// AllowAt is Allow for who has a time.Time; a Pace is asked in one of both ways.
func (p *Pace) AllowAt(now time.Time) bool {
	if p.start.IsZero() {
		p.start = now
	}
	return p.Allow(now.Sub(p.start))
}

// Whole is when the allowance of a Pace that is asked by AllowAt is whole again.
func (p *Pace) Whole() time.Time { return p.start.Add(p.until) }

// GiveBack takes back what was counted: it has not happened after all.
func (p *Pace) GiveBack() { p.until -= p.every }

func allow(until *time.Duration, now, every, burst time.Duration) bool {
	if *until-now > burst {
		return false
	}
	*until = max(*until, now) + every
	return true
}

// Keys is how many keys a Table tells apart, in half a megabyte. Two that fall
// into one share its allowance; which do cannot be known from outside.
const Keys = 1 << 16

// A Table has a Pace for each key. Make it with NewTable.
type Table[K comparable] struct {
	seed         maphash.Seed
	every, burst time.Duration
	until        []time.Duration // by bucket
}

// NewTable makes a Table that lets each key do atOnce things and then one each every.
func NewTable[K comparable](atOnce int, every time.Duration) *Table[K] {
	return &Table[K]{
		seed: maphash.MakeSeed(), every: every, burst: time.Duration(atOnce-1) * every,
		until: make([]time.Duration, Keys),
	}
}

// Allow is Pace.Allow for a key.
func (t *Table[K]) Allow(now time.Duration, key K) bool {
	return allow(t.bucket(key), now, t.every, t.burst)
}

// GiveBack is Pace.GiveBack for a key.
func (t *Table[K]) GiveBack(key K) { *t.bucket(key) -= t.every }

func (t *Table[K]) bucket(key K) *time.Duration {
	return &t.until[maphash.Comparable(t.seed, key)%Keys]
}

// Source is what counts as one source of packets or connections, because one host has it for
// free: an IPv4 address, or an IPv6 /64. The zero Addr has the zero Prefix.
func Source(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}
