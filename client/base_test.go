package client

import (
	"crypto/ed25519"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// testBase is a basestation of one node: the real protocol, with introductions and a
// relay of a few lines, and with switches for each bad habit.
type testBase struct {
	t       testing.TB
	root    *identity.Key
	at      netip.AddrPort
	udp     *net.UDPConn
	tcp     net.Listener
	began   time.Time
	running sync.WaitGroup
	over    chan struct{}

	mu      sync.Mutex
	node    *attach.Node
	asks    map[uint64]asking          // by request
	number  uint64                     // of the latest request
	pairs   map[attach.Ticket]uint64   // client tickets
	legs    map[attach.Ticket]net.Conn // device tickets, with the client's leg
	conns   []net.Conn
	relayed int // legs of clients
	refused int // further tickets
	asked   int // introductions
	habits  habits
}

type asking struct {
	client attach.Peer
	device attach.Peer
	what   *attach.Introduce
}

// habits of a bad basestation.
type habits struct {
	mute   bool                       // no answer to a question
	noes   int                        // says no so often, at once
	away   uint64                     // says offline since, in seconds
	twist  func(*attach.Introduced)   // changes the answer
	twist2 func(c *attach.Candidates) // changes what the device offers later
	meet   func(net.Conn)             // serves the legs of clients
	stingy bool                       // grants no further ticket
}

func newTestBase(t testing.TB) *testBase {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &testBase{t: t, began: time.Now(), over: make(chan struct{}), asks: map[uint64]asking{}, pairs: map[attach.Ticket]uint64{}, legs: map[attach.Ticket]net.Conn{}}
	if b.root, err = identity.New(private); err != nil {
		t.Fatal(err)
	}
	for { // one port for both
		if b.tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		b.at = b.tcp.Addr().(*net.TCPAddr).AddrPort()
		if b.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(b.at)); err == nil {
			break
		}
		_ = b.tcp.Close()
	}
	b.start()
	b.running.Go(b.readUDP)
	b.running.Go(b.acceptTCP)
	b.running.Go(b.tick)
	t.Cleanup(func() {
		close(b.over)
		_ = b.udp.Close()
		_ = b.tcp.Close()
		b.mu.Lock()
		for _, c := range b.conns {
			_ = c.Close()
		}
		b.mu.Unlock()
		b.running.Wait()
	})
	return b
}

func (b *testBase) start() {
	secret := attach.Secret{1, 2, 3}
	public, err := attach.PublicKey(secret)
	if err != nil {
		b.t.Fatal(err)
	}
	certificate, err := attach.SignCertificate(b.root, attach.Certificate{Generation: 2, Floor: 1, Key: public, Addresses: []netip.AddrPort{b.at}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.node, err = attach.NewNode(attach.NodeConfig{
		PrivateKey: secret, Certificate: certificate, ResetKey: attach.Secret{9},
		Send:      func(to netip.AddrPort, p []byte) { _, _ = b.udp.WriteToUDPAddrPort(p, to) },
		Ask:       func(now time.Duration, r *attach.Request) { _ = b.node.Answer(now, r.Index, attach.CodeAccepted) },
		Introduce: b.introduce,
		Message:   b.message,
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// told is what a device says of this basestation.
func (b *testBase) told() *api.Basestation {
	return &api.Basestation{Addresses: []string{b.at.String()}, Keys: []string{attach.FormatRootKey(b.root.Public().(ed25519.PublicKey))}}
}

func (b *testBase) behave(h habits) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.habits = h
}

func (b *testBase) counts() (asked, relayed int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked, b.relayed
}

func (b *testBase) attached(f identity.Fingerprint) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, there := b.node.Device(f)
	return there
}

func (b *testBase) now() time.Duration { return time.Since(b.began) }

func (b *testBase) readUDP() {
	buf := make([]byte, 2000)
	for {
		n, from, err := b.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		b.mu.Lock()
		b.node.Receive(b.now(), netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), buf[:n])
		b.mu.Unlock()
	}
}

func (b *testBase) tick() {
	timer := time.NewTicker(attach.TickEvery)
	defer timer.Stop()
	for {
		select {
		case <-b.over:
			return
		case <-timer.C:
			b.mu.Lock()
			b.node.Tick(b.now())
			b.mu.Unlock()
		}
	}
}

func (b *testBase) send(to uint64, k attach.Kind, body any) {
	data, err := attach.Encode(body)
	if err == nil {
		err = b.node.Send(b.now(), to, k, data)
	}
	if err != nil {
		b.t.Logf("basestation: kind %d: %v", k, err)
	}
}

func (b *testBase) introduce(_ time.Duration, from attach.Peer, i *attach.Introduce) {
	b.asked++
	no := attach.NotIntroduced{Verdict: attach.VerdictNo}
	switch h := &b.habits; {
	case h.mute:
		return
	case h.noes > 0:
		h.noes--
		b.send(from.Index, attach.KindNotIntroduced, no)
		return
	case h.away != 0:
		b.send(from.Index, attach.KindNotIntroduced, attach.NotIntroduced{Verdict: attach.VerdictOffline, Since: h.away, Reason: attach.CloseSilent})
		return
	}
	for p := range b.node.Peers {
		if p.Fingerprint.ID() != i.Device {
			continue
		}
		b.number++
		b.asks[b.number] = asking{from, p, i}
		observed := from.Address
		b.send(p.Index, attach.KindIntroduction, attach.NewIntroduction(b.number, from.Hash, i, observed))
		return
	}
	b.send(from.Index, attach.KindNotIntroduced, no)
}

func (b *testBase) message(_ time.Duration, from attach.Peer, k attach.Kind, body []byte) {
	switch k {
	case attach.KindAnswer:
		var a attach.Answer
		if attach.Decode(body, &a) != nil {
			return
		}
		ask := b.asks[a.Request]
		if a.Verdict != attach.VerdictYes {
			b.send(ask.client.Index, attach.KindNotIntroduced, attach.NotIntroduced{Verdict: attach.VerdictNo})
			return
		}
		yes := attach.Introduced{Offer: a.Offer, Observed: attach.Address{AddrPort: from.Address}, Ticket: b.ticket(a.Request)}
		if b.habits.twist != nil {
			b.habits.twist(&yes)
		}
		b.send(ask.client.Index, attach.KindIntroduced, yes)
	case attach.KindCandidates:
		var c attach.Candidates
		if attach.Decode(body, &c) != nil {
			return
		}
		if from.Client {
			for request, ask := range b.asks {
				if ask.client.Index == from.Index {
					b.send(ask.device.Index, k, attach.Candidates{Request: request, Offer: c.Offer})
				}
			}
			return
		}
		to := b.asks[c.Request].client.Index
		c.Request = 0
		if b.habits.twist2 != nil {
			b.habits.twist2(&c)
		}
		b.send(to, k, c)
	case attach.KindTicket:
		if b.habits.stingy {
			b.refused++
			b.send(from.Index, attach.KindTicketGranted, attach.TicketGranted{})
			return
		}
		for request, ask := range b.asks {
			if ask.client.Index == from.Index {
				b.send(from.Index, attach.KindTicketGranted, attach.TicketGranted{Ticket: b.ticket(request)})
			}
		}
	}
}

func (b *testBase) ticket(request uint64) attach.Ticket {
	t := attach.NewTicket()
	b.pairs[t] = request
	return t
}

func (b *testBase) acceptTCP() {
	for {
		c, err := b.tcp.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		b.conns = append(b.conns, c)
		b.mu.Unlock()
		b.running.Go(func() { b.serveTCP(c) })
	}
}

func (b *testBase) serveTCP(c net.Conn) {
	k, err := attach.ReadStreamKind(c)
	if err != nil {
		_ = c.Close()
		return
	}
	ticket, err := attach.ReadPreface(c, k)
	switch {
	case err != nil:
		_ = c.Close()
	case k == attach.StreamObserve:
		_, _ = c.Write(attach.AppendSeen(nil, c.RemoteAddr().(*net.TCPAddr).AddrPort()))
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	case k == attach.StreamRelay:
		b.leg(c, ticket)
	default:
		_ = c.Close()
	}
}

func (b *testBase) leg(c net.Conn, t attach.Ticket) {
	b.mu.Lock()
	request, first := b.pairs[t]
	delete(b.pairs, t)
	other := b.legs[t]
	delete(b.legs, t)
	if first {
		b.relayed++
		if b.habits.meet != nil {
			meet := b.habits.meet
			b.mu.Unlock()
			meet(c)
			return
		}
		second := attach.NewTicket()
		b.legs[second] = c
		b.send(b.asks[request].device.Index, attach.KindRelay, attach.Relay{Request: request, Ticket: second})
	}
	b.mu.Unlock()
	switch {
	case other != nil:
		b.running.Go(func() { splice(c, other) })
		splice(other, c)
	case !first:
		_ = c.Close()
	}
}

func splice(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.(*net.TCPConn).CloseWrite()
	_ = from.(*net.TCPConn).CloseRead()
}
