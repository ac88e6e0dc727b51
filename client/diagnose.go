package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/reach"
	"github.com/keyholed/keyhole/protocol/session"
)

// A Diagnosis is how the way through a basestation looks from here: what each step
// found, and a session by each way that leads to the device. Close it.
type Diagnosis struct {
	Basestation Basestation
	Over        string         // "udp" or "tcp": how the basestation was reached; "" when it was not
	Node        netip.AddrPort // of the basestation
	Took        time.Duration  // until it had taken the question
	Router      Router
	Err         error          // why there was no introduction; nil if there was
	Device      netip.AddrPort // where the node sees the device's UDP; none over TCP
	Ways        []Way          // the best first, then those that failed
}

// A Way is one of punched UDP, punched TCP and relay.
type Way struct {
	Name      string
	Err       error         // why there is no session by it
	Conn      *Conn         // nil if there is an error
	SetUp     time.Duration // from the introduction to the session
	RoundTrip time.Duration // of a small request
	Goodput   float64       // bytes in a second, as a sample of some 150 KiB came
}

// Router is what could be found out about the router between this machine and the
// Internet.
type Router struct {
	Local    uint16         // port of our UDP socket
	Observed netip.AddrPort // where the basestation sees it; none over TCP
	// Elsewhere is where another node sees the same socket, if there is one to ask: at
	// another port, the router gives each peer its own, and only a peer whose router
	// does not can be met.
	Elsewhere netip.AddrPort
	// Hairpin tells whether the router lets us reach ourselves from within by the outside
	// address. It matters for two that are behind the same router.
	Hairpin bool
}

const (
	// diagnoseTime bounds an examination.
	diagnoseTime = 20 * time.Second
	// waysTime is for all ways together, from the introduction: far above what any takes
	// that works.
	waysTime = 5 * time.Second
	// hairpinTime is far above the round trip within a house.
	hairpinTime = 700 * time.Millisecond
	// elsewhereTries is how often another node is looked for.
	elsewhereTries = 2
	elsewhereTime  = 2 * time.Second

	ways = 3 // that there are
)

// Diagnose tries every way that leads to a device through its basestation, all at
// once, and waits for each. It returns ErrNoBasestation where none is known.
func (h *Home) Diagnose(ctx context.Context, d Device, o DialOptions) (*Diagnosis, error) {
	if d.Basestation.IsZero() {
		return nil, ErrNoBasestation
	}
	ctx, cancel := context.WithTimeout(ctx, diagnoseTime)
	defer cancel()
	g := &Diagnosis{Basestation: d.Basestation}
	m, err := h.meet(ctx, callOf(d), o)
	if err != nil {
		g.Err = err
		return g, nil
	}
	defer m.release()
	defer h.remember(m)
	g.Router.Local = m.socket.LocalAddr().Port()
	select {
	case a := <-m.answers:
		g.linked(m)
		if a.no != nil {
			g.Err = a.no
			break
		}
		g.Device = a.yes.Observed.AddrPort
		g.Err = g.try(ctx, h, m, a.yes, o)
	case <-ctx.Done():
		g.linked(m)
		g.Err = m.silence()
	}
	if g.Router.Observed.IsValid() {
		g.Router.Hairpin = hairpin(ctx, m)
		g.Router.Elsewhere = h.elsewhere(ctx, m, d)
	}
	return g, nil
}

func (g *Diagnosis) linked(m *meeting) {
	s := m.link.Status()
	g.Over, g.Node, g.Router.Observed = s.Over, s.Node, s.Observed
	if s.State == attach.StateAttached {
		g.Took = s.Since.Sub(m.began)
	}
}

// try runs the ways and measures what comes of them, one after the other: together
// they would disturb each other.
func (g *Diagnosis) try(ctx context.Context, h *Home, m *meeting, yes attach.Introduced, o DialOptions) error {
	began := time.Now()
	config := session.DialConfig{Key: h.key, Pin: identity.PinFingerprint(m.device), Resumption: h.resumption, WarmConns: -1, Log: o.Log}
	trying, cancel := context.WithTimeout(ctx, waysTime)
	defer cancel()
	var mu sync.Mutex
	add := func(w Way) (taken bool) {
		mu.Lock()
		defer mu.Unlock()
		if slices.ContainsFunc(g.Ways, func(o Way) bool { return o.Name == w.Name }) {
			return false // the same by another address
		}
		if g.Ways = append(g.Ways, w); len(g.Ways) == ways {
			cancel()
		}
		return true
	}
	err := m.ways(trying, yes, DialOptions{}, config, func(s *session.Client) {
		m.hold()
		conn := h.connOf(winner{Client: s, meeting: m}, TrustPinned, o)
		name := wayRelay
		if s.Via() == session.ViaPunched {
			name = map[session.Path]string{session.PathTCP: wayTCP, session.PathQUIC: wayUDP}[s.Path()]
		}
		if !add(Way{Name: name, Conn: conn, SetUp: time.Since(began)}) {
			conn.Close()
		}
	}, func(way string, err error) { add(Way{Name: way, Err: err}) })
	m.note(DialOptions{})
	for i := range g.Ways {
		if w := &g.Ways[i]; w.Conn != nil {
			var d delivery
			if d, w.Err = w.Conn.deliver(ctx); w.Err == nil {
				w.RoundTrip, w.Goodput = d.roundTrip, d.goodput
			}
		}
	}
	slices.SortStableFunc(g.Ways, worse)
	return err
}

// worse orders the ways as a Line would choose among them.
func worse(a, b Way) int {
	switch {
	case a.Err != nil || b.Err != nil:
		return cmp.Compare(btoi(a.Err != nil), btoi(b.Err != nil))
	case a.Name == wayRelay:
		return btoi(prefersDirect(b.delivery(), a.delivery()))*2 - 1
	case b.Name == wayRelay:
		return 1 - btoi(prefersDirect(a.delivery(), b.delivery()))*2
	}
	return cmp.Compare(a.Conn.rank(), b.Conn.rank())
}

func (w Way) delivery() delivery { return delivery{w.RoundTrip, w.Goodput} }

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Best is the session by the best way, nil if there is none.
func (g *Diagnosis) Best() *Conn {
	if len(g.Ways) > 0 && g.Ways[0].Err == nil {
		return g.Ways[0].Conn
	}
	return nil
}

// Close ends all sessions.
func (g *Diagnosis) Close() {
	for _, w := range g.Ways {
		if w.Conn != nil {
			w.Conn.Close()
		}
	}
}

// hairpin tries to meet ourselves at the address that the node sees.
func hairpin(ctx context.Context, m *meeting) bool {
	ctx, cancel := context.WithTimeout(ctx, hairpinTime)
	defer cancel()
	other, err := newPunchSocket(m.log)
	if err != nil {
		return false
	}
	defer other.close()
	var hash [32]byte // of an introduction to ourselves
	_, _ = rand.Read(hash[:])
	here := m.puncher.Punch(ctx, hash, nil)
	_, met := <-other.puncher.Punch(ctx, hash, []netip.AddrPort{m.link.Status().Observed})
	cancel()
	for range here {
	}
	return met
}

// elsewhere asks another node of the same basestation, if there is one, where it
// sees our socket: by a question for a device that nobody has.
func (h *Home) elsewhere(ctx context.Context, m *meeting, d Device) netip.AddrPort {
	ctx, cancel := context.WithTimeout(ctx, elsewhereTime)
	defer cancel()
	first := m.link.Status().Node
	for range elsewhereTries {
		var nobody identity.Fingerprint
		_, _ = rand.Read(nobody[:])
		node, seen := h.seenBy(ctx, m, d, nobody.ID())
		if node.IsValid() && node != first {
			return seen
		}
	}
	return netip.AddrPort{}
}

// seenBy links the socket of a meeting once more, to the node that a device id leads to.
func (h *Home) seenBy(ctx context.Context, m *meeting, d Device, id identity.ID) (node, seen netip.AddrPort) {
	bases, err := d.Basestation.resolve(ctx)
	if err != nil {
		return node, seen
	}
	told := make(chan struct{}, 1)
	link, err := reach.NewLink(reach.LinkConfig{
		Key: h.key, Roots: m.roots, Addresses: bases, Introduce: &attach.Introduce{Device: id}, Packets: m.socket, Log: m.log,
		Event: func(e attach.LinkEvent) {
			if e.Observed.IsValid() {
				offer(told, struct{}{})
			}
		},
	})
	if err != nil {
		return node, seen
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	m.second.Store(link)
	defer m.second.Store(nil)
	running.Go(func() { _ = link.Run(ctx) })
	select {
	case <-told:
		s := link.Status()
		return s.Node, s.Observed
	case <-ctx.Done():
		return node, seen
	}
}
