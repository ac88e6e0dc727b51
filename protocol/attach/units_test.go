package attach

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// The window against a set that forgets nothing.
func TestWindow(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 2))
		var w window
		taken := map[uint64]bool{}
		highest := uint64(0)
		for range 5000 {
			c := highest + uint64(r.IntN(70))
			if r.IntN(4) == 0 {
				c += uint64(r.IntN(300))
			}
			c -= min(c, uint64(r.IntN(200)))
			tooOld := len(taken) > 0 && highest >= c && highest-c >= replayBits
			if got, want := w.seen(c), taken[c] || tooOld; got != want {
				t.Fatalf("seed %d: counter %d, highest %d: seen %v, want %v", seed, c, highest, got, want)
			}
			if !w.seen(c) {
				w.take(c)
				taken[c] = true
				highest = max(highest, c)
			}
		}
	}
}

func TestReceiver(t *testing.T) {
	var r receiver
	for _, c := range []struct {
		number     uint32
		fresh, ack bool
		want       ack
	}{
		{0, false, false, ack{1, 0}},
		{2, true, true, ack{1, 0b10}},
		{2, false, true, ack{1, 0b10}},
		{33, false, false, ack{1, 0b10}},
		{32, true, true, ack{1, 1<<31 | 0b10}},
		{1, true, true, ack{3, 1 << 29}},
		{1, false, true, ack{3, 1 << 29}},
	} {
		fresh, acknowledge := r.take(c.number)
		if fresh != c.fresh || acknowledge != c.ack || r.ack() != c.want {
			t.Errorf("number %d: fresh %v, acknowledged %v, %+v; want %+v", c.number, fresh, acknowledge, r.ack(), c)
		}
	}
	r = receiver{}
	for i := uint32(32); i >= 1; i-- {
		if fresh, _ := r.take(i); !fresh {
			t.Errorf("number %d is not new", i)
		}
	}
	if r.ack() != (ack{33, 0}) {
		t.Errorf("all of a window: %+v", r.ack())
	}
}

func TestSender(t *testing.T) {
	var s sender
	for range maxWaiting {
		if err := s.add(0, firstOwned, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.add(0, firstOwned, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	if s.acknowledged(ack{3, 0b10}) || len(s.queue) != maxWaiting-3 {
		t.Errorf("%d wait, want all but 1, 2 and 4", len(s.queue))
	}
	sent, now := 0, time.Duration(0)
	for {
		next, lost := s.tick(now, -aliveTime, func([]byte) { sent++ })
		if lost {
			break
		}
		if next <= now {
			t.Fatalf("next at %v, now %v", next, now)
		}
		now = next
	}
	if want := maxTries * (maxWaiting - 3); sent != want || now != 11750*time.Millisecond {
		t.Errorf("%d frames until %v, want %d until 11.75 s", sent, now, want)
	}
	if err := (&sender{}).add(0, firstOwned, make([]byte, MaxBody+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	most := func() float64 { return 0.999999 }
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		if got := b.fail(most).Round(time.Second); got != want*time.Second {
			t.Errorf("failure %d: up to %v, want %v s", i+1, got, int(want))
		}
	}
	b.reset()
	if got := b.fail(func() float64 { return 0 }); got != 0 {
		t.Errorf("full jitter begins at %v", got)
	}
}

func TestProbe(t *testing.T) {
	p := probe{began: time.Hour}
	var at []time.Duration
	for now := time.Hour; ; now += 10 * time.Millisecond {
		send, over := p.tick(now)
		if over {
			at = append(at, now-time.Hour)
			break
		}
		if send {
			at = append(at, now-time.Hour)
		}
	}
	want := []time.Duration{0, 670 * time.Millisecond, 1340 * time.Millisecond, 2 * time.Second}
	if fmt.Sprint(at) != fmt.Sprint(want) {
		t.Errorf("three tries and the end at %v, want %v", at, want)
	}
}

type memoryBinding map[string]identity.Fingerprint

func (m memoryBinding) Bind(serial string, f identity.Fingerprint) (identity.Fingerprint, error) {
	if bound, ok := m[serial]; ok {
		return bound, nil
	}
	m[serial] = f
	return f, nil
}

func TestEnrolment(t *testing.T) {
	master := Secret{5}
	a, b := newKey(t), newKey(t)
	derived := func(serial string) (Secret, bool) { return DeriveSecret(master, serial), serial != "" }
	explicit := func(serial string) (Secret, bool) { s, ok := map[string]Secret{"SN-1": {1}}[serial]; return s, ok }
	bound := memoryBinding{"SN-2": b.Fingerprint()}
	for _, c := range []struct {
		name    string
		enrol   Enrolment
		factory Factory
		ok      bool
	}{
		{"open", EnrolOpen, Factory{}, true},
		{"listed", EnrolListed(func(f identity.Fingerprint) bool { return f == a.Fingerprint() }), Factory{}, true},
		{"not listed", EnrolListed(func(f identity.Fingerprint) bool { return f == b.Fingerprint() }), Factory{}, false},
		{"explicit", EnrolSecret(explicit, memoryBinding{}), Factory{"SN-1", Secret{1}}, true},
		{"wrong secret", EnrolSecret(explicit, memoryBinding{}), Factory{"SN-1", Secret{2}}, false},
		{"unknown serial", EnrolSecret(explicit, memoryBinding{}), Factory{"SN-9", Secret{}}, false},
		{"no serial", EnrolSecret(explicit, memoryBinding{}), Factory{}, false},
		{"derived", EnrolSecret(derived, bound), Factory{"SN-1", DeriveSecret(master, "SN-1")}, true},
		{"derived for another", EnrolSecret(derived, bound), Factory{"SN-3", DeriveSecret(master, "SN-1")}, false},
		{"bound to another key", EnrolSecret(derived, bound), Factory{"SN-2", DeriveSecret(master, "SN-2")}, false},
		{"bound to this key", EnrolSecret(derived, memoryBinding{"SN-1": a.Fingerprint()}), Factory{"SN-1", DeriveSecret(master, "SN-1")}, true},
	} {
		w := newWorld(t, 30)
		w.enrol = c.enrol
		s := w.link(a, func(l *LinkConfig) { l.Factory = c.factory })
		w.run(5*time.Second, nil)
		var refused *RefusedError
		if s.attached() != c.ok || !c.ok && (len(s.events) == 0 || !errors.As(s.events[0].Err, &refused)) {
			t.Errorf("%s: attached %v, want %v; %+v", c.name, s.attached(), c.ok, s.events)
		}
	}
	if bound["SN-1"] != a.Fingerprint() {
		t.Error("the first attach did not bind the key")
	}
	if s := fmt.Sprintf("%v %+v %#v", master, Factory{"x", master}, master); s != "(secret) {Serial:x Secret:(secret)} (secret)" {
		t.Errorf("a secret prints: %s", s)
	}
}

// A key that has sealed what it may seals no more; a link renews long before.
func TestKeyIsUsedUp(t *testing.T) {
	w := newWorld(t, 31)
	s := w.link(newKey(t), nil)
	w.mustAttach(s)
	w.run(time.Second, nil)
	before, _ := s.Hash()
	s.live.counter = rekeyPackets
	s.wake = w.now
	if !w.run(time.Second, func() bool { h, ok := s.Hash(); return ok && h != before }) {
		t.Error("not renewed after 2^20 packets")
	}
	s.live.counter = maxPackets
	if _, err := s.live.seal([]byte{frameClose, 1}); !errors.Is(err, ErrExhausted) {
		t.Errorf("packet 2^23: %v", err)
	}
}
