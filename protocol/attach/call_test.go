package attach

import (
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A client that wants a number resolved attaches with that question and nothing else.
func TestFindIsAFirstMessage(t *testing.T) {
	w := newWorld(t, 1)
	s := w.link(newKey(t), func(c *LinkConfig) { c.Find = &Find{Number: "204862"} })
	w.mustAttach(s)
	w.run(time.Second, nil)
	if len(w.messages) != 1 || w.messages[0] != KindFind {
		t.Errorf("the node's owner heard %v", w.messages)
	}
	if len(w.asked) != 0 || len(w.intros) != 0 {
		t.Error("it was taken for a device, or for an introduction")
	}
}

func TestFindCountsAsAClient(t *testing.T) {
	w := newWorld(t, 1)
	w.nodeCfg.MaxClientsPerSource = 1
	n, err := NewNode(w.nodeCfg)
	if err != nil {
		t.Fatal(err)
	}
	w.node = n
	find := func(c *LinkConfig) { c.Find = &Find{Number: "204862"} }
	first := w.link(newKey(t), find)
	second := w.link(newKey(t), find)
	second.ip, second.port = first.ip, 50000
	w.mustAttach(first)
	if w.run(3*time.Second, second.attached) {
		t.Error("one client too many")
	}
}

func TestCallNumberForm(t *testing.T) {
	for s, want := range map[string]bool{"000000": true, "204862": true, "": false, "20486": false, "2048622": false, "20486a": false, "20486 ": false, "-12345": false, "٣٤٥": false} {
		if IsCallNumber(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
		body, err := Encode(Find{s})
		if err != nil {
			t.Fatal(err)
		}
		if err := Decode(body, new(Find)); (err == nil) != want {
			t.Errorf("FIND %q: %v", s, err)
		}
	}
	for _, v := range []any{&CallNumber{Number: "12"}, &Call{Over: "1234567"}, &Found{Device: identity.ID("nobody")}} {
		body, err := Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		if Decode(body, v) == nil {
			t.Errorf("%+v is taken", v)
		}
	}
}

func TestOneQuestionALink(t *testing.T) {
	k := newKey(t)
	w := newWorld(t, 1)
	c := LinkConfig{Key: k, Roots: []Root{rootOf(w.root)}, Basestations: w.link(k, nil).c.Basestations, Send: w.links[0].c.Send}
	c.Find, c.Introduce = &Find{Number: "204862"}, &Introduce{Device: k.ID()}
	if _, err := NewLink(c); err == nil {
		t.Error("two questions")
	}
	c.Find, c.Introduce = &Find{Number: "1"}, nil
	if _, err := NewLink(c); err == nil {
		t.Error("an odd number")
	}
}
