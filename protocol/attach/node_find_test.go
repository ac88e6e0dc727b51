package attach

import (
	"testing"

	"github.com/keyholed/keyhole/protocol/identity"
)

func TestFindDevices(t *testing.T) {
	w := newWorld(t, 60)
	k := newKey(t)
	w.mustAttach(w.link(k, nil))
	id := k.ID()
	if p, ok := w.node.DeviceByID(id); !ok || p.Fingerprint != k.Fingerprint() || p.Slot() != uint32(p.Index>>40) {
		t.Errorf("by its id: %v, %+v", ok, p)
	}
	if p, ok := w.node.Device(k.Fingerprint()); !ok || p.Fingerprint != k.Fingerprint() {
		t.Errorf("by its fingerprint: %v, %+v", ok, p)
	}
	last := byte('a')
	if id[25] == last {
		last = 'i'
	}
	near := k.Fingerprint()
	near[31] ^= 1
	if _, ok := w.node.Device(near); ok {
		t.Error("found by a fingerprint of another key")
	}
	for _, other := range []identity.ID{id[:25] + identity.ID(last), id[:25], id + "a", "", newKey(t).ID(), "ABCDEFGHIJKLMNOPQRSTUVWXYZ"} {
		if p, ok := w.node.DeviceByID(other); ok {
			t.Errorf("found by %q: %v", other, p.Fingerprint.ID())
		}
	}
}
