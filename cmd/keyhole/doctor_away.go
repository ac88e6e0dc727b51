package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyholed/keyhole/client"
)

// diagnoseLater examines the way through the basestation meanwhile; nil where the
// device has none.
func (e *examination) diagnoseLater(ctx context.Context) <-chan *client.Diagnosis {
	if e.device.Basestation.IsZero() {
		return nil
	}
	done := make(chan *client.Diagnosis, 1)
	go func() {
		g, err := e.home.Diagnose(ctx, e.device, client.DialOptions{Log: e.app.log()})
		if err != nil {
			g = &client.Diagnosis{Basestation: e.device.Basestation, Err: err}
		}
		done <- g
	}()
	return done
}

// away tells how the device is reached from beyond its network. Near says that it is
// reached directly already: then nothing here is needed now.
func (e *examination) away(ctx context.Context, g *client.Diagnosis, near bool) {
	defer g.Close()
	bad := failed
	if near {
		bad = warn
	}
	if g.Over == "" {
		at := e.at.add("basestation", bad, "%s: %v", g.Basestation.Addresses[0], g.Err)
		e.skip(at, "introduction", "path")
		return
	}
	at := e.at.add("basestation", ok, "%s, asked over %s in %s", g.Node, g.Over, short(g.Took))
	addNAT(at, g)
	if g.Err != nil {
		asked := at.add("introduction", bad, "%v", g.Err)
		e.skip(asked, "path", "services")
		return
	}
	asked := at.add("introduction", ok, "yes%s", yes(g.Device.IsValid(), fmt.Sprintf("; the device is seen at %s", g.Device)))
	worst := warn
	if g.Best() == nil {
		worst = bad
	}
	for _, w := range g.Ways {
		if w.Err != nil {
			asked.add(w.Name, worst, "%v%s", w.Err, yes(w.Name != "relay", whyNotPunched(w, g)))
			continue
		}
		asked.add(w.Name, ok, "%s, set up in %s, round trip %s, %.1f MB/s", w.Conn.RemoteAddr(), short(w.SetUp), short(w.RoundTrip), w.Goodput/1e6)
	}
	best := g.Best()
	switch {
	case best == nil:
		e.skip(asked, "path", "services")
	case near:
		asked.add("path", ok, "not needed here: the device is reached directly")
	default:
		path := asked.add("path", ok, "%s, as the device is not reached on this network%s", g.Ways[0].Name, whyRelayed(g))
		e.ask(ctx, path, best)
	}
}

func short(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// addNAT says what is known of the router, and what that means.
func addNAT(at *check, g *client.Diagnosis) {
	r := g.Router
	if !r.Observed.IsValid() {
		at.add("NAT", warn, "UDP is blocked here, or lost: the basestation is asked in TCP, and nothing can be punched over UDP")
		return
	}
	hairpin := yes(r.Hairpin, "; reaches itself by its outside address (hairpin)")
	switch {
	case r.Elsewhere.IsValid() && r.Elsewhere != r.Observed:
		at.add("NAT", warn, "another port for each peer (symmetric): seen at %s and at %s; only peers with an open router are met over UDP%s", r.Observed, r.Elsewhere, hairpin)
	case r.Elsewhere.IsValid():
		at.add("NAT", ok, "the same port for every peer (endpoint-independent): two nodes see %s%s", r.Observed, hairpin)
	case r.Observed.Port() == r.Local:
		at.add("NAT", ok, "seen at %s, with our own port%s", r.Observed, hairpin)
	default:
		at.add("NAT", ok, "seen at %s, local port %d; with one node to ask it is not known whether peers see another port%s", r.Observed, r.Local, hairpin)
	}
}

// whyNotPunched says what usually is the reason.
func whyNotPunched(w client.Way, g *client.Diagnosis) string {
	switch {
	case w.Name == "punched TCP" && errors.Is(w.Err, client.ErrNoMeeting):
		return ": a router on the way gives each peer another port, or refuses what it has not asked for"
	case w.Name == "punched UDP" && !g.Router.Observed.IsValid():
		return ": UDP is blocked on this side"
	case w.Name == "punched UDP" && !g.Device.IsValid():
		return ": UDP is blocked on the device's side"
	case w.Name == "punched UDP" && errors.Is(w.Err, client.ErrNoPunch):
		return ": both routers are strict, one of them gives each peer another port"
	}
	return ""
}

// whyRelayed says why a relay is used although something direct works.
func whyRelayed(g *client.Diagnosis) string {
	if g.Ways[0].Name != "relay" {
		return ""
	}
	for _, w := range g.Ways[1:] {
		if w.Err == nil {
			return "; it delivers more than " + w.Name
		}
	}
	return "; nothing direct gets through"
}
