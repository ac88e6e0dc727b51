package client

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/reach"
	"github.com/keyholed/keyhole/protocol/session"
)

// farSide is what a device does to be met through a basestation.
type farSide struct {
	*testDevice
	base    *testBase
	socket  *session.Socket
	puncher *reach.Puncher
	link    *reach.Link
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	closed   closedWays
	accepted map[uint64]*introducedClient
}

// closedWays are the ways that do not work.
type closedWays struct{ udp, tcp, relay bool }

type introducedClient struct {
	attach.Introduction
	from identity.Fingerprint
}

// attachTo makes a device known at a basestation, over its own UDP socket.
func (d *testDevice) attachTo(b *testBase, closed closedWays) *farSide {
	d.t.Helper()
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		d.t.Fatal(err)
	}
	f := &farSide{testDevice: d, base: b, socket: session.NewSocket(udp), closed: closed, accepted: map[uint64]*introducedClient{}}
	f.ctx, f.stop = context.WithCancel(context.Background())
	f.puncher = reach.NewPuncher(f.socket, nil)
	f.puncher.OnProven(f.socket.Proven)
	told := b.told()
	f.link, err = reach.NewLink(reach.LinkConfig{Key: d.key, Roots: (Basestation{Addresses: told.Addresses, Keys: told.Keys}).roots(), Addresses: told.Addresses, Packets: f.socket, Message: f.message})
	if err != nil {
		d.t.Fatal(err)
	}
	f.socket.OnPacket(func(from netip.AddrPort, p []byte) {
		if !f.puncher.Deliver(from, p) {
			f.link.Deliver(from, p)
		}
	})
	f.running.Go(func() { _ = f.server.ServeSocket(f.socket) })
	f.running.Go(func() { _ = f.link.Run(f.ctx) })
	d.tell(told)
	d.t.Cleanup(func() {
		f.stop()
		_ = f.server.Close()
		_ = f.socket.Close()
		f.running.Wait()
	})
	testnet.Until(d.t, "attached", func() bool { return b.attached(d.key.Fingerprint()) })
	return f
}

func (f *farSide) message(k attach.Kind, body []byte) {
	switch k {
	case attach.KindIntroduction:
		var i attach.Introduction
		if attach.Decode(body, &i) == nil {
			f.introduced(i)
		}
	case attach.KindCandidates:
		var c attach.Candidates
		if attach.Decode(body, &c) == nil && !f.ways().tcp {
			if who := f.of(c.Request); who != nil {
				f.running.Go(func() { f.meetTCP(who, c) })
			}
		}
	case attach.KindRelay:
		var r attach.Relay
		if attach.Decode(body, &r) == nil && !f.ways().relay {
			if who := f.of(r.Request); who != nil {
				f.running.Go(func() { f.relay(who, r.Ticket) })
			}
		}
	}
}

func (f *farSide) ways() closedWays {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// change closes and opens ways.
func (f *farSide) change(c closedWays) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = c
}

func (f *farSide) of(request uint64) *introducedClient {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.accepted[request]
}

func (f *farSide) introduced(i attach.Introduction) {
	from, err := i.Check(f.key.ID())
	if err != nil || !f.known(from) {
		_ = f.link.Send(attach.KindAnswer, attach.Answer{Request: i.Request, Verdict: attach.VerdictNo})
		return
	}
	f.mu.Lock()
	f.accepted[i.Request] = &introducedClient{i, from}
	f.mu.Unlock()
	offer, err := attach.SignOffer(f.key, i.Hash, f.key.ID(), from, attach.UDP, nil)
	if err != nil {
		f.t.Error(err)
	}
	_ = f.link.Send(attach.KindAnswer, attach.Answer{Request: i.Request, Verdict: attach.VerdictYes, Offer: offer})
	if f.ways().udp {
		return
	}
	f.server.Expect(netip.AddrPortFrom(i.Observed.Addr(), 0)) // his QUIC may be looked at before his proof
	f.running.Go(func() {
		for range f.puncher.Punch(f.ctx, i.Hash, []netip.AddrPort{i.Observed.AddrPort}) {
			// OnProven has seen to it.
		}
	})
}

// meetTCP meets the client from a port of its own; the daemon does from the one
// it listens on.
func (f *farSide) meetTCP(who *introducedClient, c attach.Candidates) {
	if c.Offer.CheckClient(who.Hash, f.key.Fingerprint(), who.Introduce.PublicKey) != nil {
		f.t.Error("the client's offer is not its own")
		return
	}
	l, err := reach.ListenReusable(f.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Error(err)
		return
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	f.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.server.ServeIntroduced(conn, session.ViaPunched, who.from, nil)
		}
	})
	seen, observing, err := reach.Observe(f.ctx, port, f.base.at)
	if err != nil {
		return
	}
	defer observing.Close()
	offer, err := attach.SignOffer(f.key, who.Hash, f.key.ID(), who.from, attach.TCP, []netip.AddrPort{seen})
	if err != nil {
		f.t.Error(err)
	}
	_ = f.link.Send(attach.KindCandidates, attach.Candidates{Request: c.Request, Offer: offer})
	for conn := range reach.MeetTCP(f.ctx, port, c.Offer.Addresses(), nil) {
		f.server.ServeIntroduced(conn, session.ViaPunched, who.from, nil)
	}
}

func (f *farSide) relay(who *introducedClient, t attach.Ticket) {
	conn, err := reach.RelayLeg(f.ctx, []netip.AddrPort{f.base.at}, t)
	if err == nil {
		f.server.ServeIntroduced(conn, session.ViaRelay, who.from, nil)
	}
}

// away returns a Home that knows the device only by its basestation.
func (f *farSide) away() *Home {
	f.t.Helper()
	h := f.paired()
	entry := f.entry()
	entry.Addresses = nil
	told := f.base.told()
	entry.Basestation = Basestation{Addresses: told.Addresses, Keys: told.Keys}
	if err := h.Remember(entry); err != nil {
		f.t.Fatal(err)
	}
	return h
}

func (f *farSide) dialFar(h *Home, o DialOptions) *Conn {
	f.t.Helper()
	o.Find = -1
	conn, err := h.Dial(f.t.Context(), "front", o)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(conn.Close)
	return conn
}

func TestFarPaths(t *testing.T) {
	for name, c := range map[string]struct {
		closed  closedWays
		options DialOptions
		via     session.Via
		path    session.Path
	}{
		"punched UDP":           {closed: closedWays{tcp: true}, via: session.ViaPunched, path: session.PathQUIC},
		"punched TCP":           {closed: closedWays{udp: true}, via: session.ViaPunched, path: session.PathTCP},
		"relay":                 {closed: closedWays{udp: true, tcp: true}, via: session.ViaRelay, path: session.PathTCP},
		"relay as was asked":    {options: DialOptions{RelayOnly: true}, via: session.ViaRelay, path: session.PathTCP},
		"only TCP is permitted": {options: DialOptions{Paths: []session.Path{session.PathTCP}}, via: session.ViaPunched, path: session.PathTCP},
	} {
		t.Run(name, func(t *testing.T) {
			base := newTestBase(t)
			d := newTestDevice(t, service(t, "store", "tcp", serveTCP(t, digest)))
			f := d.attachTo(base, c.closed)
			h := f.away()
			conn := f.dialFar(h, c.options)
			if conn.Via() != c.via || conn.Path() != c.path || conn.Trust() != TrustPinned {
				t.Errorf("%s by %s, %s; want %s by %s", conn.Path(), conn.Via(), conn.Trust(), c.path, c.via)
			}
			if me, err := conn.Me(t.Context()); err != nil || me.User != "Alice" {
				t.Errorf("%+v, %v", me, err)
			}
			if got, _ := h.Lookup("front"); len(got.Addresses) != 0 {
				t.Errorf("the address of a hole was remembered: %v", got.Addresses)
			}
		})
	}
}
