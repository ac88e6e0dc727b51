package basestation

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/keyholed/keyhole/basestation/memstore"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// One of each message between nodes.
func nodeMessages(t testing.TB) map[string]*nodeMessage {
	ticket := attach.NewTicket()
	body, err := attach.Encode(attach.Introduced{Ticket: ticket})
	if err != nil {
		t.Fatal(err)
	}
	offer := attach.Offer{Signature: []byte{1}, Candidates: [][]byte{{192, 0, 2, 1, 0, 9}}}
	return map[string]*nodeMessage{
		"order": {Order: &order{
			From: end{Number: 7}, Device: newKey(t).ID(), Client: newKey(t).Fingerprint(), Hash: [32]byte{1, 2},
			Introduce: attach.Introduce{PublicKey: []byte{1}, Signature: []byte{2}, Pass: []byte{3}},
			Observed:  netip.MustParseAddrPort("192.0.2.1:9"), Source: netip.MustParseAddr("192.0.2.1"),
		}},
		"introduced": {Introduced: &accepted{1, 2, body}},
		"to device":  {ToDevice: &passed{1, offer}},
		"to client":  {ToClient: &passed{1, offer}},
		"ticket":     {Ticket: &wanted{1, 2}},
		"granted":    {Granted: &grantedTo{1, ticket[:]}},
		"attached":   {Attached: []identity.Fingerprint{newKey(t).Fingerprint()}},
	}
}

// What one node says the other hears, whole.
func TestNodeMessages(t *testing.T) {
	for name, m := range nodeMessages(t) {
		b, err := encodeNodeMessage(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeNodeMessage(b)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: %s came as %+v, %v", name, b, got, err)
		}
	}
}

// Nothing that another node says makes this one fall.
func FuzzNodeMessage(f *testing.F) {
	for _, m := range nodeMessages(f) {
		b, err := encodeNodeMessage(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	w := newWorld(f, Limits{})
	w.device()
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeNodeMessage(b)
		if err != nil {
			return
		}
		w.hub.receiveNode(w.now, "node2", m)
		w.results()
		if again, err := encodeNodeMessage(m); err != nil || !json.Valid(again) {
			t.Errorf("%s: %v", b, err)
		}
	})
}

// Whoever asks a loop that is behind waits for as long as he has said.
func TestAskingABusyLoop(t *testing.T) {
	m := memstore.New()
	defer m.Close()
	s, err := New(Config{Listen: []string{"127.0.0.1:0"}, Data: t.TempDir(), Store: m})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range maxCalls {
		s.calls <- func(time.Duration) {} // nobody takes them
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Devices(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the end of its time", err)
	}
}
