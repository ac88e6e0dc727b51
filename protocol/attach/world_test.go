package attach

import (
	"bytes"
	"container/heap"
	"crypto/ed25519"
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A world is a node, some links and the network between them, in virtual time.
//
//	link A 198.51.100.1 --.
//	link B 198.51.100.2 ---+-- losing, doubling, reordering -- node 192.0.2.1:7443
type world struct {
	t      testing.TB
	now    time.Duration
	random *rand.Rand
	bytes  io.Reader // deterministic randomness for the protocol

	loss, double float64
	minDelay     time.Duration
	spread       time.Duration

	node     *Node
	nodeCfg  NodeConfig
	tickedAt time.Duration
	links    []*simLink
	flying   flight

	root        *identity.Key
	nodeKey     Secret
	certificate []byte

	events   []NodeEvent
	messages []Kind
	asked    []*Request
	enrol    Enrolment
	intros   []Peer

	toNode, fromNode map[netip.AddrPort]int // bytes by the address outside
	captured         []flyer                // everything that was handed to the network
	later            []func()               // what a callback of a link wants done when it is over
}

// A simLink is a link behind a NAT.
type simLink struct {
	*Link
	w       *world
	ip      netip.Addr
	port    uint16
	ports   uint16        // next port of the NAT
	forgets time.Duration // NAT time-out; 0: never
	used    time.Duration // when the mapping last saw a packet
	wake    time.Duration
	cut     bool           // nothing gets through
	stream  netip.AddrPort // packets are in this stream; none: over UDP
	events  []LinkEvent
	got     []Kind
}

type flyer struct {
	at       time.Duration
	from, to netip.AddrPort
	packet   []byte
}

type flight []flyer

func (f flight) Len() int           { return len(f) }
func (f flight) Less(i, j int) bool { return f[i].at < f[j].at }
func (f flight) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }
func (f *flight) Push(x any)        { *f = append(*f, x.(flyer)) }
func (f *flight) Pop() any {
	old := *f
	x := old[len(old)-1]
	*f = old[:len(old)-1]
	return x
}

var nodeAddress = netip.MustParseAddrPort("192.0.2.1:7443")

func newKey(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rootKey is an Ed25519 key that is the same in every run.
func rootKey(t testing.TB, seed byte) *identity.Key {
	t.Helper()
	k, err := identity.New(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rootOf(k *identity.Key) Root { return Root{Key: k.Public().(ed25519.PublicKey)} }

func certify(t testing.TB, root *identity.Key, private Secret, generation, floor uint64) []byte {
	t.Helper()
	public, err := PublicKey(private)
	if err != nil {
		t.Fatal(err)
	}
	c, err := SignCertificate(root, Certificate{generation, floor, public, []netip.AddrPort{nodeAddress}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newWorld(t testing.TB, seed uint64) *world {
	t.Helper()
	var s [32]byte
	s[0], s[1] = byte(seed), byte(seed>>8)
	w := &world{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), bytes: rand.NewChaCha8(s), minDelay: 10 * time.Millisecond, enrol: EnrolOpen,
		root: rootKey(t, 1), nodeKey: Secret{7}, toNode: map[netip.AddrPort]int{}, fromNode: map[netip.AddrPort]int{},
	}
	w.certificate = certify(t, w.root, w.nodeKey, 3, 2)
	w.startNode()
	return w
}

// startNode (re)starts the node: it forgets everything but its configuration.
func (w *world) startNode() {
	w.nodeCfg = NodeConfig{
		PrivateKey: w.nodeKey, Certificate: w.certificate, ResetKey: Secret{9}, Random: w.bytes,
		Send:  func(to netip.AddrPort, p []byte) { w.fromNode[to] += len(p); w.transport(nodeAddress, to, p) },
		Event: func(e NodeEvent) { w.events = append(w.events, e) },
		Ask: func(now time.Duration, r *Request) {
			w.asked = append(w.asked, r)
			code := CodeAccepted
			if w.enrol(r) != nil {
				code = CodeRefused
			}
			if err := w.node.Answer(now, r.Index, code); err != nil {
				w.t.Error(err)
			}
		},
		Introduce: func(now time.Duration, p Peer, i *Introduce) {
			w.intros = append(w.intros, p)
			if err := w.node.Send(now, p.Index, firstOwned, []byte{0xa0}); err != nil {
				w.t.Error(err)
			}
		},
		Message: func(_ time.Duration, _ Peer, k Kind, _ []byte) { w.messages = append(w.messages, k) },
		Unix:    func() uint64 { return 1_800_000_000 },
	}
	n, err := NewNode(w.nodeCfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.node = n
}

// link adds a link; change may alter its configuration.
func (w *world) link(k *identity.Key, change func(*LinkConfig)) *simLink {
	w.t.Helper()
	s := &simLink{w: w, ip: netip.AddrFrom4([4]byte{198, 51, 100, byte(len(w.links) + 1)}), port: 40000, ports: 40001}
	c := LinkConfig{
		Key: k, Roots: []Root{rootOf(w.root)}, Basestations: []netip.AddrPort{nodeAddress}, Random: w.bytes,
		Event:   func(e LinkEvent) { s.events = append(s.events, e) },
		Message: func(k Kind, _ []byte) { s.got = append(s.got, k) },
	}
	c.Send = func(to netip.AddrPort, p []byte) {
		if s.forgets > 0 && w.now-s.used > s.forgets && !s.stream.IsValid() {
			s.port, s.ports = s.ports, s.ports+1
		}
		s.used = w.now
		if !s.cut {
			w.transport(s.outside(), to, p)
		}
	}
	if change != nil {
		change(&c)
	}
	l, err := NewLink(c)
	if err != nil {
		w.t.Fatal(err)
	}
	s.Link, s.wake = l, w.now
	w.links = append(w.links, s)
	return s
}

func (s *simLink) outside() netip.AddrPort {
	if s.stream.IsValid() {
		return s.stream
	}
	return netip.AddrPortFrom(s.ip, s.port)
}

// transport hands a packet to the network.
func (w *world) transport(from, to netip.AddrPort, p []byte) {
	if len(p) > MaxPacket || len(p) == 0 || p[0] >= 0x40 {
		w.t.Errorf("packet of %d bytes beginning %#x", len(p), p[:1])
	}
	f := flyer{from: from, to: to, packet: bytes.Clone(p)}
	w.captured = append(w.captured, f)
	if len(w.captured) > 4096 {
		w.captured = w.captured[2048:]
	}
	copies := 1
	if w.random.Float64() < w.double {
		copies = 2
	}
	for range copies {
		if w.random.Float64() < w.loss {
			continue
		}
		f.at = w.now + w.minDelay
		if w.spread > 0 {
			f.at += time.Duration(w.random.Int64N(int64(w.spread)))
		}
		heap.Push(&w.flying, f)
	}
}

func (w *world) deliver(f flyer) {
	if f.to == nodeAddress {
		w.toNode[f.from] += len(f.packet)
		w.node.Receive(w.now, f.from, f.packet)
		return
	}
	for _, s := range w.links {
		if s.outside() != f.to || s.cut || s.forgets > 0 && w.now-s.used > s.forgets {
			continue
		}
		s.used = w.now
		s.Receive(w.now, f.packet)
		for _, do := range w.later {
			do()
		}
		w.later = nil
		s.wake = s.Tick(w.now)
	}
}

// run lets time pass until done or for at most d; it reports whether done.
func (w *world) run(d time.Duration, done func() bool) bool {
	end := w.now + d
	for {
		if done != nil && done() {
			return true
		}
		next := w.tickedAt + TickEvery
		if len(w.flying) > 0 {
			next = min(next, w.flying[0].at)
		}
		for _, s := range w.links {
			next = min(next, s.wake)
		}
		if next > end {
			w.now = end
			return done != nil && done()
		}
		w.now = max(w.now, next)
		for len(w.flying) > 0 && w.flying[0].at <= w.now {
			w.deliver(heap.Pop(&w.flying).(flyer))
		}
		for _, s := range w.links {
			if s.wake <= w.now {
				s.wake = s.Tick(w.now)
			}
		}
		if w.now >= w.tickedAt+TickEvery {
			w.tickedAt = w.now
			w.node.Tick(w.now)
		}
	}
}

func (s *simLink) attached() bool { return s.State() == StateAttached }

// mustAttach runs until the link is attached.
func (w *world) mustAttach(s *simLink) {
	w.t.Helper()
	if !w.run(time.Minute, s.attached) {
		w.t.Fatalf("not attached after a minute: %v, events %+v", s.State(), s.events)
	}
}
