//go:build linux

package e2e

import (
	"fmt"
	"testing"

	"github.com/keyholed/keyhole/internal/testnats"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/reach"
)

// Three real nodes on a cluster of real nats-servers: a call number that one of them gave out
// is known to all, and to none once the device has taken it back.
func TestCallNumbersInAFleet(t *testing.T) {
	testnet.Root(t)
	w := &world{t: t, nats: testnats.Start(t, 3, nil)}
	w.nodes, w.roots = stations(t, 3, w.nats.URL())
	for _, n := range w.nodes {
		n.run()
	}
	for _, n := range w.nodes {
		n.serving()
	}
	w.attach(24) // some at each node, so that a question can be sent to each
	given := make(chan attach.CallNumber, 8)
	device := join(t, "127.1.9.9", reach.LinkConfig{Roots: w.roots, Addresses: w.addresses(), Message: func(k attach.Kind, body []byte) {
		var m attach.CallNumber
		if k == attach.KindCallNumber && attach.Decode(body, &m) == nil {
			given <- m
		}
	}})
	t.Cleanup(device.stop)
	testnet.Until(t, "the device is attached", func() bool { return device.at().IsValid() })
	if err := device.Send(attach.KindCall, attach.Call{Request: 1}); err != nil {
		t.Fatal(err)
	}
	m := <-given
	if m.Request != 1 || !attach.IsCallNumber(m.Number) {
		t.Fatalf("%+v", m)
	}
	for _, n := range w.nodes {
		if got := w.find(n, m.Number); got.Device != device.key.ID() {
			t.Errorf("at %s the number leads to %q", n.address, got.Device)
		}
	}
	if err := device.Send(attach.KindCall, attach.Call{Over: m.Number}); err != nil {
		t.Fatal(err)
	}
	testnet.Eventually(t, "the number is over", func() error {
		if got := w.find(w.nodes[0], m.Number); got.Device != "" {
			return fmt.Errorf("it leads to %q", got.Device)
		}
		return nil
	})
	for _, n := range w.nodes {
		if got := w.find(n, m.Number); got.Device != "" {
			t.Errorf("at %s it leads to %q", n.address, got.Device)
		}
	}
}

// find asks one node whose number it is, from an address of its own.
func (w *world) find(via *station, number string) attach.Found {
	w.t.Helper()
	w.clients++
	var known attach.Known
	for _, d := range w.devices {
		if d.at().String() == via.address {
			known.Certificate = d.Known().Certificate
		}
	}
	answers := make(chan attach.Found, 8)
	client := join(w.t, fmt.Sprintf("127.3.0.%d", 1+w.clients%250), reach.LinkConfig{
		Roots: w.roots, Addresses: []string{via.address}, Known: known, Find: &attach.Find{Number: number},
		Message: func(k attach.Kind, body []byte) {
			var f attach.Found
			if k == attach.KindFound && attach.Decode(body, &f) == nil {
				answers <- f
			}
		},
	})
	defer client.stop()
	return <-answers
}
