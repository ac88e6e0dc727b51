package client

import (
	"errors"
	"testing"
)

func TestDiagnosis(t *testing.T) {
	t.Parallel()
	d := newTestDevice(t)
	f := d.attachTo(newTestBase(t), closedWays{tcp: true})
	h := f.away()
	entry, err := h.Lookup("front")
	if err != nil {
		t.Fatal(err)
	}
	g, err := h.Diagnose(t.Context(), entry, DialOptions{})
	if err != nil || g.Err != nil {
		t.Fatal(err, g.Err)
	}
	defer g.Close()
	if g.Over != "udp" || g.Node != f.base.at || g.Router.Observed.Port() != g.Router.Local || !g.Router.Hairpin || g.Router.Elsewhere.IsValid() {
		t.Errorf("%+v", g)
	}
	if len(g.Ways) != 3 || g.Best() == nil || g.Ways[2].Name != wayTCP || !errors.Is(g.Ways[2].Err, ErrNoMeeting) {
		t.Fatalf("%+v", g.Ways)
	}
	for _, w := range g.Ways[:2] {
		if w.Goodput < 1000 || w.RoundTrip <= 0 || w.SetUp <= 0 {
			t.Errorf("%+v", w)
		}
	}
	if _, err := g.Best().Me(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := h.Diagnose(t.Context(), d.entry(), DialOptions{}); !errors.Is(err, ErrNoBasestation) {
		t.Error(err)
	}
}
