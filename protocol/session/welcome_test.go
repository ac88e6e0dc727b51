package session

import (
	"testing"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/identity"
)

// When the places of unpaired keys are taken, by as many sources as one likes, one
// who is welcome finds a place all the same; others do not, and neither does he take
// that of another who is welcome.
func TestWhoIsWelcomeFindsAPlace(t *testing.T) {
	welcome := map[identity.Fingerprint]bool{}
	d := startDeviceOf(t, Config{Key: newKey(t), Limits: Limits{Unpaired: 2}, Welcome: func(f identity.Fingerprint) bool { return welcome[f] }})
	var keys []*identity.Key
	for i := range 4 {
		k := newKey(t)
		keys = append(keys, k)
		welcome[k.Fingerprint()] = i > 0 // the first is not
	}
	for i, k := range keys[:2] {
		d.dial(t, k, PathTCP, -1)
		testnet.Until(t, "it is in", func() bool { return len(d.Sessions()) == i+1 })
	}
	in := func(k *identity.Key) bool {
		for _, s := range d.Sessions() {
			if s.Peer == k.Fingerprint() {
				return true
			}
		}
		return false
	}
	d.dial(t, keys[2], PathTCP, -1)
	testnet.Until(t, "the welcome one is in, in place of the other", func() bool { return in(keys[2]) && !in(keys[0]) })
	if !in(keys[1]) {
		t.Error("another who is welcome is out")
	}
	c := d.dial(t, keys[3], PathTCP, -1)
	<-c.Done()
	if !in(keys[1]) || !in(keys[2]) || in(keys[3]) {
		t.Error("somebody welcome was pushed out")
	}
}
