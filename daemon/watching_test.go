package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
	"github.com/keyholed/keyhole/tunnel"
)

// wantLight waits until the light is on or off.
func (d *device) wantLight(t testing.TB, on bool, when string) {
	t.Helper()
	testnet.Eventually(t, fmt.Sprintf("light %v %s", on, when), func() error {
		if got := d.sim.State().Watching; got != on {
			return fmt.Errorf("it is %v, with %d tunnels of media", got, d.bridge.Counts().Media)
		}
		return nil
	})
}

// The light is on while a camera's tunnel is open, on either path, and for no other
// reason; the display says who it is.
func TestWatchingLight(t *testing.T) {
	cam := echo(t)
	d := startDevice(t, simulated+serviceTOML("cam", "rtsp", cam.address)+serviceTOML("web", "http", cam.address)+"media = true\n"+serviceTOML("shell", "ssh", cam.address))
	owner := d.owner(t)
	d.wantLight(t, false, "at first")
	shell := owner.connect("shell")
	defer shell.Close()
	for _, service := range []string{"cam", "web"} {
		for _, path := range bothPaths {
			s := d.dial(t, owner.key, path).connect(service)
			d.wantLight(t, true, "while "+service+" is open over "+string(path))
			testnet.Eventually(t, "the display", func() error {
				if words := strings.Join(d.sim.State().Picture.Words, "|"); !strings.Contains(words, "1 watching: Alice") {
					return errors.New(words)
				}
				return nil
			})
			if got := d.Status().Watching; len(got) != 1 || got[0] != "Alice" {
				t.Errorf("status: %q", got)
			}
			_ = s.Close()
			d.wantLight(t, false, "after it was closed")
		}
	}
	if len(d.Status().Watching) != 0 {
		t.Error("somebody watches over ssh")
	}
}

// A service that does not answer lights nothing.
func TestDeadCameraLightsNothing(t *testing.T) {
	d := startDevice(t, simulated+serviceTOML("cam", "rtsp", closedPort(t)))
	owner := d.owner(t)
	changed, stop := d.sim.Changed()
	defer stop()
	if err := owner.refused("cam"); err == nil {
		t.Fatal("it answers")
	}
	select {
	case <-changed:
		if d.sim.State().Watching {
			t.Error("the light is on")
		}
	default:
	}
}

// However tunnels end, nothing is left over: random ones, many at once, while one
// stays open that has the light on all the time.
func TestWatchingNeverDrifts(t *testing.T) {
	cam := echo(t)
	services := serviceTOML("cam", "rtsp", cam.address)
	d := startDevice(t, simulated+services)
	owner := d.owner(t)
	held := owner.connect("cam")
	d.wantLight(t, true, "at the beginning")

	dark := make(chan struct{})
	changed, stop := d.sim.Changed()
	ctx, cancel := context.WithCancel(t.Context())
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for {
			select {
			case <-changed:
				if !d.sim.State().Watching {
					close(dark)
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	rounds := 6
	if full() {
		rounds = 200
	}
	var all sync.WaitGroup
	for i := range 6 {
		rng := rand.New(rand.NewPCG(uint64(i), 7))
		name := fmt.Sprintf("User %d", i)
		all.Go(func() {
			for r := range rounds {
				churn(t, d, owner, fmt.Sprintf("%s %d", name, r), rng)
			}
		})
	}
	all.Wait()
	select {
	case <-dark:
		t.Error("the light went off while somebody watched")
	default:
	}
	cancel()
	watcher.Wait()
	stop()
	testnet.Eventually(t, "only one is left", func() error {
		if c := d.bridge.Counts(); c.Media != 1 || c.Total != 1 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	if !d.sim.State().Watching {
		t.Error("the light is off while one watches")
	}
	_ = held.Close()
	d.wantLight(t, false, "after the last")
}

// churn is one user who comes, opens some tunnels, and goes in one of many ways.
func churn(t *testing.T, d *device, owner *peer, name string, rng *rand.Rand) {
	p := d.member(t, name, acl.RoleViewer, bothPaths[rng.IntN(2)])
	var open []session.Stream
	for range 1 + rng.IntN(4) {
		s, err := p.Connect(t.Context(), "cam", rng.IntN(2) == 0)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if rng.IntN(3) == 0 {
			_, _ = io.WriteString(s, "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")
		}
		open = append(open, s)
	}
	switch rng.IntN(5) {
	case 0:
		for _, s := range open {
			_ = s.Close()
		}
	case 1:
		p.Close()
	case 2:
		if _, err := d.store.Revoke(name, acl.By{Via: "test"}); err != nil {
			t.Error(err)
		}
	case 3:
		for _, s := range d.server.Sessions() {
			if s.Peer == p.key.Fingerprint() {
				_ = owner.tryCall("DELETE", fmt.Sprintf("/v1/sessions/%d", s.Number), nil, nil)
			}
		}
	case 4:
		d.bridge.Cut(func(l tunnel.Live) bool { return l.Meta.User == name }, errNoLonger)
	}
	defer p.Close()
	for _, s := range open {
		defer s.Close()
	}
	if _, there := d.store.UserOf(p.key.Fingerprint()); there {
		if _, err := d.store.Revoke(name, acl.By{Via: "test"}); err != nil {
			t.Error(err)
		}
	}
}

// A reload that takes the service away, or its mark, does not hide who watches.
func TestWatchingSurvivesAReload(t *testing.T) {
	cam := echo(t)
	d := startDevice(t, simulated+serviceTOML("web", "http", cam.address)+"media = true\n")
	s := d.owner(t).connect("web")
	d.wantLight(t, true, "while it is open")
	for _, services := range [][]config.Service{nil, {{Name: "web", Type: "http", Address: cam.address}}} {
		next := *d.config()
		next.Services = services
		if err := d.Reload(&next); err != nil {
			t.Fatal(err)
		}
		d.panel.refresh()
		if !d.sim.State().Watching || d.bridge.Counts().Media != 1 {
			t.Errorf("after a reload to %v the light is %v", services, d.sim.State().Watching)
		}
	}
	_ = s.Close()
	d.wantLight(t, false, "after it was closed")
}

// Nothing that can be asked for, by whomever, switches the light.
func TestNoRequestSwitchesTheLight(t *testing.T) {
	cam := echo(t)
	d := startDevice(t, simulated+serviceTOML("cam", "rtsp", cam.address))
	owner := d.owner(t)
	s := d.member(t, "Bob", acl.RoleViewer, session.PathQUIC).connect("cam")
	defer s.Close()
	d.wantLight(t, true, "while it is open")
	changed, stop := d.sim.Changed()
	defer stop()
	for _, r := range d.routes {
		if r.Path == "/v1/reset" || r.Path == "/v1/events" || strings.HasPrefix(r.Path, "/v1/pair") {
			continue // the first ends everything, the others wait
		}
		answer, _, err := owner.tryAsk(r.Method, strings.NewReplacer("{user}", "Alice", "{number}", "999999").Replace(r.Path), map[string]any{})
		if err != nil {
			t.Fatalf("%s %s: %v", r.Method, r.Path, err)
		}
		_ = answer
	}
	if err := d.window.Open(); err != nil { // the other light blinks
		t.Fatal(err)
	}
	for range 2 { // it has
		<-changed
		if !d.sim.State().Watching {
			t.Fatal("the light went off")
		}
	}
}

// panicky is a request's context that panics when it is asked for a key of a type that begins so.
type panicky struct {
	context.Context
	in string
}

func (p panicky) Value(key any) any {
	if strings.HasPrefix(fmt.Sprintf("%T", key), p.in) {
		panic("asked for " + p.in)
	}
	return p.Context.Value(key)
}

// A handler that dies between opening a tunnel and running it leaves nothing.
func TestWatchingAfterAPanic(t *testing.T) {
	cam := echo(t)
	d := startDevice(t, simulated+serviceTOML("cam", "rtsp", cam.address))
	service, _ := d.bridge.Services().Lookup("cam")
	for _, in := range []string{"nettrace.", "*session."} { // while it dials, and behind that
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("no panic in %s", in)
				}
			}()
			r := httptest.NewRequest("CONNECT", "cam", nil).WithContext(panicky{t.Context(), in})
			_ = d.tunnel(nil, r, tunnel.Meta{Peer: "x", User: "Bob"}, service, nil)
		}()
	}
	if c := d.bridge.Counts(); c.Total != 0 {
		t.Errorf("%+v", c)
	}
	d.wantLight(t, false, "after a panic")
}

// brokenLight fails to switch for a while.
type brokenLight struct {
	mu    sync.Mutex
	fails int
	shows hal.Pattern
}

func (l *brokenLight) Set(p hal.Pattern) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fails > 0 {
		l.fails--
		return errors.New("it is broken")
	}
	l.shows = p
	return nil
}

func (l *brokenLight) Close() error { return nil }

// A light that does not switch is tried until it does.
func TestBrokenLightIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &brokenLight{fails: 5}
		var open atomic.Int64
		open.Store(1)
		w := startWatching(l, func() int { return int(open.Load()) }, slog.New(slog.DiscardHandler))
		time.Sleep(10 * watchRetry)
		synctest.Wait()
		if l.shows != hal.On || l.fails != 0 {
			t.Errorf("it shows %v", l.shows)
		}
		l.mu.Lock()
		l.fails = 2
		l.mu.Unlock()
		open.Store(0)
		w.changed()
		time.Sleep(3 * watchRetry)
		synctest.Wait()
		if l.shows != hal.Off {
			t.Errorf("it shows %v", l.shows)
		}
		if err := w.close(); err != nil {
			t.Error(err)
		}
	})
}

func TestWatchingLine(t *testing.T) {
	for want, names := range map[string][]string{
		"1 watching: Alice":      {"Alice"},
		"2 watching: Al, Bob":    {"Al", "Bob"},
		"3 watching: Alice, B..": {"Alice", "Bob", "Carol"},
	} {
		if got := watchingLine(names); len([]rune(got)) > hal.LineWidth(1) || got != want && len(want) <= hal.LineWidth(1) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A user without the action sees and ends his own sessions, on all of his keys, and
// nobody else's; with it, everybody's.
func TestSessionsOfOneself(t *testing.T) {
	cam := echo(t)
	d := startDevice(t, serviceTOML("cam", "rtsp", cam.address))
	owner := d.owner(t)
	bob := d.member(t, "Bob", acl.RoleViewer, session.PathTCP)
	laptop := newKey(t)
	if _, err := d.store.AddKey("Bob", laptop.Fingerprint(), "laptop", acl.By{Via: "test"}); err != nil {
		t.Fatal(err)
	}
	other := d.dial(t, laptop, session.PathQUIC)
	var me api.Me
	other.call("GET", "/v1/me", nil, &me)
	stream := other.connect("cam")
	defer stream.Close()

	var all, own api.Sessions
	owner.call("GET", "/v1/sessions", nil, &all)
	bob.call("GET", "/v1/sessions", nil, &own)
	if len(own.Tunnels) != 1 || own.Tunnels[0].Service != "cam" || !own.Tunnels[0].Media || own.Watching != nil {
		t.Errorf("own tunnels: %+v", own)
	}
	for _, s := range own.Sessions {
		if s.User != "Bob" {
			t.Errorf("Bob sees %+v", s)
		}
	}
	if len(all.Watching) != 1 || all.Watching[0] != "Bob" || len(all.Sessions) <= len(own.Sessions) {
		t.Errorf("the owner sees %+v", all)
	}
	var alices, laptops uint64
	for _, s := range all.Sessions {
		switch s.Fingerprint {
		case owner.key.Fingerprint():
			alices = s.Number
		case laptop.Fingerprint():
			laptops = s.Number
		}
	}
	end := func(p *peer, n uint64) error { return p.tryCall("DELETE", fmt.Sprintf("/v1/sessions/%d", n), nil, nil) }
	wantCode(t, "another's", end(bob, alices), api.CodeNotFound)
	wantCode(t, "nobody's", end(bob, 1<<40), api.CodeNotFound)
	wantCode(t, "no number", bob.tryCall("DELETE", "/v1/sessions/x", nil, nil), api.CodeMalformed)
	if err := end(bob, laptops); err != nil {
		t.Fatal(err)
	}
	e := d.last(t, acl.WhatSessionsCut)
	if e.By.User != "Bob" || e.User != "Bob" || e.Session != laptops || e.Fingerprint != laptop.Fingerprint() {
		t.Errorf("%+v", e.Event)
	}
	d.enter(t, "Gus", acl.RoleGuest)
	var bobs api.Sessions
	bob.call("GET", "/v1/sessions", nil, &bobs)
	for _, s := range bobs.Sessions {
		if s.Number == laptops {
			t.Error("the session is still there")
		}
	}
}
