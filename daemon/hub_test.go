package daemon

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/reach"
	"github.com/keyholed/keyhole/protocol/session"
)

// A hub is a small basestation of one node, on loopback, whose every word a test
// can choose: protocol/attach is real, what it says is not decided by anybody. The
// real basestation meets the daemon in testbed/remote.
type hub struct {
	t    testing.TB
	root *identity.Key
	udp  *net.UDPConn
	tcp  net.Listener
	unix uint64 // what is told as the time

	work  chan func(now time.Duration)
	began time.Time
	stop  context.CancelFunc
	done  sync.WaitGroup

	node   *attach.Node // owned by run
	device attach.Peer  // owned by run; the one that attached last
	refuse attach.Code  // owned by run: instead of attaching
	boots  []uint32     // owned by run
	said   chan said    // what the device says
	legs   chan leg     // relay legs of the device
	next   uint64       // request, owned by the test

	mu    sync.Mutex
	conns []net.Conn
}

type said struct {
	kind attach.Kind
	body []byte
}

type leg struct {
	net.Conn
	ticket attach.Ticket
}

// hubKeys outlive a hub that is restarted.
type hubKeys struct {
	root    *identity.Key
	private attach.Secret
	address string // host:port, both UDP and TCP
}

func newHubKeys(t testing.TB) *hubKeys {
	t.Helper()
	_, raw, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root, err := identity.New(raw)
	if err != nil {
		t.Fatal(err)
	}
	k := &hubKeys{root: root}
	_, _ = rand.Read(k.private[:])
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k.address = l.Addr().String()
	_ = l.Close()
	return k
}

func (k *hubKeys) text() string { return attach.FormatRootKey(k.root.Public().(ed25519.PublicKey)) }

// toml is the section of a device that shall attach.
func (k *hubKeys) toml() string {
	return fmt.Sprintf("[basestation]\naddress = %q\nkey = %q\n", k.address, k.text())
}

func startHub(t testing.TB, k *hubKeys, generation, floor uint64) *hub {
	t.Helper()
	at := netip.MustParseAddrPort(k.address)
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", k.address)
	if err != nil {
		t.Fatal(err)
	}
	public, err := attach.PublicKey(k.private)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := attach.SignCertificate(k.root, attach.Certificate{Generation: generation, Floor: floor, Key: public, Addresses: []netip.AddrPort{at}})
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{
		t: t, root: k.root, udp: udp, tcp: tcp, unix: uint64(time.Now().Unix()), began: time.Now(),
		work: make(chan func(time.Duration), 256), said: make(chan said, 256), legs: make(chan leg, 256),
	}
	h.node, err = attach.NewNode(attach.NodeConfig{
		PrivateKey: k.private, Certificate: certificate, ResetKey: attach.Secret{9},
		Send: func(to netip.AddrPort, p []byte) { _, _ = udp.WriteToUDPAddrPort(p, to) },
		Ask: func(now time.Duration, r *attach.Request) {
			h.boots = append(h.boots, r.Boots)
			if err := h.node.Answer(now, r.Index, h.refuse); err != nil {
				t.Error(err)
			}
		},
		Event: func(e attach.NodeEvent) {
			if e.Change == attach.PeerAttached {
				h.device = e.Peer
			}
		},
		Message: func(_ time.Duration, _ attach.Peer, k attach.Kind, body []byte) {
			h.said <- said{k, append([]byte(nil), body...)}
		},
		Unix: func() uint64 { return h.unix },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = sync.OnceFunc(func() {
		cancel()
		_ = udp.Close()
		_ = tcp.Close()
		h.mu.Lock()
		for _, c := range h.conns {
			_ = c.Close()
		}
		h.mu.Unlock()
		h.done.Wait()
	})
	h.done.Go(func() { h.run(ctx) })
	h.done.Go(h.read)
	h.done.Go(h.accept)
	t.Cleanup(h.stop)
	return h
}

func (h *hub) run(ctx context.Context) {
	tick := time.NewTicker(attach.TickEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-h.work:
			f(time.Since(h.began))
		case <-tick.C:
			h.node.Tick(time.Since(h.began))
		}
	}
}

// do runs f where the node may be used, and waits for it.
func (h *hub) do(f func(now time.Duration)) {
	done := make(chan struct{})
	h.work <- func(now time.Duration) {
		defer close(done)
		f(now)
	}
	<-done
}

func (h *hub) read() {
	buf := make([]byte, 2048)
	for {
		n, from, err := h.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		packet := append([]byte(nil), buf[:n]...)
		select {
		case h.work <- func(now time.Duration) { h.node.Receive(now, from, packet) }:
		default:
		}
	}
}

// accept answers where a connection is seen, and keeps relay legs for the test.
func (h *hub) accept() {
	for {
		conn, err := h.tcp.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns = append(h.conns, conn)
		h.mu.Unlock()
		h.done.Go(func() {
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			kind, err := attach.ReadStreamKind(conn)
			if err != nil {
				_ = conn.Close()
				return
			}
			ticket, err := attach.ReadPreface(conn, kind)
			_ = conn.SetReadDeadline(time.Time{})
			switch {
			case err == nil && kind == attach.StreamObserve:
				_, _ = conn.Write(attach.AppendSeen(nil, conn.RemoteAddr().(*net.TCPAddr).AddrPort()))
			case err == nil && kind == attach.StreamRelay:
				h.legs <- leg{conn, ticket}
			default:
				_ = conn.Close()
			}
		})
	}
}

// tell sends a control message to the device.
func (h *hub) tell(k attach.Kind, body any) {
	h.t.Helper()
	b, err := attach.Encode(body)
	if err != nil {
		h.t.Fatal(err)
	}
	// At most 8 are under way: the next one waits for an acknowledgement.
	deadline := time.Now().Add(20 * time.Second)
	for err = attach.ErrBusy; err == attach.ErrBusy && time.Now().Before(deadline); {
		h.do(func(now time.Duration) { err = h.node.Send(now, h.device.Index, k, b) })
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// hears waits for the next message of a kind; what comes before it is dropped.
func (h *hub) hears(k attach.Kind, into any) {
	h.t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case s := <-h.said:
			if s.kind != k {
				continue
			}
			if err := attach.Decode(s.body, into); err != nil {
				h.t.Fatal(err)
			}
			return
		case <-timeout:
			h.t.Fatalf("the device never said %d", k)
		}
	}
}

// A visitor is a client that was, or was not, introduced.
type visitor struct {
	key     *identity.Key
	hash    attach.Hash
	request uint64
	answer  attach.Answer
}

// question is what a client with this key signs.
func question(t testing.TB, d identity.ID, k *identity.Key, hash attach.Hash, candidates ...netip.AddrPort) attach.Introduce {
	t.Helper()
	public, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	in := attach.Introduce{PublicKey: public, Device: d, Candidates: attach.EncodeAddresses(candidates)}
	if in.Signature, err = k.Sign(identity.PurposeIntroduce, attach.IntroductionBytes(hash, k.Fingerprint(), &in)); err != nil {
		t.Fatal(err)
	}
	return in
}

// introduce tells the device that somebody asks, and returns its answer.
func (h *hub) introduce(d identity.ID, k *identity.Key, observed netip.AddrPort, candidates ...netip.AddrPort) visitor {
	h.t.Helper()
	h.next++
	v := visitor{key: k, request: h.next}
	_, _ = rand.Read(v.hash[:])
	in := question(h.t, d, k, v.hash, candidates...)
	h.tell(attach.KindIntroduction, attach.NewIntroduction(v.request, v.hash, &in, observed))
	for v.answer.Request != v.request {
		v.answer = attach.Answer{}
		h.hears(attach.KindAnswer, &v.answer)
	}
	return v
}

// punch does the client's half: it opens the way by UDP and dials over it.
func (h *hub) punch(d *device, k *identity.Key) (visitor, *session.Client) {
	h.t.Helper()
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		h.t.Fatal(err)
	}
	socket := session.NewSocket(udp)
	h.t.Cleanup(func() { _ = socket.Close() })
	puncher := reach.NewPuncher(socket, nil)
	socket.OnPacket(func(from netip.AddrPort, p []byte) { puncher.Deliver(from, p) })
	v := h.introduce(d.ID(), k, socket.LocalAddr())
	if v.answer.Verdict != attach.VerdictYes {
		h.t.Fatalf("verdict %v", v.answer.Verdict)
	}
	if _, err := v.answer.Offer.CheckDevice(v.hash, d.ID(), k.Fingerprint()); err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	at, ok := <-puncher.Punch(ctx, v.hash, v.answer.Offer.Addresses())
	if !ok {
		h.t.Fatal("no way was opened")
	}
	c, err := session.DialSocket(ctx, socket, at, session.DialConfig{Key: k, Pin: identity.PinFingerprint(d.Fingerprint())})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(c.Close)
	return v, c
}

// leg has the device open a leg for an introduction, and returns this end.
func (h *hub) leg(request uint64) leg {
	h.t.Helper()
	ticket := attach.NewTicket()
	h.tell(attach.KindRelay, attach.Relay{Request: request, Ticket: ticket})
	select {
	case l := <-h.legs:
		if l.ticket != ticket {
			h.t.Fatal("a leg with another ticket")
		}
		return l
	case <-time.After(20 * time.Second):
		h.t.Fatal("the device opened no leg")
		return leg{}
	}
}

// relayed is a session over a leg.
func (h *hub) relayed(d *device, v visitor) (*session.Client, error) {
	l := h.leg(v.request)
	c, err := session.DialConn(context.Background(), func(context.Context) (net.Conn, error) { return l.Conn, nil }, session.ViaRelay,
		session.DialConfig{Key: v.key, Pin: identity.PinFingerprint(d.Fingerprint())})
	if err != nil {
		return c, err
	}
	h.t.Cleanup(c.Close)
	(&peer{Client: c, t: h.t}).ask("GET", "/v1/hello", nil) // from here on the device knows of the session
	return c, nil
}
