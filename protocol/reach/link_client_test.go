package reach

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/protocol/attach"
)

// A client asks and hears the answer; what it kept of the node spares the next one
// the question which node it is.
func TestClientAsks(t *testing.T) {
	defer goleak.VerifyNone(t)
	keys := newNodeKeys(t)
	device := newKey(t)
	located := 0
	var b *baseNode
	b = startNode(t, keys, "127.0.0.1:0", func(c *attach.NodeConfig) {
		certificate := c.Certificate
		c.Locate = func(uint16) []byte { located++; return certificate }
		c.Introduce = func(now time.Duration, from attach.Peer, i *attach.Introduce) {
			body, err := attach.Encode(attach.NotIntroduced{Verdict: attach.VerdictNo})
			if err == nil {
				err = b.node.Send(now, from.Index, attach.KindNotIntroduced, body)
			}
			if err != nil || i.Device != device.ID() {
				t.Error(err, i.Device)
			}
		}
	})
	var known attach.Known
	roots := keys.roots()
	for i, name := range []string{"first", "remembered"} {
		answers := make(chan attach.NotIntroduced, 1)
		h := startLink(t, LinkConfig{
			Roots: roots, Addresses: []string{b.at.String()}, Known: known, Introduce: &attach.Introduce{Device: device.ID()},
			Message: func(k attach.Kind, body []byte) {
				var no attach.NotIntroduced
				if err := attach.Decode(body, &no); k != attach.KindNotIntroduced || err != nil {
					t.Errorf("%v: %v", k, err)
				}
				answers <- no
			},
		})
		select {
		case no := <-answers:
			if no.Verdict != attach.VerdictNo {
				t.Errorf("%s: %+v", name, no)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: no answer: %+v", name, h.Status())
		}
		if c, ok := h.Node(); !ok || c.Addresses[0] != b.at {
			t.Errorf("%s: node %+v", name, c)
		}
		known, roots = h.Known(), h.Roots()
		h.stop()
		b.mu.Lock()
		if located != 1 || len(known.Cookie) == 0 {
			t.Errorf("%s (%d): asked %d times which node it is", name, i, located)
		}
		b.mu.Unlock()
	}
	b.stopNow()
}

// Networks that block UDP are remembered, and the oldest makes room.
func TestRememberedNetworks(t *testing.T) {
	w := newWays("0")
	for i := range 2 * rememberedNetworks {
		w.moved(time.Duration(i)*time.Minute, fmt.Sprint(i))
		w.answered(time.Duration(i)*time.Minute, overTCP, true)
	}
	if len(w.blocked) != rememberedNetworks {
		t.Errorf("%d networks remembered, want %d", len(w.blocked), rememberedNetworks)
	}
	last := 2*rememberedNetworks - 1
	w.moved(time.Hour, "elsewhere")
	for i, want := range map[int]bool{0: false, last - rememberedNetworks: false, last - rememberedNetworks + 1: true, last: true} {
		if w.moved(time.Hour, fmt.Sprint(i)); w.knownBlocked() != want || (w.way == overTCP) != want {
			t.Errorf("network %d: known to block UDP is %v, want %v", i, w.knownBlocked(), want)
		}
	}
	w.answered(time.Hour, overUDP, false)
	if w.knownBlocked() {
		t.Error("still remembered after an answer over UDP")
	}
}
