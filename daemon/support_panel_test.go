package daemon

import (
	"strings"
	"testing"

	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/pairing"
)

// What the display says of support fits on it, and is said in the right order: a code before
// everything, a banner while a hotline is here, and never over a code.
func TestSupportPages(t *testing.T) {
	d := startDevice(t, simulated)
	code := d.supportCode(t)
	waiting := pairing.SupportState{Phase: pairing.SupportWaiting, Code: code, SecondsLeft: 299}
	here := pairing.SupportState{Phase: pairing.SupportSession, SecondsLeft: 1799}
	asked := here
	asked.Control, asked.AskedLeft = pairing.ControlAsked, 60
	base := scene{device: "Front door", id: "mfrggzdfmztwq2lknnwg23tpob", users: 2, others: []string{"Bob"}}
	for name, c := range map[string]struct {
		s     scene
		want  []string
		never string
	}{
		"no basestation":  {scene{support: waiting}, []string{"Support code 4:59", code.Grouped(), "this network only"}, "connected"},
		"number asked":    {scene{support: waiting, call: callShown{state: numberAsked}}, []string{"Call number: wait"}, ""},
		"number refused":  {scene{support: waiting, call: callShown{state: numberRefused}}, []string{"No call number"}, ""},
		"number":          {scene{support: waiting, call: callShown{numberGiven, "123456"}}, []string{"Call no. 123 456"}, ""},
		"over a notice":   {scene{support: waiting, notice: []string{"Ended"}}, []string{code.Grouped()}, "Ended"},
		"here":            {scene{support: here}, []string{"Support here 29:59", "Ready"}, "connected"},
		"here, a notice":  {scene{support: here, notice: []string{"Paired"}}, []string{"Support here 29:59", "Paired"}, ""},
		"control":         {scene{support: asked}, []string{"Allow control?", "Hold SUPPORT 3 s", "1:00", "Tap ends support"}, "Support here"},
		"one button":      {scene{support: asked, oneButton: true}, []string{"Hold button 3 s"}, "SUPPORT"},
		"nobody":          {scene{}, []string{"Bob is connected"}, "Support"},
		"a pairing code":  {scene{support: here, pairing: pairing.State{Open: true, SecondsLeft: 9, Code: mustPasscode(t)}}, []string{"1234 5678"}, "Support here"},
		"half a gesture":  {scene{support: waiting, gesture: hal.Event{Kind: hal.Holding, Left: 3e9}}, []string{"Keep holding"}, code.Grouped()},
		"pairing, asking": {scene{support: asked, pairing: pairing.State{Asking: &pairing.Asking{User: "Eve", Check: "123456"}}}, []string{"Eve asks"}, "Allow"},
	} {
		s := c.s
		s.device, s.id, s.users, s.others = base.device, base.id, base.users, base.others
		words := s.picture().Words
		text := strings.Join(words, "\n")
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in %q", name, want, words)
			}
		}
		if c.never != "" && strings.Contains(text, c.never) {
			t.Errorf("%s: %q in %q", name, c.never, words)
		}
		for _, line := range words {
			if len(line) > hal.LineWidth(1) {
				t.Errorf("%s: %q is cut", name, line)
			}
		}
	}
	if got := (scene{support: asked}).light(); got != hal.FastBlink {
		t.Errorf("asked: %v", got)
	}
	if got := (scene{support: waiting}).light(); got != hal.SlowBlink {
		t.Errorf("waiting: %v", got)
	}
}

func mustPasscode(t *testing.T) pairing.Passcode {
	t.Helper()
	p, err := pairing.ParsePasscode("1234 5678")
	if err != nil {
		t.Fatal(err)
	}
	return p
}
