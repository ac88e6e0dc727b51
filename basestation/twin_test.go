package basestation

import (
	"testing"
	"time"

	"github.com/keyholed/keyhole/basestation/push"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A device that attached to another node while it is here is asked for at both, until
// it is known to be one device or two.
func TestDeviceAtTwoNodes(t *testing.T) {
	w := newWorld(t, Limits{})
	sent := map[string]int{}
	w.hub.others = func() int { return 1 }
	w.hub.send = func(node string, m *nodeMessage) {
		if m.Order != nil {
			sent[node]++
		}
	}
	alarms := func() (n int) {
		for _, e := range w.told {
			if e.Kind == push.KindDuplicate {
				n++
			}
		}
		return n
	}
	d := w.device()
	f := d.key.Fingerprint()
	w.hub.newsOf(w.now, "node2", []identity.Fingerprint{f, newKey(t).Fingerprint()})
	w.asks(newKey(t), d.key.ID(), nil)
	w.run(time.Second, nil)
	if sent["node2"] != 1 || len(w.hub.elsewhere) != 1 {
		t.Errorf("sent on: %v; remembered: %d", sent, len(w.hub.elsewhere))
	}
	// It still answers here when a link that was left behind would be silent: two devices.
	w.run(ghostTime+time.Minute, nil)
	if alarms() != 1 || len(w.hub.elsewhere) != 0 {
		t.Errorf("%d alarms, %d remembered", alarms(), len(w.hub.elsewhere))
	}
	// It leaves: it was one.
	w.hub.newsOf(w.now, "node2", []identity.Fingerprint{f})
	d.cut = true
	w.run(ghostTime+time.Minute, nil)
	if alarms() != 1 || len(w.hub.elsewhere) != 0 {
		t.Errorf("after it left: %d alarms, %d remembered", alarms(), len(w.hub.elsewhere))
	}
	if _, here := w.hub.node.Device(f); here {
		t.Error("it is still here")
	}
}

// Devices that belong to another node are asked to move, the others are not.
func TestRearrange(t *testing.T) {
	w := newWorld(t, Limits{})
	var devices []*simLink
	for range 20 {
		devices = append(devices, w.device())
	}
	w.hub.mine = func(prefix uint16) bool { return prefix%2 == 0 }
	w.hub.rearrange(10 * time.Second)
	before := w.hub.metrics.relocated.Get()
	w.run(5*time.Second, nil)
	moving := 0
	for _, d := range devices {
		if attach.Prefix(d.key.ID())%2 != 0 {
			moving++
		}
	}
	if got := int(w.hub.metrics.relocated.Get() - before); got != moving || w.hub.sweep.under {
		t.Errorf("%d devices were asked to move, want %d", got, moving)
	}
}

// What is news is told to the other nodes in messages of a bounded size.
func TestNews(t *testing.T) {
	w := newWorld(t, Limits{})
	w.hub.others = func() int { return 2 }
	var sizes []int
	w.hub.tellAll = func(m *nodeMessage) { sizes = append(sizes, len(m.Attached)) }
	w.device()
	if len(sizes) != 1 || sizes[0] != 1 {
		t.Fatalf("messages of %v", sizes)
	}
	w.hub.news = make([]identity.Fingerprint, 600)
	w.run(time.Second, nil)
	if len(sizes) != 4 || sizes[1] != maxNews || sizes[3] != 600-2*maxNews || len(w.hub.news) != 0 {
		t.Errorf("messages of %v", sizes)
	}
}
