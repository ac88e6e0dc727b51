package basestation

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/keyholed/keyhole/basestation/push"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// refusal is all that a client sees of a no.
type refusal struct {
	packets string // sizes and times of all that came
	message attach.NotIntroduced
}

// refused runs one client until it was told no, and some more.
func refused(w *world, device identity.ID, presence []byte) refusal {
	w.t.Helper()
	began := w.now
	c := w.asks(newKey(w.t), device, presence)
	var r refusal
	if !c.hears(5*time.Second, attach.KindNotIntroduced, &r.message) {
		w.t.Fatalf("no answer; %+v", c.messages)
	}
	w.run(5*time.Second, nil)
	if len(c.messages) != 0 {
		w.t.Errorf("%d more messages", len(c.messages))
	}
	for _, p := range c.packets {
		r.packets += fmt.Sprintf("%d@%v ", p.size, p.at-began)
	}
	return r
}

// Whatever the reason, a no is the same packets at the same times, and leaves one
// second after the question came.
func TestEveryNoIsAlike(t *testing.T) {
	cases := []struct {
		name string
		run  func(*world) refusal
	}{
		{"unknown", func(w *world) refusal { return refused(w, newKey(t).ID(), nil) }},
		{"offline", func(w *world) refusal {
			d := w.device()
			d.Close(w.now)
			w.run(time.Second, nil)
			return refused(w, d.key.ID(), nil)
		}},
		{"refused by the device", func(w *world) refusal {
			d := w.device()
			d.onAsked = func(i attach.Introduction) *attach.Answer {
				return &attach.Answer{Request: i.Request, Verdict: attach.VerdictNo}
			}
			return refused(w, d.key.ID(), nil)
		}},
		{"silent device", func(w *world) refusal {
			d := w.device()
			d.onAsked = func(attach.Introduction) *attach.Answer { return nil }
			return refused(w, d.key.ID(), nil)
		}},
		{"dead device", func(w *world) refusal {
			d := w.device()
			d.cut = true
			return refused(w, d.key.ID(), nil)
		}},
		{"vendor says no", func(w *world) refusal {
			w.hub.authorize = func(context.Context, push.Question) (push.Verdict, error) { return push.Verdict{}, nil }
			return refused(w, w.device().key.ID(), nil)
		}},
		{"kept out by the operator", func(w *world) refusal {
			w.hub.gate = closed{}
			return refused(w, w.device().key.ID(), nil)
		}},
		{"vendor does not answer", func(w *world) refusal {
			w.hub.authorize = func(context.Context, push.Question) (push.Verdict, error) {
				return push.Verdict{Allow: true}, errors.New("time is over")
			}
			return refused(w, w.device().key.ID(), nil)
		}},
		{"too many tasks", func(w *world) refusal {
			d := w.device()
			d.Close(w.now)
			w.run(time.Second, nil)
			w.full = true
			return refused(w, d.key.ID(), nil)
		}},
		{"over the source's limit", func(w *world) refusal {
			d := w.device()
			w.hub.sources = paced[netipPrefix](1, -time.Hour)
			return refused(w, d.key.ID(), nil)
		}},
		{"over the device's limit", func(w *world) refusal {
			d := w.device()
			w.hub.asked = paced[identity.ID](1, -time.Hour)
			return refused(w, d.key.ID(), nil)
		}},
		{"draining", func(w *world) refusal {
			d := w.device()
			w.hub.draining = true
			return refused(w, d.key.ID(), nil)
		}},
		{"store fails", func(w *world) refusal {
			w.hub.find = failingFind
			return refused(w, newKey(t).ID(), nil)
		}},
		{"pass of nobody", func(w *world) refusal { return refused(w, newKey(t).ID(), []byte("not a pass")) }},
	}
	var first refusal
	for i, c := range cases {
		w := newWorld(t, Limits{})
		got := c.run(w)
		if got.message != (attach.NotIntroduced{Verdict: attach.VerdictNo}) {
			t.Errorf("%s: %+v", c.name, got.message)
		}
		if i == 0 {
			first = got
			t.Logf("a no: %s", got.packets)
		}
		if got != first {
			t.Errorf("%s:\n%s\n%s:\n%s", c.name, got.packets, cases[0].name, first.packets)
		}
	}
}

// The bearer of a good presence pass learns that a device is off and since when; with
// any other pass it is the usual no.
func TestPresencePasses(t *testing.T) {
	w := newWorld(t, Limits{})
	d := w.device()
	d.say(attach.KindPresence, attach.Presence{Epoch: 5})
	w.run(time.Second, nil)
	d.Close(w.now)
	w.run(time.Second, nil)
	friend, stranger := newKey(t), newKey(t)
	pass := func(device *identity.Key, epoch uint64, client *identity.Key) []byte {
		p, err := attach.NewPresencePass(device, epoch, client.Fingerprint())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	ask := func(k *identity.Key, p []byte) attach.NotIntroduced {
		t.Helper()
		var m attach.NotIntroduced
		if !w.asks(k, d.key.ID(), p).hears(5*time.Second, attach.KindNotIntroduced, &m) {
			t.Fatal("no answer")
		}
		return m
	}
	no := attach.NotIntroduced{Verdict: attach.VerdictNo}
	off := attach.NotIntroduced{Verdict: attach.VerdictOffline, Since: 1_800_000_000, Reason: attach.CloseLeaving}
	for _, c := range []struct {
		name   string
		client *identity.Key
		pass   []byte
		want   attach.NotIntroduced
	}{
		{"none", friend, nil, no},
		{"good", friend, pass(d.key, 5, friend), off},
		{"newer than the node knows", friend, pass(d.key, 6, friend), off},
		{"from before somebody's permission was taken", friend, pass(d.key, 4, friend), no},
		{"another client's", stranger, pass(d.key, 5, friend), no},
		{"of another device", friend, pass(stranger, 5, friend), no},
		{"cut short", friend, pass(d.key, 5, friend)[:60], no},
	} {
		if got := ask(c.client, c.pass); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	// Until the device has told its epoch in this attach, no pass counts.
	p := w.records[d.key.ID()]
	p.Told = false
	w.records[d.key.ID()] = p
	if got := ask(friend, pass(d.key, 5, friend)); got != no {
		t.Errorf("epoch not told: %+v", got)
	}
}

// A yes that is late is still passed on, for ten seconds.
func TestLateYes(t *testing.T) {
	for _, c := range []struct {
		after time.Duration
		yes   bool
	}{{500 * time.Millisecond, true}, {3 * time.Second, true}, {9500 * time.Millisecond, true}, {10500 * time.Millisecond, false}} {
		w := newWorld(t, Limits{})
		d := w.device()
		var asked attach.Introduction
		d.onAsked = func(i attach.Introduction) *attach.Answer { asked = i; return nil }
		client := w.asks(newKey(t), d.key.ID(), nil)
		w.run(c.after, nil)
		d.say(attach.KindAnswer, *d.yes(asked))
		var m attach.Introduced
		if got := client.hears(2*time.Second, attach.KindIntroduced, &m); got != c.yes {
			t.Errorf("yes after %v passed on: %v, want %v", c.after, got, c.yes)
		}
		var no attach.NotIntroduced
		if got := client.hears(0, attach.KindNotIntroduced, &no); got != (c.after > time.Second) {
			t.Errorf("yes after %v: a no was sent: %v", c.after, got)
		}
	}
}
