package daemon

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/session"
	"github.com/keyholed/keyhole/tunnel"
	"github.com/keyholed/keyhole/tunnel/tries"
)

// lockedPage is a web service with a password of its own.
func lockedPage(t testing.TB, user, password string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="camera"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, "the picture")
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

const application = "access = \"application\"\n"

// get asks through a tunnel, with a password unless it is "".
func get(t testing.TB, s session.Stream, password string) int {
	t.Helper()
	request := "GET / HTTP/1.1\r\nHost: camera\r\n"
	if password != "" {
		request += "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+password)) + "\r\n"
	}
	if _, err := fmt.Fprint(s, request+"\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(s), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

func TestAnybodyMayAskAServiceThatAuthenticatesByItself(t *testing.T) {
	page := lockedPage(t, "admin", "secret")
	d := startDevice(t, serviceTOML("page", "http", page)+application+serviceTOML("inside", "http", page))
	d.owner(t)
	for _, path := range bothPaths {
		p := d.dial(t, newKey(t), path)
		if status := get(t, p.connect("page"), ""); status != 401 {
			t.Errorf("%s: without a password: %d", path, status)
		}
		if status := get(t, p.connect("page"), "secret"); status != 200 {
			t.Errorf("%s: with the password: %d", path, status)
		}
		var list api.Services
		p.call("GET", "/v1/services", nil, &list)
		if len(list.Services) != 1 || list.Services[0].Name != "page" || !list.Services[0].Allowed {
			t.Errorf("a stranger is told of %+v", list.Services)
		}
		for _, name := range []string{"inside", "nothing"} {
			if err := p.refused(name); err == nil || err.Error() != stranger.Error() {
				t.Errorf("%s: a stranger at %q: %v", path, name, err)
			}
		}
		wantCode(t, "a stranger and the device", p.tryCall("GET", "/v1/device", nil, nil), api.CodeForbidden)
	}
}

// failStrangers makes the ledger full of failures of strangers.
func (d *device) failStrangers(service string, times int) {
	for n := range times {
		d.tries.Asker(tries.Who{Service: service, Key: [32]byte{9, byte(n)}, Source: netip.AddrFrom4([4]byte{203, 0, 113, byte(n)})}).Fail()
	}
}

// While strangers guess, a new one is told when to come back, and everybody who has
// got in before is served at once.
func TestGuessersLockNobodyOut(t *testing.T) {
	d := startDevice(t, serviceTOML("page", "http", lockedPage(t, "admin", "secret"))+application)
	owner := d.owner(t)
	known := d.dial(t, newKey(t), session.PathTCP)
	for _, password := range []string{"", "secret"} {
		get(t, known.connect("page"), password)
	}
	d.failStrangers("page", 20)
	err := d.dial(t, newKey(t), session.PathTCP).refused("page")
	wantCode(t, "a new key", err, api.CodeLimit)
	var p *api.Problem
	if !errors.As(err, &p) || p.RetryAfter < 800 || p.RetryAfter > 900 {
		t.Errorf("he is told %+v", p)
	}
	for who, p := range map[string]*peer{"the owner": owner, "a stranger who has the password": known} {
		if status := get(t, p.connect("page"), "secret"); status != 200 {
			t.Errorf("%s: %d", who, status)
		}
	}
	// What was learnt outlives a restart, and so does what is waited for.
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d = startIn(t, d.dir, text(d.dir, serviceTOML("page", "http", lockedPage(t, "admin", "secret"))+application))
	wantCode(t, "a new key after the restart", d.dial(t, newKey(t), session.PathTCP).refused("page"), api.CodeLimit)
	if status := get(t, d.dial(t, known.key, session.PathTCP).connect("page"), "secret"); status != 200 {
		t.Errorf("after the restart: %d", status)
	}
}

// A failed password leaves a line, on the account of whose it was.
func TestFailedPasswordsLeaveALine(t *testing.T) {
	d := startDevice(t, serviceTOML("page", "http", lockedPage(t, "admin", "secret"))+application)
	owner := d.owner(t)
	nobody := d.dial(t, newKey(t), session.PathTCP)
	get(t, owner.connect("page"), "guess")
	get(t, nobody.connect("page"), "guess")
	entries, err := d.store.Audit(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		if e.What == acl.WhatTryFailed {
			found = append(found, fmt.Sprint(e.User, e.Kind, e.Service, e.Fingerprint == nobody.key.Fingerprint(), e.Source))
		}
	}
	if want := []string{"AlicepagefalseX", "anonymouspagetrueX"}; strings.ReplaceAll(strings.Join(found, " "), "127.0.0.1", "X") != strings.Join(want, " ") {
		t.Errorf("lines %q, want %q", found, want)
	}
}

// Who has guessed wrong waits, whatever he calls himself then.
func TestAnotherNameBringsNoTries(t *testing.T) {
	d := startDevice(t, serviceTOML("page", "http", lockedPage(t, "admin", "secret"))+application)
	d.owner(t)
	vic := d.member(t, "Vic", acl.RoleViewer, session.PathTCP)
	user, _ := d.store.UserOf(vic.key.Fingerprint())
	for range tries.FreeTries + 7 {
		d.tries.Asker(tries.Who{Service: "page", User: caller{user: user, paired: true}.account(), Key: vic.key.Fingerprint()}).Fail()
	}
	wantCode(t, "as Vic", vic.refused("page"), api.CodeLimit)
	vic.call("PATCH", "/v1/users/Vic", map[string]any{"name": "Victor"}, nil)
	wantCode(t, "as Victor", vic.refused("page"), api.CodeLimit)
}

// Strangers have places of their own, and one source not all of them.
func TestStrangersTakeNobodysPlace(t *testing.T) {
	e := echo(t)
	d := startDevice(t, serviceTOML("page", "http", e.address)+application+"[limits]\ntunnels = 2\ntunnels_per_peer = 2\n")
	owner := d.owner(t)
	nobody := d.dial(t, newKey(t), session.PathTCP)
	open := 0
	for range 32 {
		s, err := nobody.Connect(context.Background(), "page", false)
		if err != nil {
			wantCode(t, "one too many", nobody.refused("page"), api.CodeLimit)
			break
		}
		t.Cleanup(func() { _ = s.Close() })
		open++
	}
	if open != 8 {
		t.Errorf("one stranger has %d tunnels, want 8", open)
	}
	owner.connect("page")
	owner.connect("page")
	wantCode(t, "the owner's own limit", owner.refused("page"), api.CodeLimit)
}

// When the access is set back to role, who is nobody is cut, and who is somebody stays.
func TestAccessIsSetBack(t *testing.T) {
	e := listen(t, func(c net.Conn) { // waits for a request, and answers in pieces
		_, _ = bufio.NewReader(c).ReadString('\n')
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
	})
	d := startDevice(t, serviceTOML("page", "http", e.address)+application)
	owner, nobody := d.owner(t), d.dial(t, newKey(t), session.PathTCP)
	var streams []session.Stream
	for _, p := range []*peer{owner, nobody} {
		s := p.connect("page")
		if _, err := io.WriteString(s, "GET / HTTP/1.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		wantBytes(t, s, "HTTP/1.1 200 OK\r\n")
		streams = append(streams, s)
	}
	if err := d.Reload(parse(t, d.dir, text(d.dir, serviceTOML("page", "http", e.address)))); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(streams[1]); err == nil {
		t.Error("the stranger's tunnel ended as if in order")
	}
	testnet.Eventually(t, "one tunnel is left", func() error {
		if live := d.live(nil); len(live.Tunnels) != 1 || live.Tunnels[0].User != "Alice" {
			return fmt.Errorf("%+v", live.Tunnels)
		}
		return nil
	})
	if err := nobody.refused("page"); err == nil || err.Error() != stranger.Error() {
		t.Errorf("the stranger again: %v", err)
	}
	wantCode(t, "and the list", nobody.tryCall("GET", "/v1/services", nil, nil), api.CodeForbidden)
}

// A stranger is introduced where a service is open to all, by punching and by the
// relay, reaches that service alone, and is not once the access is set back.
func TestStrangersAreIntroduced(t *testing.T) {
	page := lockedPage(t, "admin", "secret")
	keys := newHubKeys(t)
	h := startHub(t, keys, 1, 0)
	d := startDevice(t, keys.toml()+serviceTOML("page", "http", page)+application+serviceTOML("inside", "http", page))
	d.waitAttached(t)
	d.enter(t, "Alice", acl.RoleOwner)
	k := newKey(t)
	_, punched := h.punch(d, k)
	relayed, err := h.relayed(d, h.introduce(d.ID(), k, netip.AddrPort{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*session.Client{punched, relayed} {
		p := &peer{Client: c, t: t, key: k}
		if status := get(t, p.connect("page"), "secret"); status != 200 {
			t.Errorf("%s: %d", c.Via(), status)
		}
		if err := p.refused("inside"); err == nil || err.Error() != stranger.Error() {
			t.Errorf("%s: %v", c.Via(), err)
		}
	}
	if err := d.Reload(parse(t, d.dir, text(d.dir, keys.toml()+serviceTOML("page", "http", page)))); err != nil {
		t.Fatal(err)
	}
	if v := h.introduce(d.ID(), newKey(t), netip.AddrPort{}); v.answer.Verdict != attach.VerdictNo {
		t.Errorf("once nothing is open to all: %v", v.answer.Verdict)
	}
}

// However many strangers ask, and hold legs, whoever is listed finds his place and
// pace; so does who has shown a password among those who guess.
func TestCrowdsDoNotMix(t *testing.T) {
	d := newDesk(t)
	yes := func() bool { return true }
	ask := func(peer uint64, place tunnel.Place) (*introduction, error) {
		d.next++
		in := attach.Introduction{Request: d.next}
		binary.BigEndian.PutUint64(in.Hash[:], d.next)
		return d.accept(d.ctx, &in, fingerprint(peer), place, yes)
	}
	var open []*introduction
	for n := range uint64(100) {
		if i, err := ask(1000+n, tunnel.PlaceStranger); err == nil {
			open = append(open, i)
		}
		for range 10 {
			d.hurried(tunnel.PlaceStranger)
		}
	}
	legs := 0
	for range strangersLegsOfPeer {
		for _, i := range open {
			if _, err := d.leg(i.request); err == nil {
				legs++
			}
		}
	}
	if len(open) != strangersIntroductions || legs != strangersLegs {
		t.Errorf("strangers have %d introductions and %d legs, want %d and %d", len(open), legs, strangersIntroductions, strangersLegs)
	}
	for place, want := range map[tunnel.Place]int{tunnel.PlaceListed: maxIntroductions, tunnel.PlaceKnown: strangersIntroductions} {
		n := 0
		for peer := range uint64(2 * maxIntroductions) {
			if d.hurried(place) {
				break
			}
			i, err := ask(uint64(place+1)*100+peer, place)
			if err != nil {
				break
			}
			if _, err := d.leg(i.request); err != nil {
				t.Errorf("place %d: %v", place, err)
			}
			n++
		}
		if n != want {
			t.Errorf("place %d: %d introductions beside the strangers, want %d", place, n, want)
		}
	}
}

// What has no password of its own cannot be open to all.
func TestApplicationNeedsAPassword(t *testing.T) {
	for _, kind := range []string{"ssh", "tcp"} {
		dir := shortDir(t)
		cfg := parse(t, dir, text(dir, serviceTOML("x", kind, "127.0.0.1:1")+application))
		_, err := New(Options{Config: cfg})
		if err == nil {
			t.Fatalf("%s is open to all", kind)
		}
		contains(t, kind, err.Error(), "keyholed.toml:12: service \"x\": access: a service of type "+kind+" has no password of its own")
	}
}
