package hal

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// A million random edge trains when KEYHOLE_FULL is set, else a sample: no
// gesture is told that the hand did not make, and none that it made plainly is
// missed. What the hand did is decided by an oracle that sees the whole train
// at once and shares nothing with the state machine.
func TestRandomTrains(t *testing.T) {
	trains := 20_000
	if os.Getenv("KEYHOLE_FULL") != "" {
		trains = 1_000_000
	}
	seen := map[Kind]int{}
	for seed := range trains {
		rng := rand.New(rand.NewPCG(uint64(seed), 20))
		rules := three
		if seed%3 == 0 {
			rules = one
		}
		edges := randomTrain(rng, rules)
		told := play(rules, edges, true)
		for _, e := range told {
			seen[e.Kind]++
		}
		if wrong := judge(rules, edges, told); wrong != "" {
			t.Fatalf("train %d: %s\ntold  %s\nhands %+v", seed, wrong, kinds(told, false), handsOf(edges))
		}
		if coarse := play(rules, edges, false); kinds(coarse, true) != kinds(told, true) {
			t.Fatalf("train %d: told %q late, %q in time", seed, kinds(coarse, true), kinds(told, true))
		}
	}
	for _, k := range []Kind{Press, Double, Confirmed, Cancelled} {
		if seen[k] < trains/100 {
			t.Errorf("only %d of %v in %d trains: they try too little", seen[k], k, trains)
		}
	}
}

// Times around which something changes, so that a random one is often near.
var (
	lengths = []time.Duration{10 * ms, Debounce, 100 * ms, 300 * ms, ShortPress, 4 * time.Second, ConfirmHold, ConfirmHold + 2*time.Second, StuckAfter}
	pauses  = []time.Duration{5 * ms, Debounce, 100 * ms, ConfirmPause, DoubleWindow, time.Second, 3 * time.Second, ConfirmWithin, 20 * time.Second}
)

func around(rng *rand.Rand, marks []time.Duration) time.Duration {
	mark := marks[rng.IntN(len(marks))]
	switch rng.IntN(4) {
	case 0:
		return mark + time.Duration(rng.Int64N(int64(3*ms))) - ms
	default:
		return mark/2 + time.Duration(rng.Int64N(int64(mark)))
	}
}

// randomTrain is a few presses of each button, bouncing, chattering, overlapping.
func randomTrain(rng *rand.Rand, rules map[string]Rule) []move {
	var all []move
	for _, name := range []string{"pair", "reset", "support"} {
		if _, ok := rules[name]; !ok {
			continue
		}
		at := time.Second + time.Duration(rng.Int64N(int64(30*time.Second)))
		for range 1 + rng.IntN(5) {
			hold := around(rng, lengths)
			all = bouncing(all, rng, name, at, true)
			all = bouncing(all, rng, name, at+hold, false)
			at += hold + around(rng, pauses)
		}
	}
	slices.SortStableFunc(all, func(a, b move) int { return int(a.at - b.at) })
	return all
}

func bouncing(all []move, rng *rand.Rand, name string, at time.Duration, down bool) []move {
	all = append(all, move{at, name, down})
	step := 3 * ms
	if rng.IntN(20) == 0 {
		step = 40 * ms // a loose cable
	}
	for range rng.IntN(8) {
		at += 1 + time.Duration(rng.Int64N(int64(step)))
		all = append(all, move{at, name, !down})
		at += 1 + time.Duration(rng.Int64N(int64(step)))
		all = append(all, move{at, name, down})
	}
	return all
}

// A hand is one settled press as the oracle sees it.
type hand struct {
	button   string
	from, to time.Duration // when the contact came to rest, down and up again
	known    time.Duration // when the release was certain
	begun    bool          // no chatter at its beginning: a press, if not always a clean one
	clean    bool          // no chatter before, during or at its end
}

func (h hand) length() time.Duration { return h.to - h.from }

// handsOf finds the presses of a whole train: edges closer together than
// Debounce are one burst, and a burst's last level is what the line rests at.
func handsOf(edges []move) map[string][]hand {
	hands := map[string][]hand{}
	lines := map[string][]move{}
	for _, m := range edges {
		lines[m.button] = append(lines[m.button], m)
	}
	for name, line := range lines {
		var open *hand
		for start := 0; start < len(line); {
			end := start
			for end+1 < len(line) && line[end+1].at-line[end].at < Debounce {
				end++
			}
			rest := line[end]
			calm := rest.at+Debounce-line[start].at <= ChatterLimit
			start = end + 1
			switch {
			case open != nil && !rest.down:
				open.to, open.known = rest.at, rest.at+Debounce
				open.clean = open.clean && calm
				hands[name] = append(hands[name], *open)
				open = nil
			case open != nil: // still down
				open.clean = open.clean && calm
			case rest.down:
				open = &hand{button: name, from: rest.at, begun: calm, clean: calm}
			case !calm: // nothing but noise, which ends what was waiting
				hands[name] = append(hands[name], hand{button: name, from: rest.at, to: rest.at, known: rest.at})
			}
		}
		if open != nil { // never released
			open.to, open.known, open.clean = time.Hour, time.Hour, false
			hands[name] = append(hands[name], *open)
		}
	}
	return hands
}

// alone reports whether no other button was down or pressed between two times.
func alone(hands map[string][]hand, button string, from, to time.Duration) bool {
	for name, list := range hands {
		for _, h := range list {
			if name != button && h.from <= to && h.to >= from {
				return false
			}
		}
	}
	return true
}

// joined reports whether another button was pressed between two times. A press
// that began before is its own loss only.
func joined(hands map[string][]hand, button string, from, to time.Duration) bool {
	for name, list := range hands {
		for _, h := range list {
			if name != button && h.begun && h.from > from && h.from < to {
				return true
			}
		}
	}
	return false
}

// judge compares what was told with what the hands did.
func judge(rules map[string]Rule, edges []move, told []timed) string {
	hands := handsOf(edges)
	used := map[hand]bool{}
	for _, e := range told {
		if !e.Kind.Gesture() {
			continue
		}
		if wrong := backed(hands, e, used); wrong != "" {
			return fmt.Sprintf("%v at %v is false: %s", e.Event, e.at, wrong)
		}
	}
	for name, list := range hands {
		for i := range list {
			if kind := plain(hands, rules[name], list, i); kind != 0 && !toldAt(told, kind, list[i]) {
				return fmt.Sprintf("%v by %+v was missed", kind, list[i])
			}
		}
	}
	return ""
}

// backed says what is missing for e to be true, or "".
func backed(hands map[string][]hand, e timed, used map[hand]bool) string {
	list := hands[e.Button]
	i := len(list) - 1
	for i >= 0 && (list[i].known > e.at || e.Kind == Press && list[i].length() != e.Held) {
		i--
	}
	if i < 0 || !list[i].clean || used[list[i]] {
		return "no such press"
	}
	last := list[i]
	used[last] = true
	switch {
	case e.Kind == Press && last.length() >= StuckAfter:
		return "a box, not a hand"
	case e.Kind == Press:
		if joined(hands, e.Button, last.from, last.to) {
			return "another button was pressed meanwhile"
		}
		return ""
	case e.at != last.known || last.length() >= ShortPress:
		return "the last press is not a short one that ends here"
	case i == 0 || !list[i-1].clean || used[list[i-1]]:
		return "there was no press before"
	}
	before := list[i-1]
	pause := last.from - before.to
	used[before] = true
	switch {
	case e.Kind == Double && (before.length() >= ShortPress || pause > DoubleWindow):
		return "no two short presses"
	case e.Kind == Confirmed && (before.length() < ConfirmHold || before.length() >= StuckAfter):
		return "the hold is not one"
	case e.Kind == Confirmed && (pause < ConfirmPause || pause > ConfirmWithin):
		return "the pause is wrong"
	}
	if joined(hands, e.Button, before.from, last.to) {
		return "another button was pressed meanwhile"
	}
	return ""
}

// plain says which gesture press i of a list certainly completes: everything
// near it is quiet, so that no rule about disturbance is needed. Zero: unsure.
func plain(hands map[string][]hand, rule Rule, list []hand, i int) Kind {
	const quiet = 8 * time.Second // more than any window
	h := list[i]
	calmBefore := func(k int) bool { return k == 0 || list[k].from-list[k-1].to > quiet }
	calmAfter := i+1 == len(list) || list[i+1].from-h.to > quiet
	if !h.clean || !calmAfter || h.length() >= StuckAfter {
		return 0
	}
	if calmBefore(i) && alone(hands, h.button, h.from-quiet, h.to+quiet) && (!rule.Confirm || h.length() < ConfirmHold) {
		return Press
	}
	if i == 0 || !list[i-1].clean || !calmBefore(i-1) || h.length() >= ShortPress ||
		!alone(hands, h.button, list[i-1].from-quiet, h.to+quiet) {
		return 0
	}
	before, pause := list[i-1], h.from-list[i-1].to
	switch {
	case rule.Double && before.length() < ShortPress && pause <= DoubleWindow:
		return Double
	case rule.Confirm && before.length() >= ConfirmHold && before.length() < StuckAfter && pause >= ConfirmPause && pause <= ConfirmWithin:
		return Confirmed
	}
	return 0
}

func toldAt(told []timed, kind Kind, h hand) bool {
	return slices.ContainsFunc(told, func(e timed) bool {
		return e.Kind == kind && e.Button == h.button && e.at >= h.known && e.at <= h.known+DoubleWindow+ChatterLimit // a glitch may delay the telling
	})
}
