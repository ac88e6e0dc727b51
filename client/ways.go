package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/reach"
	"github.com/keyholed/keyhole/protocol/session"
)

const (
	// relayAfter is how long an introduction has to lead to a direct session before
	// the relay is asked for one too, counted from its beginning: on a fast network
	// punching is over by then, on a slow one the person has waited long enough.
	// Where nothing but the relay worked the last time there is no wait.
	relayAfter = 400 * time.Millisecond
)

// A way is one attempt to make a session of a meeting. Its errors say which.
type way struct {
	*meeting
	config session.DialConfig
	yes    attach.Introduced
	won    func(*session.Client) // is given each session
}

// errNoWay is joined with what each way has to say.
var errNoWay = errors.New("no session came of the introduction")

// Names of the ways, as people read them.
const (
	wayUDP   = "punched UDP"
	wayTCP   = "punched TCP"
	wayRelay = "relay"
)

// ways tries everything that the options leave, until ctx ends or nothing is left.
// Won is given each session, lost why a way brought none; each has a goroutine of its
// own. It returns an error if there is nothing to try.
func (m *meeting) ways(ctx context.Context, yes attach.Introduced, o DialOptions, config session.DialConfig, won func(*session.Client), lost func(way string, err error)) error {
	at, err := m.checked(&yes.Offer, attach.UDP, yes.Observed.AddrPort)
	if err != nil {
		return err
	}
	w := &way{meeting: m, config: config, yes: yes, won: func(s *session.Client) {
		if s.Via() == session.ViaPunched {
			m.punched.Store(true)
		}
		won(s)
	}}
	relayAt := m.began.Add(relayAfter)
	if o.RelayOnly || m.recalled.Relayed {
		relayAt = m.began // nothing else is to be had, or was the last time
	}
	var running sync.WaitGroup
	try := func(name string, wanted bool, f func() error) {
		if !wanted {
			return
		}
		running.Go(func() {
			if err := f(); err != nil {
				lost(name, err)
			}
		})
	}
	try(wayUDP, o.allows(session.PathQUIC) && !o.RelayOnly, func() error { return w.udp(ctx, at) })
	try(wayTCP, o.allows(session.PathTCP) && !o.RelayOnly, func() error { return w.tcp(ctx) })
	try(wayRelay, o.allows(session.PathTCP) && !o.directOnly, func() error { return w.relay(ctx, relayAt) })
	running.Wait()
	return nil
}

// punchPatience is when punching that has led to nothing is taken for impossible
// between these two routers.
const punchPatience = 3 * time.Second

// note is called when all ways have ended, and keeps what the next introduction can
// use of it.
func (m *meeting) note(o DialOptions) {
	switch {
	case o.RelayOnly || len(o.Paths) > 0: // not everything was tried
	case m.punched.Load():
		m.outcome = outcomePunched
	case m.relayed.Load() && time.Since(m.began) > punchPatience:
		m.outcome = outcomeRelayed
	}
}

// ErrNoPunch means that no packet of the device came through the routers.
var ErrNoPunch = errors.New("no packet came through")

// udp punches, and dials over QUIC each address that answers.
func (w *way) udp(ctx context.Context, at []netip.AddrPort) error {
	hash, ok := w.link.Hash()
	if !ok {
		return ErrBasestation
	}
	d := w.dials()
	for proven := range w.puncher.Punch(ctx, hash, at) {
		d.dial(func() (*session.Client, error) { return session.DialSocket(ctx, w.socket, proven, w.config) })
	}
	return d.err(fmt.Errorf("%w (tried %s)", ErrNoPunch, addressList(at)))
}

// dials are sessions that are being made at several addresses of one way.
type dials struct {
	*way
	running sync.WaitGroup
	mu      sync.Mutex
	errs    []error
	stands  bool
}

func (w *way) dials() *dials { return &dials{way: w} }

func (d *dials) dial(f func() (*session.Client, error)) {
	d.running.Go(func() {
		s, err := f()
		d.mu.Lock()
		if err != nil {
			d.errs = append(d.errs, err)
		}
		d.stands = d.stands || err == nil
		d.mu.Unlock()
		if err == nil {
			d.won(s)
		}
	})
}

// err waits for all and says why none stands; nothing when there was none to dial.
func (d *dials) err(nothing error) error {
	d.running.Wait()
	switch {
	case d.stands:
		return nil
	case len(d.errs) == 0:
		return nothing
	}
	return errors.Join(d.errs...)
}

func addressList(list []netip.AddrPort) string {
	if len(list) == 0 {
		return "no address that may be tried"
	}
	var texts []string
	for _, a := range list {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ", ")
}

// ErrNoMeeting means that the device named no TCP address, or none that answered at the
// same moment.
var ErrNoMeeting = errors.New("no connection came about")

// tcp opens a port, has it seen by the basestation, tells the device, and connects
// from it at the same moment as the device does.
func (w *way) tcp(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l, err := reach.ListenReusable(ctx, "tcp", ":0")
	if err != nil {
		return err
	}
	accepted := make(chan net.Conn)
	var accepting sync.WaitGroup
	accepting.Go(func() { acceptAll(ctx, l, accepted) })
	defer accepting.Wait()
	defer cancel() // for a connection that nobody takes any more
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	node, _ := w.relayAddress()
	seen, observing, err := reach.Observe(ctx, port, node)
	if err != nil {
		return err
	}
	defer observing.Close() // keeps the router's mapping until then
	if err := w.tellTCP(seen, uint16(port)); err != nil {
		return err
	}
	var at []netip.AddrPort
	select {
	case o := <-w.candidates:
		if at, err = w.checked(&o, attach.TCP, w.yes.Observed.AddrPort); err != nil {
			return err
		}
	case <-ctx.Done():
		return fmt.Errorf("%w: the device named no address", ErrNoMeeting)
	}
	return w.meetTCP(ctx, port, at, accepted)
}

// tellTCP sends the device our TCP addresses.
func (w *way) tellTCP(seen netip.AddrPort, port uint16) error {
	hash, ok := w.link.Hash()
	if !ok {
		return ErrBasestation
	}
	addresses := append([]netip.AddrPort{seen}, own(port)...)
	o, err := attach.SignOffer(w.key, hash, w.id, w.device, attach.TCP, addresses)
	if err != nil {
		return err
	}
	return w.link.Send(attach.KindCandidates, attach.Candidates{Offer: o})
}

func (w *way) meetTCP(ctx context.Context, port int, at []netip.AddrPort, accepted <-chan net.Conn) error {
	config := w.config
	config.WarmConns = -1 // one hole, one connection
	d := w.dials()
	for conn := range reach.MeetTCP(ctx, port, at, accepted) {
		d.dial(func() (*session.Client, error) {
			once := func(context.Context) (net.Conn, error) { return conn, nil }
			return session.DialConn(ctx, once, session.ViaPunched, config)
		})
	}
	return d.err(fmt.Errorf("%w (tried %s)", ErrNoMeeting, addressList(at)))
}

// acceptAll hands out what comes to a listener until it is closed.
func acceptAll(ctx context.Context, l net.Listener, to chan<- net.Conn) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case to <- conn:
		case <-ctx.Done():
			_ = conn.Close()
		}
	}
}
