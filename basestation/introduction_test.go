package basestation

import (
	"testing"

	"github.com/keyholed/keyhole/protocol/attach"
)

// A client asks, the device says yes, and each gets the other's further addresses.
func TestIntroduction(t *testing.T) {
	s := begin(t, nil)
	device := join(t, s.Server, newKey(t), nil).attached().agrees()
	k := newKey(t)
	client := ask(t, s.Server, k, device.key.ID(), nil)
	var got attach.Introduced
	client.hear(attach.KindIntroduced, &got)
	client.mu.Lock()
	hash, ok := client.link.Hash()
	client.mu.Unlock()
	if !ok {
		t.Fatal("the client knows no hash")
	}
	f, err := got.Offer.CheckDevice(hash, device.key.ID(), k.Fingerprint())
	if err != nil || f != device.key.Fingerprint() {
		t.Errorf("the offer: %v, %v", f.Short(), err)
	}
	if want := device.udp.LocalAddr().String(); got.Observed.String() != want || got.Ticket.IsZero() || len(got.Certificate) != 0 {
		t.Errorf("observed %v, want %v; ticket %v; certificate of %d bytes", got.Observed, want, got.Ticket.IsZero(), len(got.Certificate))
	}
}
