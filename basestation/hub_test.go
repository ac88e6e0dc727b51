package basestation

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/keyholed/keyhole/basestation/push"
	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/basestation/relay"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

type netipPrefix = netip.Prefix

func failingFind(context.Context, identity.ID) ([]string, registry.Presence, error) {
	return nil, registry.Presence{}, errors.New("the store does not answer")
}

// meeting is a client that was introduced to a device.
func meeting(t *testing.T) (w *world, device, client *simLink, request uint64) {
	t.Helper()
	w = newWorld(t, Limits{})
	device = w.device()
	device.onAsked = func(i attach.Introduction) *attach.Answer { request = i.Request; return device.yes(i) }
	client = w.asks(newKey(t), device.key.ID(), nil)
	var m attach.Introduced
	if !client.hears(time.Second, attach.KindIntroduced, &m) {
		t.Fatal("not introduced")
	}
	if m.Ticket.IsZero() || m.Observed.AddrPort != device.at {
		t.Errorf("%+v", m)
	}
	return w, device, client, request
}

func TestCandidatesGoBothWays(t *testing.T) {
	w, device, client, request := meeting(t)
	hash, _ := client.Hash()
	client.say(attach.KindCandidates, attach.Candidates{Offer: client.offer(hash, device.key.ID(), device.key.Fingerprint())})
	var got attach.Candidates
	if !device.hears(time.Second, attach.KindCandidates, &got) || got.Request != request {
		t.Fatalf("at the device: %+v", got)
	}
	device.say(attach.KindCandidates, attach.Candidates{Request: request, Offer: device.offer(hash, device.key.ID(), client.key.Fingerprint())})
	got = attach.Candidates{}
	if !client.hears(time.Second, attach.KindCandidates, &got) || got.Request != 0 {
		t.Fatalf("at the client: %+v", got)
	}
	if _, err := got.Offer.CheckDevice(hash, device.key.ID(), client.key.Fingerprint()); err != nil {
		t.Error(err)
	}
	// No more than a few.
	for range 20 {
		client.say(attach.KindCandidates, attach.Candidates{})
		device.say(attach.KindCandidates, attach.Candidates{Request: request})
		w.run(time.Second, nil)
	}
	if len(device.messages) != maxCandidates-1 || len(client.messages) != maxCandidates-1 {
		t.Errorf("passed on: %d and %d, want %d", len(device.messages), len(client.messages), maxCandidates-1)
	}
}

// What a client offers before the device said yes waits for that yes.
func TestEarlyCandidatesWait(t *testing.T) {
	w := newWorld(t, Limits{})
	device := w.device()
	var asked attach.Introduction
	device.onAsked = func(i attach.Introduction) *attach.Answer { asked = i; return nil }
	client := w.asks(newKey(t), device.key.ID(), nil)
	w.run(200*time.Millisecond, nil)
	client.say(attach.KindCandidates, attach.Candidates{})
	w.run(200*time.Millisecond, nil)
	if len(device.messages) != 0 {
		t.Fatal("candidates before the yes")
	}
	device.say(attach.KindAnswer, *device.yes(asked))
	var got attach.Candidates
	if !device.hears(time.Second, attach.KindCandidates, &got) {
		t.Error("they did not come after it")
	}
}

// The device is told of the client's leg, also when it attached anew meanwhile.
func TestRelay(t *testing.T) {
	for _, again := range []bool{false, true} {
		w := newWorld(t, Limits{})
		var first func()
		forDevice := attach.NewTicket()
		w.hub.pair = func(_ relay.Who, f func()) (attach.Ticket, attach.Ticket, error) {
			first = f
			return attach.NewTicket(), forDevice, nil
		}
		device := w.device()
		client := w.asks(newKey(t), device.key.ID(), nil)
		var m attach.Introduced
		if !client.hears(time.Second, attach.KindIntroduced, &m) {
			t.Fatal("not introduced")
		}
		if again {
			device.Close(w.now)
			w.run(time.Second, nil)
			device = w.link(device.key, nil)
			w.attach(device)
		}
		first()
		w.results()
		var r attach.Relay
		if !device.hears(time.Second, attach.KindRelay, &r) || r.Ticket != forDevice {
			t.Errorf("attached anew: %v: not told of the leg", again)
		}
	}
}

func TestTickets(t *testing.T) {
	w, _, client, _ := meeting(t)
	seen := map[attach.Ticket]bool{}
	for i := range maxTickets + 1 {
		client.say(attach.KindTicket, attach.TicketRequest{})
		var m attach.TicketGranted
		if !client.hears(time.Second, attach.KindTicketGranted, &m) || m.Ticket.IsZero() != (i == maxTickets) || !m.Ticket.IsZero() && seen[m.Ticket] {
			t.Errorf("ticket %d: %v", i, m)
		}
		seen[m.Ticket] = true
	}
	w.run(rememberedFor, nil)
	client.say(attach.KindTicket, attach.TicketRequest{})
	var m attach.TicketGranted
	if !client.hears(time.Second, attach.KindTicketGranted, &m) || !m.Ticket.IsZero() {
		t.Errorf("after a minute: %v", m)
	}
}

// A device can say yes only for itself, once, and only to a question it was asked.
func TestForgedAnswers(t *testing.T) {
	w := newWorld(t, Limits{})
	device, other := w.device(), w.device()
	var asked attach.Introduction
	device.onAsked = func(i attach.Introduction) *attach.Answer { asked = i; return nil }
	client := w.asks(newKey(t), device.key.ID(), nil)
	w.run(200*time.Millisecond, nil)
	other.say(attach.KindAnswer, attach.Answer{Request: asked.Request})
	other.say(attach.KindCandidates, attach.Candidates{Request: asked.Request})
	device.say(attach.KindAnswer, attach.Answer{Request: asked.Request + 1})
	device.say(attach.KindCandidates, attach.Candidates{Request: asked.Request}) // not said yes yet
	client.say(attach.KindAnswer, attach.Answer{Request: asked.Request})
	client.say(attach.KindTicket, attach.TicketRequest{})
	w.run(300*time.Millisecond, nil)
	var refusedTicket attach.TicketGranted
	if !client.hears(0, attach.KindTicketGranted, &refusedTicket) || !refusedTicket.Ticket.IsZero() {
		t.Errorf("a ticket before the yes: %v", refusedTicket)
	}
	if len(client.messages) != 0 {
		t.Fatalf("the client heard %d", client.messages[0].kind)
	}
	device.say(attach.KindAnswer, *device.yes(asked))
	device.say(attach.KindAnswer, *device.yes(asked))
	w.run(3*time.Second, nil)
	if len(client.messages) != 1 || client.messages[0].kind != attach.KindIntroduced {
		t.Errorf("the client heard %d messages", len(client.messages))
	}
}

// The vendor is asked with all it needs, and its grant goes to the device unread.
func TestVendorIsAsked(t *testing.T) {
	w := newWorld(t, Limits{})
	var question push.Question
	w.hub.authorize = func(_ context.Context, q push.Question) (push.Verdict, error) {
		question = q
		return push.Verdict{Allow: true, Grant: []byte("grant")}, nil
	}
	device := w.device()
	hash, _ := device.Hash()
	var grant []byte
	device.onAsked = func(i attach.Introduction) *attach.Answer { grant = i.Grant; return device.yes(i) }
	client := w.asks(newKey(t), device.key.ID(), nil)
	var m attach.Introduced
	if !client.hears(time.Second, attach.KindIntroduced, &m) {
		t.Fatal("not introduced")
	}
	if string(grant) != "grant" || question.Client != client.key.Fingerprint().String() || question.Device != string(device.key.ID()) ||
		question.Source != client.at.String() || question.Attach != identity.Fingerprint(hash).String() {
		t.Errorf("grant %q, question %+v", grant, question)
	}
}

// An event is taken only when it is kept.
func TestEvents(t *testing.T) {
	w := newWorld(t, Limits{})
	d := w.device()
	var taken attach.EventTaken
	w.pushErr = errors.New("disk full")
	d.say(attach.KindEvent, attach.Event{Number: 7, Kind: "motion", Data: []byte(`{"zone":1}`)})
	if d.hears(3*time.Second, attach.KindEventTaken, &taken) {
		t.Error("taken though it was not kept")
	}
	w.pushErr = nil
	for range 2 { // the device sends it again until it hears
		d.say(attach.KindEvent, attach.Event{Number: 7, Kind: "motion", Data: []byte(`{"zone":1}`)})
		if !d.hears(time.Second, attach.KindEventTaken, &taken) || taken.Number != 7 {
			t.Fatalf("not taken: %+v", taken)
		}
	}
	if len(w.pushed) != 2 || w.pushed[0].ID != w.pushed[1].ID || w.pushed[0].Kind != "device.motion" || w.pushed[0].Device != string(d.key.ID()) {
		t.Errorf("%+v", w.pushed)
	}
	for i, e := range []attach.Event{{Kind: "Motion"}, {Kind: "a..b"}, {Kind: "a", Data: []byte("{")}} {
		e.Number = uint64(100 + i)
		d.say(attach.KindEvent, e)
		if !d.hears(time.Second, attach.KindEventTaken, &taken) || taken.Number != e.Number || len(w.pushed) != 2 {
			t.Errorf("event %+v: %+v, %d kept", e, taken, len(w.pushed))
		}
	}
	for i := range 200 {
		d.say(attach.KindEvent, attach.Event{Number: uint64(i + 1000), Kind: "flood"})
		w.run(50*time.Millisecond, nil)
	}
	if n := len(w.pushed); n > 2+perDeviceEvents {
		t.Errorf("%d events in ten seconds", n)
	}
}

// A second live device with the same key is an alarm, and the first stays.
func TestDuplicates(t *testing.T) {
	w := newWorld(t, Limits{})
	first := w.device()
	second := w.link(first.key, nil)
	w.run(10*time.Second, nil)
	if first.State() != attach.StateAttached || second.State() == attach.StateAttached {
		t.Errorf("first %v, second %v", first.State(), second.State())
	}
	alarms := 0
	for _, e := range w.told {
		var data struct{ First, Second string }
		if e.Kind == push.KindDuplicate && json.Unmarshal(e.Data, &data) == nil && data.First == first.at.Addr().String() && data.Second == second.at.Addr().String() {
			alarms++
		}
	}
	if alarms != 1 {
		t.Errorf("%d alarms: %+v", alarms, w.told)
	}
	if p := w.records[first.key.ID()]; p.State != registry.Attached {
		t.Errorf("presence: %+v", p)
	}
}

// Presence follows what happens, and a device that only renewed its link is not gone.
func TestPresence(t *testing.T) {
	w := newWorld(t, Limits{})
	d := w.link(newKey(t), func(c *attach.LinkConfig) { c.Firmware, c.Boots = "1.2.3", 9 })
	w.attach(d)
	id := d.key.ID()
	if p := w.records[id]; p.State != registry.Attached || p.Firmware != "1.2.3" || p.Boots != 9 || p.Address.AddrPort != d.at {
		t.Errorf("attached: %+v", p)
	}
	w.run(25*time.Hour, nil) // the keys are renewed
	if p := w.records[id]; p.State != registry.Attached || len(w.hub.enrolling) != 0 || len(w.attaches) < 2 {
		t.Errorf("a day later: %+v, %d attaches", p, len(w.attaches))
	}
	for _, e := range w.told {
		if e.Kind == push.KindGone {
			t.Errorf("told %s", e.Data)
		}
	}
	d.cut = true
	w.run(5*time.Minute, nil)
	if p := w.records[id]; p.State != registry.Gone || p.Reason != attach.CloseSilent {
		t.Errorf("silent: %+v", p)
	}
	if len(w.peers) != 0 || w.hub.roster.entries[0].here {
		t.Errorf("still in the peers file (%d) or the roster", len(w.peers))
	}
}

func TestBlockedDeviceIsCut(t *testing.T) {
	w := newWorld(t, Limits{})
	d := w.device()
	w.hub.block(w.now, d.key.ID())
	w.verdict = func(attach.Request) attach.Code { return attach.CodeRefused }
	w.run(10*time.Second, nil)
	if d.State() == attach.StateAttached || w.hub.node.Devices() != 0 {
		t.Errorf("%v", d.State())
	}
}

// What is kept of introductions ends, and has a bound.
func TestIntroductionsAreBounded(t *testing.T) {
	w := newWorld(t, Limits{Questions: 20, Introductions: 60_000})
	d := w.device()
	for range 30 {
		w.asks(newKey(t), d.key.ID(), nil)
	}
	w.run(500*time.Millisecond, nil)
	if n := len(w.hub.questions); n != 20 {
		t.Errorf("%d questions, want 20", n)
	}
	w.run(2*rememberedFor, nil)
	if len(w.hub.questions) != 0 || len(w.hub.requests) != 0 {
		t.Errorf("%d questions and %d requests are left", len(w.hub.questions), len(w.hub.requests))
	}
	if _, waits := w.hub.Next(); waits {
		t.Error("a no still waits")
	}
}

// Who shows a pass of the device is passed on when strangers have used up what may be
// asked of it, a while; another's pass is worth nothing.
func TestStrangersKeepNobodyOut(t *testing.T) {
	w := newWorld(t, Limits{})
	w.hub.asked = paced[identity.ID](1, -time.Hour) // used up
	device := w.device()
	owner := newKey(t)
	pass, err := attach.NewPresencePass(device.key, 1, owner.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	met := func(k *identity.Key, pass []byte) bool {
		var m attach.Introduced
		return w.asks(k, device.key.ID(), pass).hears(300*time.Millisecond, attach.KindIntroduced, &m)
	}
	if !met(owner, pass) {
		t.Error("the owner was kept out")
	}
	if met(owner, nil) || met(newKey(t), nil) || met(newKey(t), pass) || met(owner, append(pass[:len(pass)-1:len(pass)-1], pass[len(pass)-1]^1)) {
		t.Error("somebody came in without a pass of his own")
	}
	times := 1
	for met(owner, pass) {
		if times++; times > perKnownIntroductions {
			t.Fatal("the owner asks without a limit")
		}
	}
}

// What waits for a yes is bounded, and nothing does where there will be none.
func TestEarlyCandidatesAreFew(t *testing.T) {
	for _, limited := range []bool{false, true} {
		w := newWorld(t, Limits{})
		if limited {
			w.hub.sources = paced[netipPrefix](1, -time.Hour)
		}
		device := w.device()
		device.onAsked = func(attach.Introduction) *attach.Answer { return nil }
		client := w.asks(newKey(t), device.key.ID(), nil)
		w.run(200*time.Millisecond, nil)
		for range maxCandidates {
			client.say(attach.KindCandidates, attach.Candidates{})
		}
		w.run(200*time.Millisecond, nil)
		want := maxEarly
		if limited {
			want = 0
		}
		if len(w.hub.questions) != 1 {
			t.Fatalf("%d questions", len(w.hub.questions))
		}
		for _, q := range w.hub.questions {
			if len(q.early) != want {
				t.Errorf("limited %v: %d offers wait, want %d", limited, len(q.early), want)
			}
		}
	}
}
