package attach

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"
)

func TestAttach(t *testing.T) {
	w := newWorld(t, 1)
	k := newKey(t)
	s := w.link(k, func(c *LinkConfig) { c.Firmware, c.Boots = "1.2.3", 7 })
	w.mustAttach(s)
	if w.now != 60*time.Millisecond {
		t.Errorf("attached after %v, want three round trips of 20 ms", w.now)
	}
	p, ok := w.node.Device(k.Fingerprint())
	hash, _ := s.Hash()
	if !ok || p.Address != s.outside() || p.Hash != hash || p.Client {
		t.Errorf("the node has %+v, %v; want the device at %v", p, ok, s.outside())
	}
	if e := s.events[0]; e.Observed != s.outside() || e.Unix != 1_800_000_000 || e.Controller != nodeAddress {
		t.Errorf("event %+v", e)
	}
	if r := w.asked[0]; r.Firmware != "1.2.3" || r.Boots != 7 {
		t.Errorf("request %+v", r)
	}
	// Three days of silence: nothing but keep-alives, and the daily renewal.
	w.run(3*24*time.Hour, nil)
	if !s.attached() || w.node.Devices() != 1 || len(w.node.senders) != 0 || len(w.node.pending) != 0 {
		t.Errorf("after three days: %v, %d devices, %d senders, %d pending", s.State(), w.node.Devices(), len(w.node.senders), len(w.node.pending))
	}
	for _, e := range s.events {
		if e.Err != nil {
			t.Errorf("event %+v in three days without trouble", e)
		}
	}
	renewed, _ := s.Hash()
	if renewed == hash {
		t.Error("the keys of the first day are still in use")
	}
	s.Close(w.now)
	w.run(time.Second, nil)
	if w.node.Devices() != 0 || w.events[len(w.events)-1].Reason != CloseLeaving {
		t.Errorf("after goodbye: %d devices, %+v", w.node.Devices(), w.events[len(w.events)-1])
	}
}

// With node and cookie remembered an attach takes two round trips, and a cookie
// that is too old costs no more than LOCATE would.
func TestRemembered(t *testing.T) {
	w := newWorld(t, 2)
	k := newKey(t)
	first := w.link(k, nil)
	w.mustAttach(first)
	known := first.Known()
	first.Close(w.now)
	w.run(time.Second, nil)
	for _, c := range []struct {
		later time.Duration
		trips int
	}{{0, 2}, {3 * CookieSlot, 3}} {
		w.run(c.later, nil)
		s := w.link(newKey(t), func(c *LinkConfig) { c.Known = known })
		s.ip = first.ip
		first.cut = true
		began := w.now
		w.mustAttach(s)
		if got := w.now - began; got != time.Duration(c.trips)*20*time.Millisecond {
			t.Errorf("after %v: attached in %v, want %d round trips of 20 ms", c.later, got, c.trips)
		}
		first = s
	}
}

// On a network that loses a tenth, doubles a tenth and reorders, 999 of 1,000
// links attach within a minute.
func TestAttachOnBadNetwork(t *testing.T) {
	late, total := 0, 50
	if os.Getenv("KEYHOLE_FULL") != "" {
		total = 10_000
	}
	k := newKey(t)
	for seed := range uint64(total) {
		w := newWorld(t, 100+seed)
		w.loss, w.double, w.spread = 0.10, 0.10, 80*time.Millisecond
		s := w.link(k, nil)
		if !w.run(time.Minute, s.attached) {
			late++
		}
		if w.run(10*time.Minute, nil); !s.attached() && w.node.Devices() != 1 {
			t.Errorf("seed %d: %v after ten minutes, %d at the node", seed, s.State(), w.node.Devices())
		}
	}
	t.Logf("%d of %d attached within a minute", total-late, total)
	if late*1000 > total {
		t.Errorf("%d of %d links not attached within a minute", late, total)
	}
}

func TestClientIntroduces(t *testing.T) {
	w := newWorld(t, 3)
	device := newKey(t)
	k := newKey(t)
	s := w.link(k, func(c *LinkConfig) {
		c.Introduce = &Introduce{Device: device.ID(), Candidates: [][]byte{{192, 0, 2, 9, 0x1d, 0x13}}, Pass: []byte("pass")}
	})
	w.mustAttach(s)
	w.run(time.Second, nil)
	if len(w.intros) != 1 || w.intros[0].Fingerprint != k.Fingerprint() || !w.intros[0].Client || w.node.Devices() != 0 {
		t.Errorf("introductions %+v, %d devices", w.intros, w.node.Devices())
	}
	if len(s.got) != 1 || s.got[0] != firstOwned {
		t.Errorf("the client got %v", s.got)
	}
	if !slices.ContainsFunc(s.events, func(e LinkEvent) bool { return e.Observed == s.outside() }) {
		t.Errorf("the client was not told its address: %+v", s.events)
	}
	s.cut = true
	w.run(2*clientTime, nil)
	if len(w.node.clients) != 0 {
		t.Error("a silent client is kept")
	}
}

func TestControlMessagesArriveOnce(t *testing.T) {
	w := newWorld(t, 4)
	w.loss, w.double, w.spread = 0.2, 0.2, 100*time.Millisecond
	s := w.link(newKey(t), nil)
	w.mustAttach(s)
	w.run(5*time.Second, nil)
	peer, _ := w.node.Device(s.c.Key.Fingerprint())
	for i := range Kind(5) {
		if err := s.Send(w.now, firstOwned+i, []byte{0xa0}); err != nil {
			t.Fatal(err)
		}
		if err := w.node.Send(w.now, peer.Index, firstOwned+i, []byte{0xa0}); err != nil {
			t.Fatal(err)
		}
		s.wake = w.now
	}
	w.run(15*time.Second, nil)
	for who, got := range map[string][]Kind{"node": w.messages, "link": s.got} {
		seen := map[Kind]int{}
		for _, k := range got {
			seen[k]++
		}
		for i := range Kind(5) {
			if seen[firstOwned+i] != 1 {
				t.Errorf("%s got kind %d %d times", who, firstOwned+i, seen[firstOwned+i])
			}
		}
	}
	if err := w.node.Send(w.now, peer.Index+1, firstOwned, nil); !errors.Is(err, ErrUnknownPeer) {
		t.Errorf("send to nobody: %v", err)
	}
}

func TestNodeRestarts(t *testing.T) {
	w := newWorld(t, 5)
	s := w.link(newKey(t), nil)
	w.mustAttach(s)
	w.run(10*time.Second, nil)
	peer, _ := w.node.Device(s.c.Key.Fingerprint())

	// By the device's own next packet.
	w.startNode()
	if !w.run(startIntervalAndGrace+15*time.Second, func() bool { return w.node.Devices() == 1 }) {
		t.Fatalf("not back after a restart: %+v", s.events)
	}
	// By a notice, at once.
	peer, _ = w.node.Device(s.c.Key.Fingerprint())
	w.startNode()
	w.transport(nodeAddress, s.outside(), w.node.RestartNotice(peer.Index, 2*time.Second))
	if !w.run(4*time.Second, func() bool { return w.node.Devices() == 1 }) {
		t.Fatalf("not back after a notice: %+v", s.events)
	}
}

const startIntervalAndGrace = 25*time.Second + answerGrace

func TestNodeDies(t *testing.T) {
	w := newWorld(t, 6)
	s := w.link(newKey(t), nil)
	w.mustAttach(s)
	s.cut = true
	if !w.run(2*time.Minute, func() bool { return !s.attached() }) {
		t.Fatal("a dead node is not noticed")
	}
	var lost *LostError
	if err := s.events[len(s.events)-1].Err; !errors.As(err, &lost) || lost.Reason != CloseSilent {
		t.Errorf("lost with %v", err)
	}
	if !w.run(2*time.Minute, func() bool { return w.node.Devices() == 0 }) {
		t.Error("a dead device is not noticed")
	}
	w.run(10*time.Minute, nil)
	s.cut = false
	s.NetworkChanged(w.now)
	s.wake = w.now
	began := w.now
	w.mustAttach(s)
	if w.now-began > time.Second {
		t.Errorf("back %v after the network changed", w.now-began)
	}
}

func TestRoaming(t *testing.T) {
	w := newWorld(t, 7)
	s := w.link(newKey(t), nil)
	w.mustAttach(s)
	w.run(time.Second, nil)
	s.port = 50000
	s.NetworkChanged(w.now)
	s.wake = w.now
	// Its PING is answered as soon as it has shown that it is there.
	if w.run(41*time.Millisecond, nil); s.live.tries != 0 {
		t.Error("no answer after two round trips from a new address")
	}
	w.run(time.Second, nil)
	peer, _ := w.node.Device(s.c.Key.Fingerprint())
	if peer.Address != s.outside() || w.events[len(w.events)-1].Change != PeerMoved {
		t.Errorf("the node has %v, want %v; events %+v", peer.Address, s.outside(), w.events)
	}
	if e := s.events[len(s.events)-1]; e.Observed != s.outside() {
		t.Errorf("the device was told %v", e.Observed)
	}
}

// What a node says while a device moves comes as soon as the device has shown itself.
func TestMessageFollows(t *testing.T) {
	w := newWorld(t, 12)
	s := w.link(newKey(t), nil)
	w.mustAttach(s)
	w.run(time.Second, nil)
	s.port = 50000 // the mapping is gone, and nobody knows yet
	peer, _ := w.node.Device(s.c.Key.Fingerprint())
	if err := w.node.Send(w.now, peer.Index, KindRelay, []byte{0xa0}); err != nil {
		t.Fatal(err)
	}
	w.run(2*time.Second, nil) // three times in vain; the next try would be 1.75 s later
	s.NetworkChanged(w.now)
	s.wake = w.now
	w.run(41*time.Millisecond, nil)
	if len(s.got) != 1 {
		t.Errorf("%d messages two round trips after the move, want 1", len(s.got))
	}
}

// A device learns what its NAT does: the interval stays below its time-out, and
// comes near it where that is longer than the first guess.
func TestKeepaliveLearns(t *testing.T) {
	for _, c := range []struct{ forgets, low, high time.Duration }{
		{0, 115 * time.Second, 115 * time.Second},
		{70 * time.Second, 60 * time.Second, 60 * time.Second},
		{30 * time.Second, 25 * time.Second, 25 * time.Second},
		{18 * time.Second, 15 * time.Second, 15 * time.Second},
		{12 * time.Second, 10 * time.Second, 10 * time.Second},
	} {
		w := newWorld(t, 8)
		s := w.link(newKey(t), nil)
		s.forgets = c.forgets
		w.mustAttach(s)
		w.run(50*time.Minute, nil)
		if got := s.Interval(); got < c.low || got > c.high {
			t.Errorf("NAT forgets after %v: interval %v, want %v to %v", c.forgets, got, c.low, c.high)
		}
		if !s.attached() || w.node.Devices() != 1 {
			t.Errorf("NAT forgets after %v: link lost", c.forgets)
		}
	}
}

func TestDuplicate(t *testing.T) {
	w := newWorld(t, 9)
	k := newKey(t)
	first := w.link(k, nil)
	w.mustAttach(first)
	second := w.link(k, nil)
	w.run(5*time.Second, nil)
	var refused *RefusedError
	if second.attached() || len(second.events) == 0 || !errors.As(second.events[0].Err, &refused) || refused.Code != CodeDuplicate {
		t.Fatalf("second device with one key: %v, %+v", second.State(), second.events)
	}
	if e := w.events[len(w.events)-1]; e.Change != PeerDuplicate || e.Other != second.outside() || e.Peer.Address != first.outside() {
		t.Errorf("no alarm: %+v", e)
	}
	if second.wake < w.now+50*time.Second {
		t.Errorf("the second tries again after %v, want 60 s", second.wake-w.now)
	}
	// The first one loses power: the second takes over, and it is a restart.
	first.cut = true
	if !w.run(80*time.Second, second.attached) {
		t.Fatal("a dead device keeps its id")
	}
	p, _ := w.node.Device(k.Fingerprint())
	if p.Address != second.outside() {
		t.Errorf("attached at %v", p.Address)
	}
}

// Its own token lets a device replace its link without a probe.
func TestRenewal(t *testing.T) {
	w := newWorld(t, 10)
	s := w.link(newKey(t), nil)
	w.mustAttach(s)
	w.run(time.Second, nil)
	before, _ := s.Hash()
	s.renewAt = w.now
	s.wake = w.now
	sent := len(w.events)
	if !w.run(time.Second, func() bool { h, ok := s.Hash(); return ok && h != before }) {
		t.Fatalf("not renewed: %+v", s.events)
	}
	w.run(time.Second, nil)
	if w.node.Devices() != 1 {
		t.Errorf("%d devices", w.node.Devices())
	}
	for _, e := range w.events[sent:] {
		if e.Change == PeerDuplicate {
			t.Error("a renewal raised an alarm")
		}
	}
}

func TestRelocate(t *testing.T) {
	w := newWorld(t, 11)
	s := w.link(newKey(t), nil)
	w.mustAttach(s)
	w.run(time.Second, nil)
	before, _ := s.Hash()
	peer, _ := w.node.Device(s.c.Key.Fingerprint())
	body, _ := Encode(Relocate{Spread: 10})
	if err := w.node.Send(w.now, peer.Index, KindRelocate, body); err != nil {
		t.Fatal(err)
	}
	if !w.run(12*time.Second, func() bool { h, ok := s.Hash(); return ok && h != before }) {
		t.Fatal("not attached anew")
	}
}
