package basestation

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// calls has a device ask for a number.
func (l *simLink) calls(request uint64) string {
	l.w.t.Helper()
	l.say(attach.KindCall, attach.Call{Request: request})
	var m attach.CallNumber
	if !l.hears(time.Second, attach.KindCallNumber, &m) || m.Request != request || m.Number != "" && m.Seconds != 300 {
		l.w.t.Fatalf("%+v", m)
	}
	return m.Number
}

// finds has a new client ask whose number it is, from an address if there is one.
func (w *world) finds(number string, from *simLink) identity.ID {
	w.t.Helper()
	l := w.link(newKey(w.t), func(c *attach.LinkConfig) { c.Find = &attach.Find{Number: number} })
	if from != nil {
		l.at = from.at
		w.byPort[l.at.Port()] = l
	}
	var m attach.Found
	if !l.hears(5*time.Second, attach.KindFound, &m) {
		w.t.Fatal("no answer")
	}
	l.Close(w.now)
	w.run(100*time.Millisecond, nil)
	return m.Device
}

func TestCall(t *testing.T) {
	w := newWorld(t, Limits{})
	device := w.device()
	number := device.calls(7)
	if !attach.IsCallNumber(number) {
		t.Fatalf("number %q", number)
	}
	if id := w.finds(number, nil); id != device.key.ID() {
		t.Errorf("found %q", id)
	}
	if id := w.finds(number, nil); id != device.key.ID() {
		t.Errorf("found %q the second time", id)
	}
	// Another device cannot take it away; its own can.
	w.device().say(attach.KindCall, attach.Call{Over: number})
	w.run(time.Second, nil)
	if id := w.finds(number, nil); id == "" {
		t.Error("another device has ended the call")
	}
	device.say(attach.KindCall, attach.Call{Over: number})
	w.run(time.Second, nil)
	if id := w.finds(number, nil); id != "" {
		t.Error("a number that is over was found")
	}
}

// Numbers that nobody has, that are over, and of who asks too often have one answer, at
// one time.
func TestCallNoes(t *testing.T) {
	w := newWorld(t, Limits{})
	device := w.device()
	number := device.calls(7)
	wrong := fmt.Sprintf("%06d", (attachNumber(t, number)+1)%1_000_000)
	after := func(name string, ask func()) {
		t.Helper()
		l := w.link(newKey(t), func(c *attach.LinkConfig) { c.Find = &attach.Find{Number: wrong} })
		if !w.run(time.Second, func() bool { return l.State() == attach.StateAttached }) {
			t.Fatal("no link")
		}
		ask()
		var at time.Duration
		if !w.run(3*time.Second, func() bool {
			for _, m := range l.messages {
				if m.kind == attach.KindFound {
					at = m.at
					var f attach.Found
					if attach.Decode(m.body, &f) != nil || f.Device != "" || len(m.body) != 1 {
						t.Errorf("%s: %x", name, m.body)
					}
				}
			}
			return at != 0
		}) {
			t.Fatalf("%s: no answer", name)
		}
		// One way to the node, a second there, and the way back.
		if spent := at - w.linkedAt(l); spent < noAfter-2*simDelay || spent > noAfter+2*simDelay {
			t.Errorf("%s: after %v, want %v", name, spent, noAfter)
		}
	}
	after("nobody's", func() {})
	w.hub.book = brokenBook{w.book}
	after("store fails", func() {})
	w.hub.book = w.book
	w.full = true
	after("nothing may be started", func() {})
	w.full = false
}

// linkedAt is when the first packet came back in which the node acknowledged the question.
func (w *world) linkedAt(l *simLink) time.Duration {
	return l.packets[2].at - 2*simDelay // LOCATED, WELCOME, ACK
}

func attachNumber(t *testing.T, s string) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(s, "%06d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

type brokenBook struct{ callBook }

func (brokenBook) FindCall(context.Context, string) (identity.ID, error) {
	return "", errors.New("the store does not answer")
}

func (brokenBook) GiveCall(context.Context, identity.ID) (string, error) {
	return "", errors.New("the store does not answer")
}

// One source has five guesses at once and one more each minute; right ones are free.
func TestCallGuesses(t *testing.T) {
	w := newWorld(t, Limits{})
	device := w.device()
	number := device.calls(1)
	wrong := fmt.Sprintf("%06d", (attachNumber(t, number)+1)%1_000_000)
	source := w.link(newKey(t), nil)
	w.attach(source)
	source.Close(w.now)
	for range 20 {
		if id := w.finds(number, source); id == "" {
			t.Fatal("a right number counts")
		}
	}
	looked := func() int {
		counting := &countingBook{callBook: w.book}
		w.hub.book = counting
		for range 20 {
			w.finds(wrong, source)
		}
		return counting.finds
	}
	began := w.now
	if n := looked(); n < missesAtOnce || n > missesAtOnce+int((w.now-began)/missEvery)+1 {
		t.Errorf("%d guesses at once, want %d", n, missesAtOnce)
	}
	w.hub.book = w.book
	if id := w.finds(number, source); id != "" {
		t.Error("who has guessed too often is told")
	}
	if id := w.finds(number, nil); id == "" {
		t.Error("another source is not")
	}
}

type countingBook struct {
	callBook
	finds int
}

func (b *countingBook) FindCall(ctx context.Context, number string) (identity.ID, error) {
	b.finds++
	return b.callBook.FindCall(ctx, number)
}

// A device gets six numbers, and then one each ten minutes; all together sixty a minute.
func TestCallsArePaced(t *testing.T) {
	w := newWorld(t, Limits{})
	device := w.device()
	for i := range uint64(callsAtOnce) {
		if device.calls(i+1) == "" {
			t.Fatalf("number %d was refused", i+1)
		}
	}
	if device.calls(50) != "" {
		t.Error("one more than there should be")
	}
	w.run(callEvery, nil)
	if device.calls(51) == "" {
		t.Error("none after ten minutes")
	}
	p := newCalls().all
	for n := 0; p.Allow(0); n++ {
		if n > callsPerMinute {
			t.Fatal("no end")
		}
	}
	if p.Allow(time.Minute/callsPerMinute/2) || !p.Allow(2*time.Minute/callsPerMinute) {
		t.Error("not one each second")
	}
}

// The numbers of a node are taken back when their time is over.
func TestCallsAreSwept(t *testing.T) {
	w := newWorld(t, Limits{})
	device := w.device()
	number := device.calls(1)
	w.run(4*time.Minute, nil)
	if len(w.hub.calls.live) != 1 {
		t.Fatal("swept too early")
	}
	w.run(2*time.Minute, nil)
	if len(w.hub.calls.live) != 0 {
		t.Error("not swept")
	}
	if id := w.finds(number, nil); id != "" {
		t.Error("found after its time")
	}
}

func TestCallFigures(t *testing.T) {
	if callsAtOnce != 6 || callEvery != 10*time.Minute || callsPerMinute != 60 || missesAtOnce != 5 || missEvery != time.Minute || missesPerMinute != 600 {
		t.Error("the figures of docs/attach.md are others")
	}
}

// Any node of a fleet resolves a number, whichever has given it out.
func TestCallsInAFleet(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	device := join(t, c.nodes[0].Server, newKey(t), nil).attached()
	device.send(attach.KindCall, attach.Call{Request: 3})
	var m attach.CallNumber
	device.hear(attach.KindCallNumber, &m)
	if m.Number == "" {
		t.Fatal("no number")
	}
	for i, node := range c.nodes {
		scout := join(t, node.Server, c.keyOf(node), nil).attached()
		scout.mu.Lock()
		known := scout.link.Known()
		scout.mu.Unlock()
		asks := join(t, node.Server, newKey(t), func(l *attach.LinkConfig) {
			l.Find, l.Known = &attach.Find{Number: m.Number}, known
		})
		var f attach.Found
		asks.hear(attach.KindFound, &f)
		if f.Device != device.key.ID() {
			t.Errorf("node %d found %q", i, f.Device)
		}
	}
}
