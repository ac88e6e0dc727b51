package reach

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
)

// Packets is the UDP socket that device or client shares between QUIC, the link
// to the basestation and the punches. WriteTo must not keep p.
type Packets interface {
	WriteTo(p []byte, to netip.AddrPort) error
}

const (
	// MaxCandidates is how many addresses one side may name.
	MaxCandidates = 8
	// maxReflexive is how many addresses are taken up that no candidate named: a
	// router with a port for every peer shows one per address that was sent to,
	// and a second one when it changes its mind.
	maxReflexive = 4
	// maxAsked is how often one address is asked on our own account: 3 survive 10 %
	// loss 999 times in 1,000, and are what a stranger's address that somebody
	// named falsely is burdened with at most.
	maxAsked = 3
	// maxAnswered is how many packets of one address are answered. A peer asks 3
	// times and answers 2 more; twice that leaves room for duplicates.
	maxAnswered = 10
	// maxPunchings at once: as many introductions as a device has open (32 of those
	// it knows and 16 of strangers).
	maxPunchings = 48
	// punchFor is when a punching ends by itself: a late yes is delivered for 10 s.
	punchFor = 10 * time.Second
)

// askedAfter is when an address is asked for the first, second and third time.
// The first hits a router that is open already. The second comes when a peer that
// heard of us a round trip later has opened its own. The third is for a peer that
// is told over a satellite: the packet that opens a symmetric router must come
// after the other side's first one.
var askedAfter = [maxAsked]time.Duration{0, 300 * time.Millisecond, time.Second}

// A Puncher opens ways for UDP through the routers on both sides. One serves any
// number of introductions on one socket. Its methods may be called by several
// goroutines.
type Puncher struct {
	out    Packets
	log    *slog.Logger
	proven func(netip.AddrPort) // never nil
	pace   pace

	mu  sync.Mutex
	now map[attach.PunchToken]*punching // guarded by mu
}

// NewPuncher sends through out; a nil log discards.
func NewPuncher(out Packets, log *slog.Logger) *Puncher {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Puncher{out: out, log: log, proven: func(netip.AddrPort) {}, now: map[attach.PunchToken]*punching{}}
}

// OnProven has f called for each address that answered, within Deliver and so
// before the reader of the socket goes on to the next packet: that may be the
// first of a session already. F must not block nor call the Puncher. It is set
// before the first Deliver.
func (p *Puncher) OnProven(f func(netip.AddrPort)) { p.proven = f }

// A punching is one introduction's. Guarded by Puncher.mu.
type punching struct {
	token     attach.PunchToken
	addresses []*address // candidates first, then what showed itself
	reflexive int
	proven    chan netip.AddrPort // never full: one place for each address
	more      chan struct{}       // wakes the goroutine that asks; holds one
}

// An address is one that the peer may be at.
type address struct {
	at       netip.AddrPort
	nonce    uint64 // what a packet from there must echo
	since    time.Time
	asked    int
	answered int
	proven   bool
}

// Punch tries all candidates of the peer of one introduction, the first one
// first, and whatever address the peer shows itself from. Addresses that answered
// come out of the channel, each once, as soon as they did; it is closed when ctx
// ends or after 10 s. Both sides must punch at the same time. Candidates that no
// peer can have (multicast, no port, ...) are passed over; which private ones may
// be tried the caller decides, with [Usable].
//
// hash is that of the introduction, which both sides know. A second punching for
// the same one ends the first.
func (p *Puncher) Punch(ctx context.Context, hash [32]byte, candidates []netip.AddrPort) <-chan netip.AddrPort {
	run := &punching{
		token:  attach.PunchTokenOf(hash),
		proven: make(chan netip.AddrPort, MaxCandidates+maxReflexive),
		more:   make(chan struct{}, 1),
	}
	ctx, cancel := context.WithTimeout(ctx, punchFor)
	p.mu.Lock()
	for _, c := range candidates {
		if len(run.addresses) < MaxCandidates {
			run.take(unmap(c))
		}
	}
	old, again := p.now[run.token]
	if again {
		old.wake() // to see that it was replaced
	}
	full := len(p.now) >= maxPunchings && !again
	if !full {
		p.now[run.token] = run
	}
	p.mu.Unlock()
	if full {
		p.log.Warn("too many introductions at once: one is not punched for", "at once", maxPunchings)
		cancel()
	}
	go func() {
		defer cancel()
		p.ask(ctx, run)
		p.end(run)
	}()
	return run.proven
}

func (p *Puncher) end(run *punching) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now[run.token] == run {
		delete(p.now, run.token)
	}
	close(run.proven) // nobody sends any more: Deliver looks in p.now, under mu
}

// take adds an address once; nil if nothing can be there.
func (r *punching) take(at netip.AddrPort) *address {
	if !possible(at) {
		return nil
	}
	for _, a := range r.addresses {
		if a.at == at {
			return a
		}
	}
	a := &address{at: at, nonce: nonce(), since: time.Now()}
	r.addresses = append(r.addresses, a)
	return a
}

// ask sends what this side asks on its own account, until ctx ends.
func (p *Puncher) ask(ctx context.Context, run *punching) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-run.more:
		case <-timer.C:
		}
		if p.replaced(run) {
			return
		}
		timer.Reset(p.askDue(run, time.Now()))
	}
}

func (p *Puncher) replaced(run *punching) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now[run.token] != run
}

// askDue asks every address that is due, as far as the pace allows, and returns
// when to look again.
func (p *Puncher) askDue(run *punching, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := punchFor
	for round := range maxAsked {
		for _, a := range run.addresses {
			if a.proven || a.asked != round {
				continue
			}
			wait := a.since.Add(askedAfter[round]).Sub(now)
			switch {
			case wait > 0:
			case round > 0 && p.firstsLocked() >= p.pace.free(now):
				wait = time.Second / perSecond // who was not asked yet goes first
			default:
				wait = p.pace.take(now)
			}
			if wait > 0 {
				next = min(next, wait)
				continue
			}
			a.asked++
			if a.asked < maxAsked {
				next = min(next, max(a.since.Add(askedAfter[a.asked]).Sub(now), 0))
			}
			p.sendLocked(run, a, 0)
		}
	}
	return next
}

// firstsLocked is how many addresses nobody has asked yet.
func (p *Puncher) firstsLocked() (n int) {
	for _, run := range p.now {
		for _, a := range run.addresses {
			if a.asked == 0 && !a.proven {
				n++
			}
		}
	}
	return n
}

// Deliver takes a packet from the socket's reader and reports whether it was one
// for punching. It keeps nothing of packet.
func (p *Puncher) Deliver(from netip.AddrPort, packet []byte) bool {
	if !attach.IsPunch(packet) {
		return false
	}
	in, err := attach.ParsePunch(packet)
	if err != nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	run, ok := p.now[in.Token]
	if !ok {
		return true
	}
	if a := run.from(unmap(from)); a != nil {
		p.receiveLocked(run, a, in)
	}
	return true
}

// from finds the address that a packet came from, or takes it up.
func (r *punching) from(at netip.AddrPort) *address {
	for _, a := range r.addresses {
		if a.at == at {
			return a
		}
	}
	if r.reflexive >= maxReflexive {
		return nil
	}
	a := r.take(at)
	if a != nil {
		r.reflexive++
		r.wake()
	}
	return a
}

func (r *punching) wake() {
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// receiveLocked answers questions, and the one answer that proves an address:
// that gives the other side its proof, and leaves before anybody here can dial.
// Answers to answers end there.
func (p *Puncher) receiveLocked(run *punching, a *address, in attach.Punch) {
	proof := in.Echo == a.nonce
	if proof && a.proven {
		return
	}
	if a.answered < maxAnswered {
		a.answered++
		p.sendLocked(run, a, in.Nonce)
	}
	if proof {
		a.proven = true
		p.proven(a.at)
		run.proven <- a.at
		p.log.Debug("a way is open", "address", a.at)
	}
}

func (p *Puncher) sendLocked(run *punching, a *address, echo uint64) {
	out := attach.Punch{Token: run.token, Nonce: a.nonce, Echo: echo}
	if err := p.out.WriteTo(out.Append(make([]byte, 0, attach.PunchSize)), a.at); err != nil {
		p.log.Debug("punch packet not sent", "address", a.at, "error", err)
	}
}

func nonce() uint64 {
	var b [8]byte
	for {
		_, _ = rand.Read(b[:]) // never fails
		if n := binary.BigEndian.Uint64(b[:]); n != 0 {
			return n
		}
	}
}
