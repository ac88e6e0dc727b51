package basestation

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/keyholed/keyhole/basestation/push"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// closed is a gate that lets nobody through.
type closed struct{}

func (closed) Refuses(identity.Fingerprint, identity.ID, netip.Addr) string { return "key" }
func (closed) Country(netip.Addr) string                                    { return "" }

// doorman keeps out one key, and knows where everybody is.
type doorman struct {
	out     identity.Fingerprint
	refused int
	source  netip.Addr
	device  identity.ID
}

func (d *doorman) Refuses(client identity.Fingerprint, device identity.ID, source netip.Addr) string {
	d.source, d.device = source, device
	if client == d.out {
		d.refused++
		return "key"
	}
	return ""
}

func (d *doorman) Country(netip.Addr) string { return "XX" }

// Whom the operator keeps out nobody is asked about; of others the vendor hears where
// they are.
func TestGate(t *testing.T) {
	w := newWorld(t, Limits{})
	out := newKey(t)
	gate := &doorman{out: out.Fingerprint()}
	w.hub.gate = gate
	var questions []push.Question
	w.hub.authorize = func(_ context.Context, q push.Question) (push.Verdict, error) {
		questions = append(questions, q)
		return push.Verdict{Allow: true}, nil
	}
	device := w.device()
	asked := 0
	device.onAsked = func(i attach.Introduction) *attach.Answer { asked++; return device.yes(i) }
	var no attach.NotIntroduced
	if c := w.asks(out, device.key.ID(), nil); !c.hears(3*time.Second, attach.KindNotIntroduced, &no) {
		t.Error("who is kept out hears no no")
	}
	if gate.refused != 1 || asked != 0 || len(questions) != 0 {
		t.Errorf("kept out %d times, the device was asked %d times, the vendor %d times", gate.refused, asked, len(questions))
	}
	c := w.asks(newKey(t), device.key.ID(), nil)
	var yes attach.Introduced
	if !c.hears(time.Second, attach.KindIntroduced, &yes) {
		t.Fatal("not introduced")
	}
	if len(questions) != 1 || questions[0].Country != "XX" || gate.source != c.at.Addr() || gate.device != device.key.ID() {
		t.Errorf("questions %+v; the gate saw %v and %s", questions, gate.source, gate.device)
	}
}
