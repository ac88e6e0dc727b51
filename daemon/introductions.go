package daemon

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/keyholed/keyhole/internal/pace"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/tunnel"
)

// Limits of what a basestation can have the device do. It names who asks and
// where, and may be hostile.
const (
	// maxIntroductions are in their first minute at once: every member of a large family moving to
	// another network in the same minute. The puncher has room for them and for those
	// of strangers (crowds.go).
	maxIntroductions = 32
	// maxIntroductionsEach are one key's, so that four have to conspire against the
	// others. A newer one takes the place of its oldest: a client whose network
	// changes again and again, and a script that asks every few seconds, are served.
	maxIntroductionsEach = 8
	// introductionLife is how long a client may come by an introduction and ask
	// for legs: twice what a ticket lives. While legs are open it goes on.
	introductionLife = time.Minute
	// maxLegs bounds relayed connections, maxLegsEach those of an introduction (a
	// standing one, a few warm ones, and a tunnel in each place that gets free),
	// maxLegsOfPeer those of one key, which leaves half of them to others. The first
	// leg of an introduction takes the place of an old one where there is none: that
	// is most often the leg of a client that vanished from a network, and nobody here
	// notices that before the relay does, after minutes.
	maxLegs       = 64
	maxLegsEach   = 16
	maxLegsOfPeer = 32
	// legBurst and legEvery pace legs, whose dialling goes where the basestation's
	// certificate says: as many as there may be twice over, then ten a second, which
	// is a page full of pictures.
	legBurst = 2 * maxLegs
	legEvery = 100 * time.Millisecond
	// peerBurst and peerEvery pace one fingerprint: ten at once, for a client whose
	// network comes and goes, then one each 2 s.
	peerBurst = 10
	peerEvery = 2 * time.Second
	// allBurst and allEvery pace all that come in the name of keys on the list,
	// before a signature is looked at, which costs a tenth of a millisecond and on
	// slow boards a few.
	allBurst = 64
	allEvery = 50 * time.Millisecond
	// strangerBurst and strangerEvery pace those apart whom only a check of
	// askChecks takes, so that they can never slow down who is on the list.
	strangerBurst = 16
	strangerEvery = 500 * time.Millisecond
	// maxRemembered introductions are known again: none is taken twice. At the
	// pace of all it takes a minute to push one out, when it has ended anyway, and
	// then its peer's pace still holds.
	maxRemembered = 1024
	// maxPaced fingerprints have a pace of their own. Only paired ones get that
	// far, and there are at most 8,000 of those; the oldest is forgotten.
	maxPaced = 256
)

// Why an introduction, or a leg of one, is refused. They are for the log; the
// basestation hears a bare no.
var (
	errStranger   = errors.New("the key may not ask")
	errReplayed   = errors.New("an introduction that was there before")
	errTooFast    = errors.New("too many, too fast")
	errTooMany    = errors.New("too many introductions at once")
	errNotOpen    = errors.New("no such introduction is open")
	errTooManyLeg = errors.New("too many relayed connections")
)

// An introduction is a client that may come, for introductionLife.
type introduction struct {
	request   uint64
	hash      attach.Hash
	peer      identity.Fingerprint
	publicKey []byte
	observed  netip.AddrPort // of the client over UDP, as the basestation says; may be invalid
	own       []netip.AddrPort
	ctx       context.Context // ends with it
	end       context.CancelFunc
	peers     chan []netip.AddrPort // where the client is to be met by TCP; holds one

	since time.Time
	place tunnel.Place // with whom it competes

	// Guarded by introductions.mu.
	until time.Time
	legs  int
}

// introductions are those that the device has said yes to. It decides what is
// open and opens nothing itself.
type introductions struct {
	now func() time.Time

	mu         sync.Mutex
	open       map[uint64]*introduction // by request of the present link
	all        map[*introduction]bool   // those of former links too
	remembered map[attach.Hash]bool
	order      []attach.Hash // of remembered, oldest first
	legs       []*relayLeg   // oldest first; short, so it is searched
	crowds     [3]crowd      // by place
	peers      map[identity.Fingerprint]*pace.Pace
}

func newIntroductions(now func() time.Time) *introductions {
	return &introductions{
		now:  now,
		open: map[uint64]*introduction{}, all: map[*introduction]bool{},
		remembered: map[attach.Hash]bool{}, peers: map[identity.Fingerprint]*pace.Pace{},
		crowds: newCrowds(),
	}
}

// hurried reports that too many come of those that compete with each other; it is
// asked before any work is done.
func (t *introductions) hurried(place tunnel.Place) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.crowds[place].pace.AllowAt(t.now())
}

// accept opens an introduction whose signature is good, or says why not. may is asked
// once more whether its peer may come, so that a revocation finds what it let through.
func (t *introductions) accept(ctx context.Context, in *attach.Introduction, peer identity.Fingerprint, place tunnel.Place, may func() bool) (*introduction, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	t.sweepLocked(now)
	switch {
	case !may(): // under mu: who is revoked from here on is found by drop
		return nil, errStranger
	case t.remembered[in.Hash]:
		return nil, errReplayed
	case t.crowds[place].eachPaced && !t.paceLocked(peer).AllowAt(now):
		return nil, errTooFast
	case t.open[in.Request] != nil:
		return nil, errReplayed // a number names one introduction
	case !t.makeRoomLocked(peer, place, now):
		return nil, errTooMany
	}
	t.rememberLocked(in.Hash)
	i := &introduction{
		request: in.Request, hash: in.Hash, peer: peer, publicKey: in.Introduce.PublicKey,
		observed: in.Observed.AddrPort, own: in.Introduce.Addresses(),
		peers: make(chan []netip.AddrPort, 1), since: now, until: now.Add(introductionLife), place: place,
	}
	i.ctx, i.end = context.WithCancel(ctx)
	t.open[i.request], t.all[i] = i, true
	return i, nil
}

// find returns an open introduction of the present link.
func (t *introductions) find(request uint64) (*introduction, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweepLocked(t.now())
	if i := t.open[request]; i != nil {
		return i, nil
	}
	return nil, errNotOpen
}

// renumber forgets the numbers: they were those of a link that is no more. What is
// under way goes on.
func (t *introductions) renumber() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.open)
}

// drop ends the introductions of peers that may not come any more.
func (t *introductions) drop(gone func(identity.Fingerprint) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.all {
		if gone(i.peer) {
			t.endLocked(i)
		}
	}
}

// close ends one that came to nothing.
func (t *introductions) close(i *introduction) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endLocked(i)
}

func (t *introductions) sweepLocked(now time.Time) {
	for i := range t.all {
		if i.legs == 0 && !now.Before(i.until) {
			t.endLocked(i)
		}
	}
}

// makeRoomLocked sees to a place for one more of a peer. What counts is in its first
// minute; older ones live for their legs, which are counted by themselves.
func (t *introductions) makeRoomLocked(peer identity.Fingerprint, place tunnel.Place, now time.Time) bool {
	all, his := 0, 0
	var oldest *introduction // of his, one without a leg before others
	for i := range t.all {
		if !now.Before(i.until) || i.place != place {
			continue
		}
		all++
		if i.peer != peer {
			continue
		}
		his++
		if oldest == nil || i.legs == 0 && oldest.legs > 0 || (i.legs == 0) == (oldest.legs == 0) && i.since.Before(oldest.since) {
			oldest = i
		}
	}
	if c := t.crowds[place]; his < c.each {
		return all < c.introductions
	}
	t.endLocked(oldest) // its legs stay
	return true
}

func (t *introductions) endLocked(i *introduction) {
	i.end()
	delete(t.all, i)
	if t.open[i.request] == i {
		delete(t.open, i.request)
	}
}

func (t *introductions) rememberLocked(h attach.Hash) {
	if len(t.order) >= maxRemembered {
		delete(t.remembered, t.order[0])
		t.order = append(t.order[:0], t.order[1:]...)
	}
	t.remembered[h] = true
	t.order = append(t.order, h)
}

func (t *introductions) paceLocked(peer identity.Fingerprint) *pace.Pace {
	if b := t.peers[peer]; b != nil {
		return b
	}
	if len(t.peers) >= maxPaced {
		var oldest identity.Fingerprint
		for f, b := range t.peers {
			if oldest.IsZero() || b.Whole().Before(t.peers[oldest].Whole()) {
				oldest = f
			}
		}
		delete(t.peers, oldest)
	}
	b := new(pace.New(peerBurst, peerEvery))
	t.peers[peer] = b
	return b
}

// count tells how many introductions and relayed connections are open.
func (t *introductions) count() (open, legs int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweepLocked(t.now())
	return len(t.all), len(t.legs)
}
