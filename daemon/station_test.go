package daemon

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/reach"
	"github.com/keyholed/keyhole/protocol/session"
)

// attached is a device at its hub.
func attached(t *testing.T, more string) (*device, *hub) {
	t.Helper()
	keys := newHubKeys(t)
	h := startHub(t, keys, 1, 0)
	d := startDevice(t, keys.toml()+more)
	d.waitAttached(t)
	return d, h
}

func (d *device) waitAttached(t *testing.T) {
	t.Helper()
	testnet.Eventually(t, "attached", func() error {
		if s := d.Status().Basestation; s.State != control.BasestationAttached {
			return errors.New(s.State + ": " + s.Error)
		}
		return nil
	})
}

func (d *device) keptState(t testing.TB) stationState {
	t.Helper()
	var s stationState
	if err := readSealed(filepath.Join(d.dir, "identity", stationName), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDeviceAttaches(t *testing.T) {
	keys := newHubKeys(t)
	h := startHub(t, keys, 7, 3)
	dir := shortDir(t)
	toml := text(dir, keys.toml())
	d := startIn(t, dir, toml)
	d.waitAttached(t)
	s := d.Status().Basestation
	if s.Address != keys.address || s.Path != "udp" || s.Observed != d.sockets[0].LocalAddr().String() || s.Error != "" {
		t.Errorf("status %+v", s)
	}
	testnet.Eventually(t, "the node is kept", func() error {
		kept := d.file()
		if kept.Good != keys.address || len(kept.Certificate) == 0 || len(kept.Cookie) == 0 || kept.Boots != 1 {
			return errors.New("kept is not all")
		}
		return nil
	})
	if kept := d.keptState(t); len(kept.Roots) != 1 || kept.Roots[0] != (rootFloor{keys.text(), 3}) {
		t.Errorf("floors %+v, want 3 of the root", kept.Roots)
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	again := startIn(t, dir, toml)
	again.waitAttached(t)
	var boots []uint32
	h.do(func(time.Duration) { boots = slices.Clone(h.boots) })
	if !slices.Equal(boots, []uint32{1, 2}) {
		t.Errorf("boots were told as %v", boots)
	}
}

func (d *device) file() stationState { return d.station.file.now() }

// The basestation is asked from the socket that reaches it, whatever is listed
// first.
func TestWidestSocket(t *testing.T) {
	open := func(address string) *session.Socket {
		t.Helper()
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
		if err != nil {
			t.Fatal(err)
		}
		s := session.NewSocket(udp)
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	one, other, all := open("127.0.0.1:0"), open("127.0.0.2:0"), open("0.0.0.0:0")
	if got := widest([]*session.Socket{one, other}); got != one {
		t.Errorf("of two on loopback it is %s", got.LocalAddr())
	}
	if got := widest([]*session.Socket{one, other, all}); got != all {
		t.Errorf("it is %s, want the one for all addresses", got.LocalAddr())
	}
}

func TestDeviceWithoutBasestation(t *testing.T) {
	d := startDevice(t, "")
	if s := d.Status().Basestation; s != (control.Basestation{State: "off"}) {
		t.Errorf("status %+v", s)
	}
	if _, err := os.Stat(filepath.Join(d.dir, "identity", stationName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file is there: %v", err)
	}
	var me map[string]any
	_, data := d.owner(t).ask("GET", "/v1/me", nil)
	decodeLoose(t, data, &me)
	if _, there := me["basestation"]; there {
		t.Error("it names a basestation")
	}
}

// A basestation that is away keeps the device neither from being ready nor from
// serving its own network.
func TestUnreachableBasestation(t *testing.T) {
	d := startDevice(t, newHubKeys(t).toml())
	d.owner(t)
	if s := d.Status().Basestation; s.State != control.BasestationConnecting {
		t.Errorf("status %+v", s)
	}
}

func TestRefusedAndDuplicate(t *testing.T) {
	for code, want := range map[attach.Code]string{
		attach.CodeRefused:   "does not know this device",
		attach.CodeDuplicate: "another device with this device's key",
	} {
		t.Run(want, func(t *testing.T) {
			keys := newHubKeys(t)
			h := startHub(t, keys, 1, 0)
			h.do(func(time.Duration) { h.refuse = code })
			d := startDevice(t, keys.toml())
			testnet.Eventually(t, "a warning", func() error {
				if w := strings.Join(d.Status().Warnings, "\n"); !strings.Contains(w, want) {
					return errors.New(w + "; " + d.Status().Basestation.Error)
				}
				return nil
			})
			if code == attach.CodeDuplicate { // once, however often it is told so
				d.last(t, acl.WhatDuplicate)
				if n := len(d.entries(t, acl.WhatDuplicate)); n != 1 {
					t.Errorf("%d lines tell of it", n)
				}
			}
		})
	}
}

func TestIntroducedOverUDP(t *testing.T) {
	service := echo(t)
	d, h := attached(t, serviceTOML("echo", "tcp", service.address))
	k := d.enter(t, "Alice", acl.RoleOwner)
	_, c := h.punch(d, k)
	p := &peer{Client: c, t: t, key: k}
	var me api.Me
	p.call("GET", "/v1/me", nil, &me)
	if me.Via != "punched" || me.Path != "quic" || me.User != "Alice" {
		t.Errorf("it is %+v", me)
	}
	stream, err := c.Connect(context.Background(), "echo", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(stream, "hello"); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, stream, "hello")
}

// Both sides learn where their TCP ports are seen, tell each other, and connect at
// the same moment.
func TestIntroducedOverTCP(t *testing.T) {
	d, h := attached(t, "")
	k := d.enter(t, "Alice", acl.RoleOwner)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	l, err := reach.ListenReusable(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case accepted <- conn:
			case <-ctx.Done():
				_ = conn.Close()
			}
		}
	}()
	defer func() { _ = l.Close(); <-done }()
	v := h.introduce(d.ID(), k, netip.MustParseAddrPort(l.Addr().String())) // stands for the same machine
	var theirs attach.Candidates
	h.hears(attach.KindCandidates, &theirs)
	if _, err := theirs.Offer.CheckDevice(v.hash, d.ID(), k.Fingerprint()); err != nil || theirs.Request != v.request || theirs.Offer.Transport != attach.TCP {
		t.Fatalf("%+v, %v", theirs, err)
	}
	if at := theirs.Offer.Addresses(); len(at) == 0 || at[0].String() != d.address() {
		t.Fatalf("the device is to be met at %v, want %s", at, d.address())
	}
	port := l.Addr().(*net.TCPAddr).Port
	seen, question, err := reach.Observe(ctx, port, netip.MustParseAddrPort(h.tcp.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	defer question.Close()
	offer, err := attach.SignOffer(k, v.hash, d.ID(), d.Fingerprint(), attach.TCP, []netip.AddrPort{seen})
	if err != nil {
		t.Fatal(err)
	}
	h.tell(attach.KindCandidates, attach.Candidates{Request: v.request, Offer: offer})
	h.introduce(d.ID(), newKey(t), netip.AddrPort{}) // answered behind it
	for conn := range reach.MeetTCP(ctx, port, theirs.Offer.Addresses(), accepted) {
		c, err := session.DialConn(ctx, func(context.Context) (net.Conn, error) { return conn, nil }, session.ViaPunched,
			session.DialConfig{Key: k, Pin: identity.PinFingerprint(d.Fingerprint())})
		if err != nil {
			t.Log(err)
			continue
		}
		var me api.Me
		(&peer{Client: c, t: t, key: k}).call("GET", "/v1/me", nil, &me)
		if me.Via != "punched" || me.Path != "tcp" {
			t.Errorf("it is %+v", me)
		}
		c.Close()
		return
	}
	t.Fatal("they did not meet")
}

func TestRelayed(t *testing.T) {
	d, h := attached(t, "")
	k := d.enter(t, "Alice", acl.RoleOwner)
	v := h.introduce(d.ID(), k, netip.AddrPort{})
	c, err := h.relayed(d, v)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{Client: c, t: t, key: k}
	var me api.Me
	p.call("GET", "/v1/me", nil, &me)
	if me.Via != "relay" || me.Path != "tcp" {
		t.Errorf("it is %+v", me)
	}
	if s := d.Status().Basestation; s.Relayed != 1 || s.Introductions != 1 {
		t.Errorf("status %+v", s)
	}
	// Whoever else is at the other end gets no session, not even a stranger's.
	l := h.leg(v.request)
	other := d.enter(t, "Bob", acl.RoleViewer)
	if c, err := session.DialConn(context.Background(), func(context.Context) (net.Conn, error) { return l.Conn, nil }, session.ViaRelay,
		session.DialConfig{Key: other, Pin: identity.TrustAsFound}); err == nil {
		r, _ := http.NewRequest("GET", "https://device/v1/hello", nil)
		if answer, err := c.RoundTrip(r); err == nil {
			t.Errorf("another key got %s", answer.Status)
			_ = answer.Body.Close()
		}
		c.Close()
	}
	c.Close()
	testnet.Eventually(t, "no leg is left", func() error {
		if s := d.Status().Basestation; s.Relayed != 0 {
			return errors.New("still relayed")
		}
		return nil
	})
}

// A revocation cuts what came by the basestation, introduces the key no more, and
// voids presence passes.
func TestRevocationBeyondTheLAN(t *testing.T) {
	d, h := attached(t, "")
	d.enter(t, "Alice", acl.RoleOwner)
	k := d.enter(t, "Bob", acl.RoleViewer)
	var first attach.Presence
	h.hears(attach.KindPresence, &first)
	v, punched := h.punch(d, k)
	relayed, err := h.relayed(d, v)
	if err != nil {
		t.Fatal(err)
	}
	var me api.Me
	(&peer{Client: relayed, t: t, key: k}).call("GET", "/v1/me", nil, &me)
	if me.Basestation == nil || !slices.Equal(me.Basestation.Addresses, d.config().Basestation.Addresses) || !slices.Equal(me.Basestation.Keys, d.config().Basestation.Keys) {
		t.Fatalf("me names %+v", me.Basestation)
	}
	epoch, err := attach.CheckPresencePass(me.Basestation.Presence, d.ID(), k.Fingerprint())
	if err != nil || epoch < first.Epoch {
		t.Fatalf("a pass of epoch %d, %v; the basestation was told %d", epoch, err, first.Epoch)
	}
	if _, err := d.store.Revoke("Bob", acl.By{Via: "test"}); err != nil {
		t.Fatal(err)
	}
	<-punched.Done()
	<-relayed.Done()
	var next attach.Presence
	h.hears(attach.KindPresence, &next)
	if next.Epoch <= epoch {
		t.Errorf("epoch %d after the revocation, the pass has %d", next.Epoch, epoch)
	}
	if kept := d.keptState(t); kept.Presence != next.Epoch {
		t.Errorf("kept is %d, told was %d", kept.Presence, next.Epoch)
	}
	if v := h.introduce(d.ID(), k, netip.AddrPort{}); v.answer.Verdict == attach.VerdictYes {
		t.Error("it is introduced again")
	}
	h.tell(attach.KindRelay, attach.Relay{Request: v.request, Ticket: attach.NewTicket()})
	wantNoLeg(t, h, d)
}

// wantNoLeg has the device say something after whatever was told before, and sees
// that no leg came.
func wantNoLeg(t *testing.T, h *hub, d *device) {
	t.Helper()
	h.introduce(d.ID(), newKey(t), netip.AddrPort{})
	if n := len(h.legs); n != 0 {
		t.Errorf("%d legs were opened", n)
	}
	if s := d.Status().Basestation; s.Relayed != 0 {
		t.Errorf("%d legs are counted", s.Relayed)
	}
}

// What came by a basestation is not local, though its connection begins on this
// very machine: no way of pairing is offered to it and none works.
func TestNothingFromBeyondIsLocal(t *testing.T) {
	for _, via := range []session.Via{session.ViaPunched, session.ViaRelay, session.ViaDirect} {
		t.Run(string(via), func(t *testing.T) {
			d := startDevice(t, simulated)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			k := newKey(t)
			c, err := session.DialConn(context.Background(), func(ctx context.Context) (net.Conn, error) {
				conn, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					return nil, err
				}
				other, err := l.Accept()
				if err != nil {
					return nil, err
				}
				d.server.ServeConn(other, via)
				return conn, nil
			}, via, session.DialConfig{Key: k, Pin: identity.PinFingerprint(d.Fingerprint())})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			p := &peer{Client: c, t: t, key: k}
			if err := d.window.Open(); err != nil {
				t.Fatal(err)
			}
			var hello api.Hello
			p.call("GET", "/v1/hello", nil, &hello)
			_, _, err = p.begin("Mallory")
			if local := via == session.ViaDirect; local != (len(hello.Pairing.Modes) > 0) || local != (err == nil) {
				t.Errorf("offered %v, asking to pair: %v", hello.Pairing.Modes, err)
			}
			if err != nil {
				wantCode(t, "pairing", err, api.CodeClosed)
			}
		})
	}
}
