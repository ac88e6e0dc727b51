package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/tunnel"
)

// desk is a table of introductions with a clock that the test moves.
type desk struct {
	*introductions
	at   time.Time
	may  func() bool // nil: all but peer 0
	next uint64
	ctx  context.Context
}

func newDesk(t *testing.T) *desk {
	d := &desk{at: time.Now(), ctx: t.Context()}
	d.introductions = newIntroductions(func() time.Time { return d.at })
	return d
}

func fingerprint(n uint64) (f identity.Fingerprint) {
	f[0] = 1
	binary.BigEndian.PutUint64(f[8:], n)
	return f
}

// ask is an introduction of a peer with a hash that is new.
func (d *desk) ask(peer uint64) (*introduction, error) {
	d.next++
	in := attach.Introduction{Request: d.next}
	binary.BigEndian.PutUint64(in.Hash[:], d.next)
	may := d.may
	if may == nil {
		may = func() bool { return peer != 0 }
	}
	return d.accept(d.ctx, &in, fingerprint(peer), tunnel.PlaceListed, may)
}

func TestIntroductionsEnd(t *testing.T) {
	d := newDesk(t)
	i, err := d.ask(1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.find(i.request); err != nil {
		t.Error(err)
	}
	if _, err := d.find(i.request + 1); !errors.Is(err, errNotOpen) {
		t.Errorf("a number that nobody has: %v", err)
	}
	d.at = d.at.Add(introductionLife)
	if _, err := d.leg(i.request); !errors.Is(err, errNotOpen) {
		t.Errorf("a leg after a minute: %v", err)
	}
	if i.ctx.Err() == nil {
		t.Error("it has not ended")
	}
}

// The newest introduction of a peer takes the place of his oldest, of one that is
// not in use if there is one.
func TestNewIntroductionReplacesOld(t *testing.T) {
	d := newDesk(t)
	ask := func() *introduction {
		t.Helper()
		d.at = d.at.Add(peerEvery)
		i, err := d.ask(1)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	var all []*introduction
	for range maxIntroductionsEach {
		all = append(all, ask())
	}
	for _, i := range append(all[:1:1], all[2:]...) {
		if _, err := d.leg(i.request); err != nil {
			t.Fatal(err)
		}
	}
	ended := func(i *introduction) bool { return i.ctx.Err() != nil }
	ask()
	if ended(all[0]) || !ended(all[1]) || ended(all[2]) {
		t.Errorf("ended: %v, %v, %v; want the second, which had no leg", ended(all[0]), ended(all[1]), ended(all[2]))
	}
	if _, err := d.leg(d.next); err != nil {
		t.Fatal(err)
	}
	ask()
	if _, legs := d.count(); !ended(all[0]) || ended(all[2]) || legs != maxIntroductionsEach {
		t.Errorf("ended: %v, %v with %d legs; want the first, and all legs", ended(all[0]), ended(all[2]), legs)
	}
}

func TestIntroductionsAreRefused(t *testing.T) {
	d := newDesk(t)
	if _, err := d.ask(0); !errors.Is(err, errStranger) {
		t.Errorf("a stranger: %v", err)
	}
	i, err := d.ask(1)
	if err != nil {
		t.Fatal(err)
	}
	again := &attach.Introduction{Request: 999, Hash: i.hash}
	if _, err := d.accept(d.ctx, again, i.peer, tunnel.PlaceListed, func() bool { return true }); !errors.Is(err, errReplayed) {
		t.Errorf("the same once more: %v", err)
	}
	d.at = d.at.Add(2 * introductionLife)
	if _, err := d.accept(d.ctx, again, i.peer, tunnel.PlaceListed, func() bool { return true }); !errors.Is(err, errReplayed) {
		t.Errorf("the same later: %v", err)
	}
	i, err = d.ask(1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.accept(d.ctx, &attach.Introduction{Request: i.request, Hash: attach.Hash{9}}, i.peer, tunnel.PlaceListed, func() bool { return true }); !errors.Is(err, errReplayed) {
		t.Errorf("another of the same number: %v", err)
	}
	d.renumber()
	if _, err := d.find(i.request); !errors.Is(err, errNotOpen) {
		t.Errorf("the number of a former link: %v", err)
	}
	if i.ctx.Err() != nil {
		t.Error("what was under way has ended with the link")
	}
	d.drop(func(f identity.Fingerprint) bool { return f == i.peer })
	if i.ctx.Err() == nil {
		t.Error("a revoked peer's goes on")
	}
}

func TestIntroductionsArePaced(t *testing.T) {
	d := newDesk(t)
	yes := 0
	for range 100 {
		if _, err := d.ask(1); err == nil {
			yes++
		}
	}
	if open, _ := d.count(); yes != peerBurst || open != maxIntroductionsEach {
		t.Errorf("one peer got in %d times at once and has %d places, want %d and %d", yes, open, peerBurst, maxIntroductionsEach)
	}
	d.at = d.at.Add(peerEvery)
	if _, err := d.ask(1); err != nil {
		t.Errorf("after a pause: %v", err)
	}
	if _, err := d.ask(1); !errors.Is(err, errTooFast) {
		t.Errorf("and no more: %v", err)
	}
	if _, err := d.ask(2); err != nil {
		t.Errorf("another peer: %v", err)
	}
	// Many peers: the table is full at some point, and has room again later.
	yes = 0
	for peer := range uint64(200) {
		if _, err := d.ask(peer + 10); err == nil {
			yes++
		}
	}
	if open, _ := d.count(); open != maxIntroductions || yes != maxIntroductions-maxIntroductionsEach-1 {
		t.Errorf("%d are open, %d of them new; want %d", open, yes, maxIntroductions)
	}
	d.at = d.at.Add(introductionLife)
	if _, err := d.ask(300); err != nil {
		t.Error(err)
	}
	hurried := 0
	for range 1000 {
		if d.hurried(tunnel.PlaceListed) {
			hurried++
		}
	}
	if hurried != 1000-allBurst {
		t.Errorf("%d of 1,000 at once are put off, want %d", hurried, 1000-allBurst)
	}
}

// What is remembered is bounded.
func TestIntroductionsMemory(t *testing.T) {
	d := newDesk(t)
	for n := range uint64(3 * maxRemembered) {
		d.at = d.at.Add(introductionLife)
		if _, err := d.ask(n + 1); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.remembered) != maxRemembered || len(d.order) != maxRemembered || len(d.peers) > maxPaced || len(d.all) != 1 || len(d.open) != 1 {
		t.Errorf("%d hashes, %d in order, %d paces, %d introductions, %d numbers", len(d.remembered), len(d.order), len(d.peers), len(d.all), len(d.open))
	}
}

// Where a basestation says that it sees a client is believed as far as it could see
// one there.
func TestObservedAddresses(t *testing.T) {
	const public, private, loopback = "203.0.113.1", "192.168.7.1", "127.0.0.1"
	for _, one := range []struct {
		node, at string
		want     bool
	}{
		{public, "198.51.100.7:4000", true},
		{public, "[2001:db8::7]:4000", true},
		{public, "192.168.7.9:4000", false},
		{public, "10.0.0.1:4000", false},
		{public, "172.16.0.1:4000", false},
		{public, "100.64.0.1:4000", false},
		{public, "169.254.1.1:4000", false},
		{public, "[fe80::1]:4000", false},
		{public, "[fd00::1]:4000", false},
		{public, "127.0.0.1:4000", false},
		{public, "[::1]:4000", false},
		{public, "[::ffff:127.0.0.1]:4000", false},
		{public, "[::ffff:192.168.7.9]:4000", false},
		{public, "0.0.0.0:4000", false},
		{public, "[::]:4000", false},
		{public, "255.255.255.255:4000", false},
		{public, "224.0.0.251:5353", false},
		{public, "[ff02::fb]:5353", false},
		{public, "198.51.100.7:0", false},
		{public, attach.StreamAddr(3).String(), false},
		{private, "192.168.7.9:4000", true},
		{private, "127.0.0.1:4000", false},
		{private, "224.0.0.251:5353", false},
		{private, "198.51.100.7:4000", true},
		{loopback, "127.0.0.1:4000", true},
		{loopback, "192.168.7.9:4000", true},
		{loopback, "224.0.0.251:5353", false},
	} {
		if got := mayBeObserved(netip.MustParseAddr(one.node), netip.MustParseAddrPort(one.at)); got != one.want {
			t.Errorf("basestation at %s, client at %s: %v, want %v", one.node, one.at, got, one.want)
		}
	}
	if mayBeObserved(netip.MustParseAddr(public), netip.AddrPort{}) {
		t.Error("no address is one")
	}
}

// Candidates in the owner's network are for those who are in it, and a basestation
// that could not have seen them there does not make them neighbours.
func TestUsableAt(t *testing.T) {
	at := netip.MustParseAddrPort
	public, home, here := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.168.7.2"), netip.MustParseAddr("127.0.0.1")
	street, inside, own := at("198.51.100.7:4000"), at("192.168.7.9:22"), at("127.0.0.1:22")
	for _, one := range []struct {
		node                    netip.Addr
		candidate, ours, theirs netip.AddrPort
		want                    bool
	}{
		{public, street, at("203.0.113.1:1"), at("203.0.113.2:1"), true},
		{public, inside, at("203.0.113.1:1"), at("203.0.113.1:2"), true},
		{public, inside, at("203.0.113.1:1"), at("203.0.113.2:1"), false},
		{public, inside, at("192.168.7.5:1"), at("192.168.7.5:2"), false},
		{public, own, at("127.0.0.1:1"), at("127.0.0.1:2"), false},
		{home, own, at("127.0.0.1:1"), at("127.0.0.1:2"), false},
		{home, inside, at("192.168.7.5:1"), at("192.168.7.5:2"), true},
		{here, own, at("127.0.0.1:1"), at("127.0.0.1:2"), true},
		{here, inside, netip.AddrPort{}, netip.AddrPort{}, false},
	} {
		got := len(usableAt(one.node, []netip.AddrPort{one.candidate, one.candidate}, one.ours, one.theirs, nil)) == 1
		if got != one.want {
			t.Errorf("basestation at %s sees us at %s and the client at %s: %s is usable: %v", one.node, one.ours, one.theirs, one.candidate, got)
		}
	}
}

// Who is revoked while he is being introduced is either not let in any more or
// dropped with the others.
func TestRevokedWhileIntroduced(t *testing.T) {
	d := newDesk(t)
	dropped := make(chan struct{})
	d.may = func() bool {
		drop := func() {
			d.drop(func(gone identity.Fingerprint) bool { return gone == fingerprint(1) })
			close(dropped)
		}
		if d.mu.TryLock() { // nothing keeps the revocation from being over now
			d.mu.Unlock()
			drop()
		} else {
			go drop()
		}
		return true // as of a moment before
	}
	i, err := d.ask(1)
	<-dropped
	if err == nil && i.ctx.Err() == nil {
		t.Error("a revoked key is introduced")
	}
}

func TestCountForgetsWhatIsOver(t *testing.T) {
	d := newDesk(t)
	if _, err := d.ask(1); err != nil {
		t.Fatal(err)
	}
	d.at = d.at.Add(introductionLife)
	if open, _ := d.count(); open != 0 {
		t.Errorf("%d introductions are open after their minute", open)
	}
}
