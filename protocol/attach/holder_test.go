package attach

import (
	"net/netip"
	"testing"
	"time"
)

// What the holder of a link needs to choose a way: since when it waits, whether a packet
// was genuine, where it goes, and a question by another way.
func TestLinkTellsItsHolder(t *testing.T) {
	w := newWorld(t, 90)
	s := w.link(newKey(t), nil)
	if _, waits := s.Waiting(); waits {
		t.Error("waits before it has asked")
	}
	s.cut = true
	w.now = time.Second
	s.wake = s.Tick(w.now)
	w.run(3*time.Second, nil)
	if since, waits := s.Waiting(); !waits || since != time.Second {
		t.Errorf("waits %v since %v, want since 1 s", waits, since)
	}
	if _, keyed := s.Peer(); keyed {
		t.Error("a node before there is a key")
	}

	// A new way opens: what waits is sent at once, and counts as no try.
	s.cut = false
	tries := s.tries
	s.Again(w.now)
	if s.tries != tries {
		t.Errorf("%d tries, want %d as before", s.tries, tries)
	}
	w.run(70*time.Millisecond, nil)
	if !s.attached() {
		t.Fatalf("not attached three round trips after the way opened: %v", s.State())
	}
	w.run(time.Second, nil)
	if _, waits := s.Waiting(); waits {
		t.Error("waits though all is answered")
	}
	c, ok := s.Node()
	if peer, keyed := s.Peer(); !ok || !keyed || peer != nodeAddress || c.Addresses[0] != nodeAddress {
		t.Errorf("node %v, %v", peer, c)
	}
	if got, err := CheckCertificate(s.Roots(), s.Known().Certificate); err != nil || got.Key != c.Key {
		t.Errorf("certificate: %v", err)
	}

	// A question beside the link.
	var answer []byte
	w.node.c.Send = func(_ netip.AddrPort, p []byte) { answer = append([]byte(nil), p...) }
	question := s.Probe()
	w.node.Receive(w.now, stranger, question)
	forged := flip(answer, 3)
	if s.Receive(w.now, forged) || !s.Receive(w.now, answer) || s.Receive(w.now, answer) {
		t.Error("a question counts once, and only its own answer")
	}
}

// The acknowledgement that makes a client's link live may wait for a way, too.
func TestAgainWhileAttaching(t *testing.T) {
	w := newWorld(t, 91)
	s := w.link(newKey(t), nil)
	w.run(35*time.Millisecond, nil)
	w.loss = 1 // WELCOME is on its way
	w.run(5*time.Second, nil)
	if s.State() != StateAttaching {
		t.Fatal(s.State())
	}
	w.loss = 0
	s.Again(w.now)
	w.run(30*time.Millisecond, nil)
	if !s.attached() {
		t.Errorf("%v a round trip after the way opened", s.State())
	}
	// And a live one's: a message, and the question whether it lives.
	s.cut = true
	if err := s.Send(w.now, KindPresence, []byte{0xa0}); err != nil {
		t.Fatal(err)
	}
	s.Check(w.now)
	w.run(3*time.Second, nil)
	s.cut = false
	s.Again(w.now)
	w.run(30*time.Millisecond, nil)
	if _, waits := s.Waiting(); waits || len(w.messages) != 1 {
		t.Errorf("waits: %v; the node got %d messages", waits, len(w.messages))
	}
}

// Controllers are asked in turn, a quarter of a second apart, and new ones are taken over
// by the next attempt.
func TestControllersInTurn(t *testing.T) {
	w := newWorld(t, 92)
	gone := netip.MustParseAddrPort("192.0.2.7:7443")
	s := w.link(newKey(t), func(c *LinkConfig) { c.Basestations = []netip.AddrPort{gone, nodeAddress} })
	w.mustAttach(s)
	if w.now != 250*time.Millisecond+3*20*time.Millisecond {
		t.Errorf("attached after %v, want a quarter of a second and three round trips", w.now)
	}
	if c := s.events[0].Controller; c != nodeAddress {
		t.Errorf("located by %v, want %v", c, nodeAddress)
	}
	lost := w.link(newKey(t), func(c *LinkConfig) { c.Basestations = []netip.AddrPort{gone} })
	w.run(5*time.Second, nil)
	lost.SetBasestations(nil)
	lost.SetBasestations([]netip.AddrPort{nodeAddress})
	w.mustAttach(lost)
}

// A controller whose name was known a moment later than another's is asked in the same
// attempt, and what the first one says still counts.
func TestControllerComesLate(t *testing.T) {
	w := newWorld(t, 93)
	gone := netip.MustParseAddrPort("192.0.2.7:7443")
	for _, late := range [][]netip.AddrPort{{nodeAddress}, {nodeAddress, gone}, {gone, nodeAddress}} {
		s := w.link(newKey(t), func(c *LinkConfig) { c.Basestations = []netip.AddrPort{gone} })
		began := w.now
		w.run(10*time.Millisecond, nil)
		s.SetBasestations(late)
		w.mustAttach(s)
		if took := w.now - began; took > time.Second {
			t.Errorf("%v: attached after %v", late, took)
		}
	}
	s := w.link(newKey(t), nil)
	began := w.now
	w.run(10*time.Millisecond, nil) // the answer is under way
	s.SetBasestations([]netip.AddrPort{gone, nodeAddress})
	w.mustAttach(s)
	if took := w.now - began; took > 200*time.Millisecond {
		t.Errorf("attached after %v: an answer was thrown away", took)
	}
}
