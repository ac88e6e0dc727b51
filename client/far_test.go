package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// A device that answers on the LAN costs its basestation nothing.
func TestNearDeviceIsNotAskedForAfar(t *testing.T) {
	base := newTestBase(t)
	d := newTestDevice(t)
	f := d.attachTo(base, closedWays{})
	h := f.away()
	entry, err := h.Lookup("front")
	if err != nil {
		t.Fatal(err)
	}
	entry.Addresses = []string{d.address}
	if err := h.Remember(entry); err != nil {
		t.Fatal(err)
	}
	if conn := f.dialFar(h, DialOptions{}); conn.Via() != session.ViaDirect {
		t.Errorf("by %s", conn.Via())
	}
	if asked, _ := base.counts(); asked != 0 {
		t.Errorf("the basestation was asked %d times", asked)
	}
	// It has lost that address: the refusal ends the head start.
	entry.Addresses = []string{closedPort(t)}
	if err := h.Remember(entry); err != nil {
		t.Fatal(err)
	}
	if conn := f.dialFar(h, DialOptions{Paths: []session.Path{session.PathTCP}}); conn.Via() == session.ViaDirect {
		t.Errorf("by %s", conn.Via())
	}
}

func TestNoBasestationIsObeyed(t *testing.T) {
	base := newTestBase(t)
	f := newTestDevice(t).attachTo(base, closedWays{})
	var away *UnreachableError
	if _, err := f.away().Dial(t.Context(), "front", DialOptions{Find: -1, NoBasestation: true}); !errors.As(err, &away) {
		t.Error(err)
	}
	if asked, _ := base.counts(); asked != 0 {
		t.Errorf("the basestation was asked %d times", asked)
	}
	if _, err := f.paired().Dial(t.Context(), "front", DialOptions{Find: -1, RelayOnly: true}); !errors.Is(err, ErrNoBasestation) {
		t.Errorf("by relay, of a device without a basestation: %v", err)
	}
}

// A no may mean that the device is coming back just now.
func TestANoIsNotTheLastWordAtOnce(t *testing.T) {
	base := newTestBase(t)
	f := newTestDevice(t).attachTo(base, closedWays{})
	base.behave(habits{noes: mostAsks - 1})
	f.dialFar(f.away(), DialOptions{})
	base.behave(habits{noes: 100})
	var no *NotIntroducedError
	if _, err := f.away().Dial(t.Context(), "front", DialOptions{Find: -1}); !errors.As(err, &no) || no.Offline {
		t.Errorf("endless noes: %v", err)
	}
	if asked, _ := base.counts(); asked != 2*mostAsks {
		t.Errorf("asked %d times", asked)
	}
}

func TestOfflineSince(t *testing.T) {
	base := newTestBase(t)
	f := newTestDevice(t).attachTo(base, closedWays{})
	since := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	base.behave(habits{away: uint64(since.Unix())})
	_, err := f.away().Dial(t.Context(), "front", DialOptions{Find: -1})
	var no *NotIntroducedError
	if !errors.As(err, &no) || !no.Offline || !no.Since.Equal(since) || !strings.Contains(err.Error(), "offline since 2026-03-01 12:00:00") {
		t.Error(err)
	}
	if asked, _ := base.counts(); asked != 1 {
		t.Errorf("asked %d times for a device that is away", asked)
	}
	for _, odd := range []uint64{1 << 63, 1<<64 - 1} {
		if e := notIntroduced(attach.NotIntroduced{Verdict: attach.VerdictOffline, Since: odd}); !e.Since.IsZero() {
			t.Errorf("offline since %v", e.Since)
		}
	}
}

func TestStrangerIsNotIntroduced(t *testing.T) {
	base := newTestBase(t)
	f := newTestDevice(t).attachTo(base, closedWays{})
	h := f.away()
	f.let(h.Key().Fingerprint(), "")
	var no *NotIntroducedError
	if _, err := h.Dial(t.Context(), "front", DialOptions{Find: -1}); !errors.As(err, &no) {
		t.Error(err)
	}
}

// A hostile basestation can refuse, and that is all: what it changes is noticed, or
// leads to somebody who cannot prove the device's key.
func TestHostileBasestationGainsNothing(t *testing.T) {
	other, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	swapped := newTestDevice(t) // waits for whoever is led to it
	for name, bad := range map[string]struct {
		habits habits
		want   error
		meet   bool // somebody else is met, and found out
	}{
		"swapped key": {habits{twist: func(i *attach.Introduced) {
			i.Offer, _ = attach.SignOffer(other, [32]byte{}, other.ID(), other.Fingerprint(), attach.UDP, nil)
		}}, ErrBasestation, false},
		"no signature": {habits{twist: func(i *attach.Introduced) { i.Offer.Signature = nil }}, ErrBasestation, false},
		"forged candidates": {habits{twist: func(i *attach.Introduced) {
			i.Offer.Candidates = attach.EncodeAddresses([]netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:22")})
		}}, ErrBasestation, false},
		"another transport": {habits{twist: func(i *attach.Introduced) { i.Offer.Transport = attach.TCP }}, ErrBasestation, false},
		"forged node": {habits{twist: func(i *attach.Introduced) {
			i.Observed, i.Certificate = attach.Address{}, make([]byte, 150)
			i.Ticket = attach.NewTicket()
		}}, ErrBasestation, false},
		"somebody else at the relay": {habits{twist: func(i *attach.Introduced) { i.Observed = attach.Address{} }, twist2: forgedTCP,
			meet: func(c net.Conn) { swapped.server.ServeConn(c, session.ViaRelay) }}, ErrBasestation, true},
		"a relay that listens": {habits{twist: func(i *attach.Introduced) { i.Observed = attach.Address{} }, twist2: forgedTCP,
			meet: func(c net.Conn) {
				var heard bytes.Buffer
				_, _ = io.CopyN(&heard, c, 200)
				if bytes.Contains(heard.Bytes(), []byte("/v1/")) {
					t.Errorf("the relay read %q", heard.Bytes())
				}
				_ = c.Close()
			}}, errNoWay, false},
		"silence": {habits{mute: true}, errUnanswered, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := newTestBase(t)
			f := newTestDevice(t).attachTo(base, closedWays{udp: true})
			base.behave(bad.habits)
			o := DialOptions{Find: -1}
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			conn, err := f.away().Dial(ctx, "front", o)
			if err == nil {
				conn.Close()
				t.Fatalf("a session by %s", conn.Via())
			}
			if !errors.Is(err, bad.want) {
				t.Errorf("%v, want %v", err, bad.want)
			}
			var wrong *identity.MismatchError
			if bad.meet != (errors.As(err, &wrong) && wrong.Got == swapped.key.Fingerprint()) {
				t.Errorf("somebody else answered: %v; %v", bad.meet, err)
			}
			if line := (&Line{options: o}); line.inVain(err) {
				t.Errorf("a line would give up: %v", err)
			}
		})
	}
}

func forgedTCP(c *attach.Candidates) { c.Offer.Signature = []byte("forged") }

// A basestation on the Internet sees nobody at a private address: what it says so is
// no reason to send packets into the own network.
func TestOddAddressesAreNotSentTo(t *testing.T) {
	public, home := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.0.0.1")
	for _, c := range []struct {
		seen string
		node netip.Addr
		want bool
	}{
		{"198.51.100.1:7443", public, true}, {"10.0.0.5:80", public, false}, {"127.0.0.1:22", public, false},
		{"[::1]:22", home, false}, {"[fe80::1]:22", public, false}, {"100.64.0.1:80", public, false},
		{"10.0.0.5:80", home, true}, {"127.0.0.1:7443", netip.MustParseAddr("127.0.0.1"), true},
	} {
		if got := plausible(netip.MustParseAddrPort(c.seen), c.node); got != c.want {
			t.Errorf("%s seen by %s: %v", c.seen, c.node, got)
		}
	}
}

// Bulk tunnels through a relay have legs of their own.
func TestRelayedTunnels(t *testing.T) {
	base := newTestBase(t)
	f := newTestDevice(t, service(t, "store", "tcp", serveTCP(t, digest))).attachTo(base, closedWays{udp: true, tcp: true})
	conn := f.dialFar(f.away(), DialOptions{Tunnels: true})
	for range 3 {
		stream, err := conn.Connect(t.Context(), "store", "tcp")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Write(noise[:1<<20]); err != nil {
			t.Fatal(err)
		}
		if err := stream.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(stream)
		if want := sha256.Sum256(noise[:1<<20]); err != nil || string(got) != string(want[:]) {
			t.Errorf("%d bytes came back, %v", len(got), err)
		}
		_ = stream.Close()
	}
	testnet.Until(t, "the pool is filled when the tunnels are quiet", func() bool {
		_, relayed := base.counts()
		return relayed >= 1+relayWarm
	})
}

// A relay that grants no further legs carries everything on the first one. That the
// pool of connections fails is no reason to lose a session that stands.
func TestRelayThatGrantsOneLeg(t *testing.T) {
	base := newTestBase(t)
	base.behave(habits{stingy: true})
	f := newTestDevice(t, service(t, "store", "tcp", serveTCP(t, digest))).attachTo(base, closedWays{udp: true, tcp: true})
	conn := f.dialFar(f.away(), DialOptions{Tunnels: true})
	testnet.Eventually(t, "the pool asks for a leg", func() error {
		base.mu.Lock()
		defer base.mu.Unlock()
		if base.refused == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	stream, err := conn.Connect(t.Context(), "store", "tcp")
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Close()
	if _, relayed := base.counts(); relayed != 1 || conn.Via() != session.ViaRelay {
		t.Errorf("%d legs, by %s", relayed, conn.Via())
	}
}

// With node and cookie remembered the question goes to the node at once; where only
// the relay worked, it is not waited for again. A cache that cannot be read costs a
// round trip, and nothing else.
func TestWhatIsRememberedOfAnIntroduction(t *testing.T) {
	t.Parallel()
	base := newTestBase(t)
	d := newTestDevice(t)
	f := d.attachTo(base, closedWays{udp: true, tcp: true})
	h := f.away()
	f.dialFar(h, DialOptions{}).Close()
	if r := h.recall(d.key.Fingerprint()); r.Relayed {
		t.Errorf("the relay was quick, which says nothing of the rest: %+v", r)
	}
	entry, err := h.Lookup("front")
	if err != nil {
		t.Fatal(err)
	}
	g, err := h.Diagnose(t.Context(), entry, DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	g.Close()
	r := h.recall(d.key.Fingerprint())
	if r.Address != base.at.String() || len(r.Certificate) == 0 || len(r.Cookie) == 0 || !r.Relayed || r.Blocked {
		t.Errorf("%+v", r)
	}
	if elsewhere := r.here("192.0.2.0/24"); elsewhere.Relayed || elsewhere.Cookie != nil {
		t.Errorf("in another network: %+v", elsewhere)
	}
	began := time.Now()
	f.dialFar(h, DialOptions{}).Close()
	t.Logf("relayed again after %v", time.Since(began))
	f.change(closedWays{tcp: true})
	f.dialFar(h, DialOptions{directOnly: true}).Close()
	if r := h.recall(d.key.Fingerprint()); r.Relayed {
		t.Errorf("it was punched: %+v", r)
	}
	for _, bad := range []string{"", "{}", "[{]", `[{"device":"x"}]`, strings.Repeat(" ", maxRecallBytes+1)} {
		if err := os.WriteFile(h.recallPath(), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := h.recall(d.key.Fingerprint()); r.Cookie != nil || r.Device != d.key.Fingerprint() {
			t.Errorf("%.20q: %+v", bad, r)
		}
	}
	r.Cookie[3] ^= 1 // as of another address, or too old
	if err := h.keep(r); err != nil {
		t.Fatal(err)
	}
	f.dialFar(h, DialOptions{}).Close()
}

func TestWhatMayAnswerAtOnce(t *testing.T) {
	for _, c := range []struct {
		addresses []string
		want      bool
	}{
		{nil, false},
		{[]string{"192.0.2.1:7443"}, true},
		{[]string{"[2001:db8::1]:7443"}, true},
		{[]string{"camera.example.net:7443"}, true},
		{[]string{"127.0.0.1:7443"}, true},
		{[]string{"10.254.253.252:7443"}, false}, // of a network that we are not in
		{[]string{"[fe80::1%eth0]:7443"}, true},
		{[]string{"[fe80::1%eth0]:7443", "10.254.253.252:7443"}, false},
	} {
		if got := nearby(c.addresses); got != c.want {
			t.Errorf("%v: %v, want %v", c.addresses, got, c.want)
		}
	}
}
