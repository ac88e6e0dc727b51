package attach

import (
	"testing"
	"time"
)

// What Sleep leaves of a link is to its node what the link was.
func TestSleeperStaysAttached(t *testing.T) {
	w := newWorld(t, 77)
	k := newKey(t)
	l := w.link(k, nil)
	w.mustAttach(l)
	w.run(time.Second, nil) // its own first PING arrives
	address := l.outside()
	s, ok := l.Sleep()
	if !ok {
		t.Fatal("an attached link cannot sleep")
	}
	if _, ok := l.Sleep(); ok {
		t.Error("it sleeps twice")
	}
	// Packets to the device are taken from the network, where the link ignores them.
	heard := func() (answered, told bool) {
		w.run(30*time.Second, nil)
		for _, f := range w.captured {
			if index, ok := PacketIndex(f.packet); !ok || index != s.Index() || f.to != address {
				continue
			}
			answer, pong := s.Receive(nil, f.packet)
			answered = answered || pong
			if answer != nil {
				told = true
				w.node.Receive(w.now, address, answer)
			}
		}
		w.captured = nil
		return answered, told
	}
	w.captured = nil
	for range 20 {
		ping, err := s.Ping(nil, 25*time.Second, 35*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		w.node.Receive(w.now, address, ping)
		if answered, _ := heard(); !answered {
			t.Fatalf("no answer after %v", w.now)
		}
	}
	peer, ok := w.node.Device(k.Fingerprint())
	if !ok {
		t.Fatal("the node has forgotten it")
	}
	if err := w.node.Send(w.now, peer.Index, KindRelay, nil); err != nil {
		t.Fatal(err)
	}
	heard()
	if len(w.node.senders) != 0 {
		t.Error("the node's message is not acknowledged")
	}
	if _, ok := PacketIndex([]byte{kindFromNode}); ok {
		t.Error("a packet without a head has an index")
	}
	if answer, answered := s.Receive(nil, make([]byte, 60)); answer != nil || answered {
		t.Error("it takes what is not for it")
	}
}
