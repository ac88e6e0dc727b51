package basestation

import (
	"bytes"
	"container/heap"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/keyholed/keyhole/basestation/memstore"
	"github.com/keyholed/keyhole/basestation/push"
	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/basestation/relay"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A world is one hub, its devices and clients, and the network between them, in
// virtual time: a test runs an hour in the time that its handshakes take. Tasks are
// done at once.
type world struct {
	t      testing.TB
	now    time.Duration
	hub    *hub
	keys   *Keyring
	config attach.NodeConfig
	around around

	links    []*simLink
	byPort   map[uint16]*simLink
	flying   flight
	wakes    wakes
	posted   []func(time.Duration)
	tickedAt time.Duration
	random   *rand.Rand
	loss     float64

	records  map[identity.ID]registry.Presence // what the registry would have
	told     []push.Event
	pushed   []push.Event
	pushErr  error
	verdict  func(attach.Request) attach.Code
	full     bool // no task starts
	peers    map[uint32]knownPeer
	book     *registry.Registry // of call numbers
	attaches []time.Duration
}

const simDelay = 10 * time.Millisecond

var simNode = netip.MustParseAddrPort("192.0.2.1:7443")

type simLink struct {
	*attach.Link
	w        *world
	key      *identity.Key
	at       netip.AddrPort
	events   []attach.LinkEvent
	messages []heard
	packets  []simPacket // that came from the node
	onAsked  func(attach.Introduction) *attach.Answer
	cut      bool
	wake     time.Duration
}

type simPacket struct {
	at   time.Duration
	size int
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

// wakes is when links want to be called; one that was called meanwhile is skipped.
type wakes []wake

type wake struct {
	at   time.Duration
	link *simLink
}

func (w wakes) Len() int           { return len(w) }
func (w wakes) Less(i, j int) bool { return w[i].at < w[j].at }
func (w wakes) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }
func (w *wakes) Push(x any)        { *w = append(*w, x.(wake)) }
func (w *wakes) Pop() any {
	old := *w
	x := old[len(old)-1]
	*w = old[:len(old)-1]
	return x
}

func newWorld(t testing.TB, limits Limits) *world {
	t.Helper()
	k, err := OpenKeyring(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, keys: k, byPort: map[uint16]*simLink{}, random: rand.New(rand.NewPCG(1, 2)),
		records: map[identity.ID]registry.Presence{}, peers: map[uint32]knownPeer{},
		verdict: func(attach.Request) attach.Code { return attach.CodeAccepted },
	}
	records := memstore.New()
	t.Cleanup(func() { _ = records.Close() })
	w.book = registry.New(registry.Config{Store: records, Node: "node1"})
	certificate, err := k.Certificate([]netip.AddrPort{simNode})
	if err != nil {
		t.Fatal(err)
	}
	w.config = attach.NodeConfig{
		PrivateKey: k.node.Private, ResetKey: k.node.Reset, Certificate: certificate,
		Send: func(to netip.AddrPort, p []byte) { w.fly(simNode, to, p) },
	}
	w.around = around{
		limits: limits.withDefaults(), self: "node1", certificate: certificate,
		start: func(task func(context.Context)) bool {
			if !w.full {
				task(t.Context())
			}
			return !w.full
		},
		post:   func(f func(time.Duration)) { w.posted = append(w.posted, f) },
		remote: func(netip.AddrPort) netip.Addr { return netip.Addr{} },
		enrol: func(_ context.Context, r *attach.Request, wait bool) (attach.Code, bool) {
			return w.verdict(*r), wait
		},
		pair: func(relay.Who, func()) (attach.Ticket, attach.Ticket, error) {
			return attach.NewTicket(), attach.NewTicket(), nil
		},
		find: func(_ context.Context, id identity.ID) ([]string, registry.Presence, error) {
			return nil, w.records[id], nil
		},
		send: func(string, *nodeMessage) {}, tellAll: func(*nodeMessage) {},
		mine: func(uint16) bool { return true }, others: func() int { return 0 },
		presence: w, events: w, book: w.book,
		seen: func(slot uint32, index uint64, at netip.AddrPort) {
			w.peers[slot] = knownPeer{index, at}
			if index == 0 {
				delete(w.peers, slot)
			}
		},
		metrics: newMetrics(),
	}
	w.start()
	return w
}

// start makes the hub anew: it forgets everything but its keys.
func (w *world) start() {
	w.t.Helper()
	h, err := newHub(w.config, w.around, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	w.hub = h
}

// The world is its own registry and its own events.
func (w *world) Attached(p registry.Presence) {
	w.attaches = append(w.attaches, w.now)
	p.State = registry.Attached
	w.records[p.ID()] = p
}

func (w *world) Told(f identity.Fingerprint, epoch uint64) {
	p := w.records[f.ID()]
	p.Told, p.Epoch = true, epoch
	w.records[f.ID()] = p
}

func (w *world) Moved(identity.Fingerprint, netip.AddrPort) {}

func (w *world) Gone(f identity.Fingerprint, reason attach.CloseReason) {
	p := w.records[f.ID()]
	p.State, p.Reason, p.Since = registry.Gone, reason, 1_800_000_000
	w.records[f.ID()] = p
}

func (w *world) Tell(e push.Event) { w.told = append(w.told, e) }

func (w *world) Push(_ context.Context, e push.Event) error {
	if w.pushErr == nil {
		w.pushed = append(w.pushed, e)
	}
	return w.pushErr
}

// link adds a device or client.
func (w *world) link(k *identity.Key, change func(*attach.LinkConfig)) *simLink {
	w.t.Helper()
	n := len(w.links)
	ip := netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)})
	l := &simLink{w: w, key: k, at: netip.AddrPortFrom(ip, uint16(10_000+n))}
	c := attach.LinkConfig{
		Key: k, Roots: w.keys.Roots(), Basestations: []netip.AddrPort{simNode},
		Send: func(to netip.AddrPort, p []byte) {
			if !l.cut {
				w.fly(l.at, to, p)
			}
		},
		Event: func(e attach.LinkEvent) { l.events = append(l.events, e) },
		Message: func(k attach.Kind, body []byte) {
			l.messages = append(l.messages, heard{k, bytes.Clone(body), w.now})
		},
	}
	if change != nil {
		change(&c)
	}
	var err error
	if l.Link, err = attach.NewLink(c); err != nil {
		w.t.Fatal(err)
	}
	w.links = append(w.links, l)
	w.byPort[l.at.Port()] = l
	w.tick(l)
	return l
}

func (w *world) tick(l *simLink) {
	l.wake = l.Tick(w.now)
	heap.Push(&w.wakes, wake{l.wake, l})
	if l.onAsked == nil {
		return
	}
	rest := l.messages[:0]
	for _, m := range l.messages {
		var i attach.Introduction
		if m.kind != attach.KindIntroduction || attach.Decode(m.body, &i) != nil {
			rest = append(rest, m)
		} else if a := l.onAsked(i); a != nil {
			l.say(attach.KindAnswer, *a)
		}
	}
	l.messages = rest
}

func (l *simLink) say(k attach.Kind, m any) {
	l.w.t.Helper()
	body, err := attach.Encode(m)
	if err == nil {
		err = l.Send(l.w.now, k, body)
	}
	if err != nil {
		l.w.t.Errorf("say %d: %v", k, err)
	}
}

func (w *world) fly(from, to netip.AddrPort, p []byte) {
	if w.loss > 0 && w.random.Float64() < w.loss {
		return
	}
	heap.Push(&w.flying, flyer{w.now + simDelay, from, to, bytes.Clone(p)})
}

func (w *world) deliver(f flyer) {
	if f.to == simNode {
		w.hub.node.Receive(w.now, f.from, f.packet)
		w.results()
		return
	}
	l := w.byPort[f.to.Port()]
	if l == nil || l.cut || l.at != f.to {
		return
	}
	l.packets = append(l.packets, simPacket{w.now, len(f.packet)})
	l.Receive(w.now, f.packet)
	w.tick(l)
}

// results hands back what tasks posted.
func (w *world) results() {
	for len(w.posted) > 0 {
		f := w.posted[0]
		w.posted = w.posted[1:]
		f(w.now)
	}
}

// run lets time pass, until done if there is such a thing.
func (w *world) run(d time.Duration, done func() bool) bool {
	end := w.now + d
	for {
		if done != nil && done() {
			return true
		}
		next := w.tickedAt + attach.TickEvery
		if at, ok := w.hub.Next(); ok {
			next = min(next, at)
		}
		if len(w.flying) > 0 {
			next = min(next, w.flying[0].at)
		}
		for len(w.wakes) > 0 && w.wakes[0].link.wake != w.wakes[0].at {
			heap.Pop(&w.wakes)
		}
		if len(w.wakes) > 0 {
			next = min(next, w.wakes[0].at)
		}
		if next > end {
			w.now = end
			return done != nil && done()
		}
		w.step(max(next, w.now))
	}
}

func (w *world) step(now time.Duration) {
	w.now = now
	for len(w.flying) > 0 && w.flying[0].at <= now {
		w.deliver(heap.Pop(&w.flying).(flyer))
	}
	for len(w.wakes) > 0 && w.wakes[0].at <= now {
		if x := heap.Pop(&w.wakes).(wake); x.link.wake == x.at {
			w.tick(x.link)
		}
	}
	w.hub.sayNo(now)
	if now >= w.tickedAt+attach.TickEvery {
		w.tickedAt = now
		w.hub.Tick(now)
		w.results()
	}
}

// device adds a device that is attached and says yes to everybody.
func (w *world) device() *simLink {
	w.t.Helper()
	l := w.link(newKey(w.t), nil)
	w.attach(l)
	l.onAsked = l.yes
	return l
}

func (w *world) attach(l *simLink) {
	w.t.Helper()
	if !w.run(time.Minute, func() bool { return l.State() == attach.StateAttached }) {
		w.t.Fatalf("not attached in a minute: %v, %+v", l.State(), l.events)
	}
	w.run(time.Second, nil) // the messages around it are acknowledged
}

func (l *simLink) yes(i attach.Introduction) *attach.Answer {
	client, err := i.Check(l.key.ID())
	if err != nil {
		l.w.t.Errorf("an introduction that does not check: %v", err)
		return nil
	}
	return &attach.Answer{Request: i.Request, Offer: l.offer(i.Hash, l.key.ID(), client)}
}

func (l *simLink) offer(hash [32]byte, device identity.ID, to identity.Fingerprint) attach.Offer {
	o, err := attach.SignOffer(l.key, hash, device, to, attach.UDP, []netip.AddrPort{l.at})
	if err != nil {
		l.w.t.Fatal(err)
	}
	return o
}

// asks adds a client that asks for a device.
func (w *world) asks(k *identity.Key, device identity.ID, presence []byte) *simLink {
	w.t.Helper()
	return w.link(k, func(c *attach.LinkConfig) {
		c.Introduce = &attach.Introduce{Device: device, Presence: presence, Candidates: attach.EncodeAddresses([]netip.AddrPort{netip.MustParseAddrPort("198.51.100.9:99")})}
	})
}

// hears waits for a message of a kind and takes it out.
func (l *simLink) hears(d time.Duration, k attach.Kind, m any) bool {
	l.w.t.Helper()
	return l.w.run(d, func() bool {
		for i, h := range l.messages {
			if h.kind != k {
				continue
			}
			if err := attach.Decode(h.body, m); err != nil {
				l.w.t.Fatal(err)
			}
			l.messages = append(l.messages[:i], l.messages[i+1:]...)
			return true
		}
		return false
	})
}

func (p simPacket) String() string { return fmt.Sprintf("%d bytes at %v", p.size, p.at) }
