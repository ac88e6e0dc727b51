package basestation

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// fleetSize is how many devices a test simulates; 10,000 with KEYHOLE_FULL=1.
func fleetSize() int {
	if os.Getenv("KEYHOLE_FULL") != "" {
		return 10_000
	}
	return 400
}

// restart ends the node like kill -9 does: it forgets all but its keys and the peers
// file.
func (w *world) restart() {
	w.t.Helper()
	var known []knownPeer
	for _, p := range w.peers {
		known = append(known, p)
	}
	w.peers, w.attaches = map[uint32]knownPeer{}, nil
	w.start()
	done := false
	w.hub.recall = recall{known: known, done: func() { done = true }, at: w.now}
	w.t.Cleanup(func() {
		if !done {
			w.t.Error("the devices of the run before were not all told")
		}
	})
}

// A fleet comes back after its node was killed: all within 30 s, and no second has
// more than a twentieth of 10,000.
func TestFleetComesBack(t *testing.T) {
	n := fleetSize()
	w := newWorld(t, Limits{Handshakes: 1 << 20, PendingPerSource: 1 << 16})
	w.loss = 0.02
	shared := make([]*identity.Key, n)
	for i := range shared {
		shared[i] = newKey(t)
	}
	for i := range n {
		w.link(shared[i], nil)
		if i%50 == 49 {
			w.run(100*time.Millisecond, nil)
		}
	}
	if !w.run(2*time.Minute, func() bool { return w.hub.node.Devices() == n }) {
		t.Fatalf("%d of %d attached", w.hub.node.Devices(), n)
	}
	w.run(time.Minute, nil) // some keep-alives

	began := w.now
	w.restart()
	if !w.run(2*time.Minute, func() bool { return w.hub.node.Devices() == n }) {
		t.Fatalf("%d of %d came back", w.hub.node.Devices(), n)
	}
	took := w.now - began
	worst := 0
	seconds := make([]int, int(took/time.Second)+1)
	for _, at := range w.attaches {
		s := int((at - began) / time.Second)
		seconds[s]++
		worst = max(worst, seconds[s])
	}
	report := fmt.Sprintf("%d devices are back after %v; the fullest second has %.1f %%: %v", n, took.Round(time.Millisecond), 100*float64(worst)/float64(n), seconds)
	t.Log(report)
	if took > 30*time.Second {
		t.Errorf("want 30 s: %s", report)
	}
	if n >= 10_000 && worst > n/20 {
		t.Errorf("want at most 5 %%: %s", report)
	}
	w.run(10*time.Second, nil)
}

// One device is back soon after its node is, whether it hears of it or not.
func TestOneDeviceComesBack(t *testing.T) {
	var took []time.Duration
	for i := range 100 {
		w := newWorld(t, Limits{})
		d := w.device()
		w.run(time.Duration(i)*371*time.Millisecond, nil)
		w.loss = 0.05
		began := w.now
		w.restart()
		if !w.run(2*time.Minute, func() bool { return w.hub.node.Devices() == 1 }) {
			t.Fatalf("not back: %v", d.State())
		}
		took = append(took, w.now-began)
		w.run(10*time.Second, nil)
	}
	slices.Sort(took)
	t.Logf("back after %v (median), %v (p95), %v (worst)", took[50], took[95], took[99])
	if took[95] > 5*time.Second {
		t.Errorf("p95 %v, want 5 s", took[95])
	}
}

// A device that was told by a node it is not attached to stays where it is.
func TestNoticeNeedsTheToken(t *testing.T) {
	w := newWorld(t, Limits{})
	d := w.device()
	for _, forged := range []func([]byte){
		func(p []byte) { p[10] ^= 1 }, // token
		func(p []byte) { p[8] ^= 1 },  // index
	} {
		p := w.hub.node.RestartNotice(w.peers[0].index, time.Second)
		forged(p)
		w.fly(simNode, d.at, p)
	}
	w.run(5*time.Second, nil)
	if d.State() != attach.StateAttached || len(w.attaches) != 1 {
		t.Errorf("%v after %d attaches", d.State(), len(w.attaches))
	}
}
