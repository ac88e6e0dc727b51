package basestation

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/keyholed/keyhole/basestation/memstore"
	"github.com/keyholed/keyhole/basestation/relay"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// patience is how long a test waits for what must come, on a busy machine.
const patience = 20 * time.Second

// A station is a running server.
type station struct {
	*Server
	t      testing.TB
	cancel context.CancelFunc
	done   chan error
}

// begin runs a server on loopback; change may alter its configuration.
func begin(t testing.TB, change func(*Config)) *station {
	t.Helper()
	c := Config{Listen: []string{"127.0.0.1:0"}, Relay: &relay.Config{}, Limits: Limits{Introductions: 60_000}}
	if change != nil {
		change(&c)
	}
	if c.Data == "" {
		c.Data = t.TempDir()
	}
	if c.Store == nil {
		store := memstore.New()
		t.Cleanup(func() { _ = store.Close() })
		c.Store = store
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	x := &station{Server: s, t: t, cancel: cancel, done: make(chan error, 1)}
	go func() { x.done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-x.done:
		t.Fatal(err)
	}
	t.Cleanup(x.stop)
	return x
}

// stop ends a server; it may be called again.
func (x *station) stop() {
	x.t.Helper()
	x.cancel()
	if err, ok := <-x.done; ok {
		close(x.done)
		if err != nil {
			x.t.Error(err)
		}
	}
}

// A peer is a device or a client on a socket of its own.
type peer struct {
	t    testing.TB
	key  *identity.Key
	udp  *net.UDPConn
	done chan struct{}

	mu       sync.Mutex
	link     *attach.Link
	began    time.Time
	events   []attach.LinkEvent
	messages []heard
	changed  chan struct{}
	sent     int // bytes
	received int
	onAsked  func(attach.Introduction) *attach.Answer
}

// heard is a control message.
type heard struct {
	kind attach.Kind
	body []byte
	at   time.Duration
}

func newKey(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// join starts a link to a server.
func join(t testing.TB, s *Server, k *identity.Key, change func(*attach.LinkConfig)) *peer {
	t.Helper()
	return joinAt(t, s.Roots(), s.Address(), k, change)
}

func joinAt(t testing.TB, roots []attach.Root, at netip.AddrPort, k *identity.Key, change func(*attach.LinkConfig)) *peer {
	t.Helper()
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, key: k, udp: udp, done: make(chan struct{}), changed: make(chan struct{}), began: time.Now()}
	c := attach.LinkConfig{
		Key: k, Roots: roots, Basestations: []netip.AddrPort{at},
		Send: func(to netip.AddrPort, b []byte) {
			p.sent += len(b)
			_, _ = udp.WriteToUDPAddrPort(b, to) // lost like on any network
		},
		Event: func(e attach.LinkEvent) { p.events = append(p.events, e); p.wakeLocked() },
		Message: func(k attach.Kind, body []byte) {
			p.messages = append(p.messages, heard{k, append([]byte(nil), body...), time.Since(p.began)})
			p.wakeLocked()
		},
	}
	if change != nil {
		change(&c)
	}
	if p.link, err = attach.NewLink(c); err != nil {
		t.Fatal(err)
	}
	go p.run()
	t.Cleanup(p.leave)
	return p
}

// wakeLocked wakes who waits for something to change.
func (p *peer) wakeLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *peer) now() time.Duration { return time.Since(p.began) }

func (p *peer) run() {
	defer close(p.done)
	buffer := make([]byte, 2048)
	for {
		p.mu.Lock()
		next := p.link.Tick(p.now())
		p.answerLocked()
		_ = p.udp.SetReadDeadline(time.Now().Add(max(next-p.now(), time.Millisecond)))
		p.mu.Unlock()
		n, _, err := p.udp.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		p.mu.Lock()
		p.received += n
		p.link.Receive(p.now(), buffer[:n])
		p.mu.Unlock()
	}
}

// answerLocked answers introductions as onAsked says.
func (p *peer) answerLocked() {
	if p.onAsked == nil {
		return
	}
	rest := p.messages[:0]
	for _, m := range p.messages {
		var i attach.Introduction
		if m.kind != attach.KindIntroduction || attach.Decode(m.body, &i) != nil {
			rest = append(rest, m)
			continue
		}
		if a := p.onAsked(i); a != nil {
			p.sendLocked(attach.KindAnswer, *a)
		}
	}
	p.messages = rest
}

func (p *peer) sendLocked(k attach.Kind, m any) {
	body, err := attach.Encode(m)
	if err == nil {
		err = p.link.Send(p.now(), k, body)
	}
	if err != nil {
		p.t.Errorf("send %d: %v", k, err)
	}
}

func (p *peer) send(k attach.Kind, m any) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sendLocked(k, m)
	p.kick()
}

// kick has the link asked anew when it wants to be called.
func (p *peer) kick() { _ = p.udp.SetReadDeadline(time.Now()) }

// vanish ends a peer without a word, as a cut cable does.
func (p *peer) vanish() {
	_ = p.udp.Close()
	<-p.done
}

// leave says goodbye.
func (p *peer) leave() {
	p.mu.Lock()
	p.link.Close(p.now())
	p.mu.Unlock()
	p.vanish() // may be called again
}

// until waits for something of the peer.
func (p *peer) until(what string, is func() bool) {
	p.t.Helper()
	timeout := time.After(patience)
	for {
		p.mu.Lock()
		ok, changed := is(), p.changed
		p.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			p.mu.Lock()
			defer p.mu.Unlock()
			p.t.Fatalf("waited in vain for: %s; %v, %d messages, events %+v", what, p.link.State(), len(p.messages), p.events)
		}
	}
}

func (p *peer) attached() *peer {
	p.t.Helper()
	p.until("an attach", func() bool { return p.link.State() == attach.StateAttached })
	return p
}

// hear waits for a control message of a kind, decodes it and takes it out.
func (p *peer) hear(k attach.Kind, m any) heard {
	p.t.Helper()
	var got heard
	p.until("a message", func() bool {
		for i, h := range p.messages {
			if h.kind == k {
				got = h
				p.messages = append(p.messages[:i], p.messages[i+1:]...)
				return true
			}
		}
		return false
	})
	if err := attach.Decode(got.body, m); err != nil {
		p.t.Fatal(err)
	}
	return got
}

// agrees has a device say yes to everybody.
func (p *peer) agrees() *peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onAsked = func(i attach.Introduction) *attach.Answer {
		client, err := i.Check(p.key.ID())
		if err != nil {
			p.t.Errorf("an introduction that does not check: %v", err)
			return nil
		}
		at := p.udp.LocalAddr().(*net.UDPAddr).AddrPort()
		o, err := attach.SignOffer(p.key, i.Hash, p.key.ID(), client, attach.UDP, []netip.AddrPort{at})
		if err != nil {
			p.t.Error(err)
			return nil
		}
		return &attach.Answer{Request: i.Request, Offer: o}
	}
	return p
}

// ask starts a client that asks for a device.
func ask(t testing.TB, s *Server, k *identity.Key, device identity.ID, change func(*attach.Introduce)) *peer {
	t.Helper()
	return join(t, s, k, func(c *attach.LinkConfig) {
		c.Introduce = &attach.Introduce{Device: device, Candidates: attach.EncodeAddresses([]netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:1234")})}
		if change != nil {
			change(c.Introduce)
		}
	})
}
