package daemon

import (
	"errors"
	"testing"
	"time"

	"github.com/keyholed/keyhole/tunnel"
)

// A client that has a leg may have more, as long as it has one.
func TestLegsKeepAnIntroductionOpen(t *testing.T) {
	d := newDesk(t)
	i, _ := d.ask(1)
	one, err := d.leg(i.request)
	if err != nil {
		t.Fatal(err)
	}
	d.at = d.at.Add(time.Hour)
	other, err := d.leg(i.request)
	if err != nil {
		t.Fatal(err)
	}
	d.legOver(one)
	d.legOver(one) // again: nothing
	d.legOver(other)
	if _, err := d.leg(i.request); !errors.Is(err, errNotOpen) {
		t.Errorf("a leg behind the last: %v", err)
	}
	if open, legs := d.count(); open != 0 || legs != 0 {
		t.Errorf("%d introductions and %d legs are left", open, legs)
	}
}

// tryLegs asks for n legs and counts those that are given.
func (d *desk) tryLegs(t *testing.T, i *introduction, n int) (taken []*relayLeg) {
	t.Helper()
	for range n {
		switch l, err := d.leg(i.request); {
		case err == nil:
			taken = append(taken, l)
		case !errors.Is(err, errTooManyLeg):
			t.Error(err)
		}
	}
	return taken
}

// A closing is a connection that notes that it was closed.
type closing struct{ closed bool }

func (c *closing) Close() error {
	c.closed = true
	return nil
}

func TestLegsAreBounded(t *testing.T) {
	d := newDesk(t)
	mustAsk := func(peer uint64) *introduction {
		t.Helper()
		i, err := d.ask(peer)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	var all []*relayLeg
	for _, peer := range []uint64{1, 1, 2, 2} { // each has all that one may have, and together it is everything
		legs := d.tryLegs(t, mustAsk(peer), maxLegsEach+3)
		if len(legs) != maxLegsEach {
			t.Fatalf("an introduction has %d legs, want %d", len(legs), maxLegsEach)
		}
		all = append(all, legs...)
	}
	if _, n := d.count(); n != maxLegs {
		t.Fatalf("%d legs, want %d", n, maxLegs)
	}
	var conns []*closing
	for _, l := range all {
		c := &closing{}
		conns = append(conns, c)
		if !d.legOpen(l, c) {
			t.Fatal("a leg has lost its place")
		}
	}
	// The first leg of a newer introduction takes the place of the peer's oldest, the
	// second one does not.
	if got := d.tryLegs(t, mustAsk(2), 2); len(got) != 1 || !conns[2*maxLegsEach].closed || conns[2*maxLegsEach+1].closed {
		t.Errorf("%d legs of a newer introduction", len(got))
	}
	// A third peer's takes that of who has most; he who has more than his share
	// can take nobody's.
	if got := d.tryLegs(t, mustAsk(3), 2); len(got) != 1 || !conns[0].closed || conns[1].closed {
		t.Errorf("%d legs of a third peer", len(got))
	}
	if _, n := d.count(); n != maxLegs {
		t.Errorf("%d legs, want %d", n, maxLegs)
	}
	d.legOver(all[5])
	if got := d.tryLegs(t, mustAsk(4), 1); len(got) != 1 || conns[1].closed {
		t.Error("a place that was given back is not there")
	}
	// A leg that lost its place while it was being opened is not used.
	if l := d.legs[len(d.legs)-1]; !d.cutLegLocked(l.peer, tunnel.PlaceListed, maxLegsOfPeer) || d.legOpen(l, &closing{}) {
		t.Error("a leg without a place is used")
	}
}

// Tickets that lead nowhere do not make a device dial as fast as they come.
func TestLegsArePaced(t *testing.T) {
	d := newDesk(t)
	i, err := d.ask(1)
	if err != nil {
		t.Fatal(err)
	}
	spend := func() (n int) {
		for range 3 * legBurst {
			if l, err := d.leg(i.request); err == nil {
				d.legOver(l)
				n++
			}
		}
		return n
	}
	if n := spend(); n != legBurst {
		t.Errorf("%d legs at once, want %d", n, legBurst)
	}
	d.at = d.at.Add(time.Second)
	if n := spend(); n != int(time.Second/legEvery) {
		t.Errorf("%d legs a second later", n)
	}
}
