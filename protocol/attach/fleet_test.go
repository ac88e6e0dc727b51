package attach

import (
	"bytes"
	"net/netip"
	"testing"
	"time"
)

// A controller sends a device to another node, which takes the cookie that the
// controller made, because the two share the cookie secrets.
//
//	link -- LOCATE --> controller 192.0.2.1
//	     -- HELLO ---> node       192.0.2.2
func TestControllerNamesAnotherNode(t *testing.T) {
	root := rootKey(t, 1)
	cookies := new(Cookies)
	cookies.Rotate(1, Secret{1})
	other := netip.MustParseAddrPort("192.0.2.2:7443")
	certificate := func(private Secret, at netip.AddrPort) []byte {
		c, err := SignCertificate(root, Certificate{Generation: 1, Key: mustPublic(t, private), Addresses: []netip.AddrPort{at}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	own, others := certificate(Secret{2}, nodeAddress), certificate(Secret{3}, other)

	k := newKey(t)
	home := netip.MustParseAddrPort("198.51.100.1:40000")
	var l *Link
	var back [][]byte
	nodes := map[netip.AddrPort]*Node{}
	start := func(at netip.AddrPort, private Secret, certificate []byte, locate func(uint16) []byte) {
		var n *Node
		n, err := NewNode(NodeConfig{
			PrivateKey: private, Certificate: certificate, ResetKey: Secret{4}, Cookies: cookies, Locate: locate,
			Send: func(_ netip.AddrPort, p []byte) { back = append(back, bytes.Clone(p)) },
			Ask: func(now time.Duration, r *Request) {
				if err := n.Answer(now, r.Index, CodeAccepted); err != nil {
					t.Error(err)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		nodes[at] = n
	}
	start(nodeAddress, Secret{2}, own, func(prefix uint16) []byte {
		if prefix != Prefix(k.ID()) {
			t.Errorf("prefix %#x, want %#x", prefix, Prefix(k.ID()))
		}
		return others
	})
	start(other, Secret{3}, others, nil)

	asked := map[netip.AddrPort]string{}
	l, err := NewLink(LinkConfig{
		Key: k, Roots: []Root{rootOf(root)}, Basestations: []netip.AddrPort{nodeAddress},
		Send: func(to netip.AddrPort, p []byte) {
			asked[to] += map[byte]string{kindLocate: "L", kindHello: "H", kindToNode: "s"}[p[0]]
			nodes[to].Receive(0, home, p)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for l.Tick(0); len(back) > 0; {
		p := back[0]
		back = back[1:]
		l.Receive(0, p)
	}
	if l.State() != StateAttached || nodes[other].Devices() != 1 || nodes[nodeAddress].Devices() != 0 {
		t.Errorf("%v; %d devices at the controller, %d at the node", l.State(), nodes[nodeAddress].Devices(), nodes[other].Devices())
	}
	if asked[nodeAddress] != "L" || asked[other][0] != 'H' {
		t.Errorf("sent %v", asked)
	}
}

// A decision may come later than the question, and not twice.
func TestLateAnswer(t *testing.T) {
	w := newWorld(t, 50)
	w.node.c.Ask = func(_ time.Duration, r *Request) { w.asked = append(w.asked, r) }
	s := w.link(newKey(t), nil)
	w.run(5*time.Second, nil)
	if s.State() != StateAttaching || len(w.asked) != 1 {
		t.Fatalf("%v, %d requests", s.State(), len(w.asked))
	}
	if err := w.node.Send(w.now, w.asked[0].Index, firstOwned, nil); err == nil {
		t.Error("a control message to a device that is not attached")
	}
	if err := w.node.Answer(w.now, w.asked[0].Index, CodeAccepted); err != nil {
		t.Fatal(err)
	}
	w.run(time.Second, nil)
	if err := w.node.Answer(w.now, w.asked[0].Index, CodeRefused); err == nil || !s.attached() {
		t.Errorf("second answer: %v; %v", err, s.State())
	}
}

// Never answered, a device is forgotten, and tries again.
func TestNoAnswer(t *testing.T) {
	w := newWorld(t, 51)
	w.node.c.Ask = func(_ time.Duration, r *Request) { w.asked = append(w.asked, r) }
	w.link(newKey(t), nil)
	w.run(2*time.Minute, nil)
	if len(w.asked) < 2 || len(w.asked) > 10 || w.node.slab.used > 2 {
		t.Errorf("%d requests in two minutes, %d entries", len(w.asked), w.node.slab.used)
	}
}
