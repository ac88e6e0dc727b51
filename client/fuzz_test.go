package client

import (
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/attach"
)

// Whatever a device says of its basestation, what is taken can be written to the book
// and read again.
func FuzzToldBasestation(f *testing.F) {
	f.Add([]byte(`{"addresses":["base.example.net:7443","[2001:db8::1]:443"],"keys":["`+rootKey(1)+`"],"presence":"AQAA"}`), false)
	f.Add([]byte(`{"addresses":["127.0.0.1:7443"],"keys":["`+rootKey(1)+`","`+rootKey(2)+`"]}`), true)
	f.Add([]byte(`{"addresses":null,"keys":[""]}`), false)
	f.Fuzz(func(t *testing.T, data []byte, near bool) {
		var told api.Basestation
		if json.Unmarshal(data, &told) != nil {
			return
		}
		b, err := toldBasestation(&told, Basestation{}, near)
		if err != nil {
			return
		}
		d := device(1, "Front door")
		d.Basestation = b
		text, err := (&book{Devices: []Device{d}}).format()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseBook(text)
		if err != nil || !again.Devices[0].Basestation.equal(b) {
			t.Errorf("%s becomes %s: %v", data, text, err)
		}
		if len(b.roots()) != len(b.Keys) {
			t.Errorf("%d keys of %v", len(b.roots()), b.Keys)
		}
	})
}

// A node may say anything in any order.
func FuzzNodeMessages(f *testing.F) {
	for k, body := range map[attach.Kind]any{
		attach.KindIntroduced:    attach.Introduced{Ticket: attach.NewTicket()},
		attach.KindNotIntroduced: attach.NotIntroduced{Verdict: attach.VerdictOffline, Since: 1 << 63},
		attach.KindCandidates:    attach.Candidates{},
		attach.KindTicketGranted: attach.TicketGranted{Ticket: attach.NewTicket()},
	} {
		data, err := attach.Encode(body)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint16(k), data)
	}
	f.Fuzz(func(t *testing.T, kind uint16, body []byte) {
		m := &meeting{answers: make(chan answer, 1), candidates: make(chan attach.Offer, mostCandidates), granted: make(chan attach.Ticket, mostTickets), log: slog.New(slog.DiscardHandler)}
		for range mostCandidates + 2 {
			m.message(attach.Kind(kind), body)
		}
		select {
		case a := <-m.answers:
			if a.no != nil && a.no.Error() == "" {
				t.Error("a no without words")
			}
		default:
		}
	})
}
