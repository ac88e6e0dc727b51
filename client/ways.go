package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
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

	// relayWarm is how many connections wait for bulk tunnels through a relay: each
	// is two of the relay's, and one of the device's.
	relayWarm = 2

	// ticketTime bounds the question for one more leg.
	ticketTime = 3 * time.Second
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

// ways tries everything that the options leave, until ctx ends or nothing is left. It
// returns why there is no session, nil if there was one.
func (m *meeting) ways(ctx context.Context, yes attach.Introduced, o DialOptions, config session.DialConfig, won func(*session.Client)) error {
	w := &way{meeting: m, config: config, yes: yes}
	var mu sync.Mutex
	found := false
	w.won = func(s *session.Client) {
		mu.Lock()
		found = true
		mu.Unlock()
		switch {
		case s.Via() == session.ViaPunched:
			m.outcome.Store(outcomePunched)
		case !o.RelayOnly:
			m.outcome.CompareAndSwap(0, outcomeRelayed)
		}
		won(s)
	}
	at, err := m.checked(&yes.Offer, attach.UDP, yes.Observed.AddrPort)
	if err != nil {
		return err
	}
	tries := map[string]func(context.Context) error{}
	if o.allows(session.PathQUIC) && !o.RelayOnly {
		tries["punched UDP"] = func(ctx context.Context) error { return w.udp(ctx, at) }
	}
	if o.allows(session.PathTCP) && !o.RelayOnly {
		tries["punched TCP"] = w.tcp
	}
	relayAt := m.began.Add(relayAfter)
	if o.RelayOnly || m.recalled.Relayed {
		relayAt = m.began // nothing else is to be had, or was the last time
	}
	if o.allows(session.PathTCP) && !o.directOnly {
		tries["relay"] = func(ctx context.Context) error { return w.relay(ctx, relayAt) }
	}
	var running sync.WaitGroup
	errs := []error{errNoWay}
	for name, try := range tries {
		running.Go(func() {
			if err := try(ctx); err != nil {
				mu.Lock()
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
				mu.Unlock()
			}
		})
	}
	running.Wait()
	if found {
		return nil
	}
	slices.SortFunc(errs[1:], func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// errNoPunch means that nothing came back.
var errNoPunch = errors.New("no packet came through")

// udp punches, and dials over QUIC each address that answers.
func (w *way) udp(ctx context.Context, at []netip.AddrPort) error {
	hash, ok := w.link.Hash()
	if !ok {
		return ErrBasestation
	}
	var dials sync.WaitGroup
	var mu sync.Mutex
	errs := []error{}
	for proven := range w.puncher.Punch(ctx, hash, at) {
		dials.Go(func() {
			s, err := session.DialSocket(ctx, w.socket, proven, w.config)
			if err == nil {
				w.won(s)
				return
			}
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
		})
	}
	dials.Wait()
	if len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%w (tried %s)", errNoPunch, addressList(at)))
	}
	return errors.Join(errs...)
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

// errNoMeeting means that the device named no TCP address, or none that answered.
var errNoMeeting = errors.New("no connection came about")

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
		return fmt.Errorf("%w: the device named no address", errNoMeeting)
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
	o, err := attach.SignOffer(w.key, hash, w.device.ID(), w.device, attach.TCP, addresses)
	if err != nil {
		return err
	}
	return w.link.Send(attach.KindCandidates, attach.Candidates{Offer: o})
}

func (w *way) meetTCP(ctx context.Context, port int, at []netip.AddrPort, accepted <-chan net.Conn) error {
	config := w.config
	config.WarmConns = -1 // one hole, one connection
	var dials sync.WaitGroup
	var mu sync.Mutex
	errs := []error{}
	for conn := range reach.MeetTCP(ctx, port, at, accepted) {
		dials.Go(func() {
			once := func(context.Context) (net.Conn, error) { return conn, nil }
			s, err := session.DialConn(ctx, once, session.ViaPunched, config)
			if err == nil {
				w.won(s)
				return
			}
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
		})
	}
	dials.Wait()
	if len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%w (tried %s)", errNoMeeting, addressList(at)))
	}
	return errors.Join(errs...)
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

// relay opens a leg when its time has come, and makes a session over it.
func (w *way) relay(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return fmt.Errorf("not needed: %w", ctx.Err())
	}
	if w.yes.Ticket.IsZero() {
		return errors.New("the basestation gives no ticket for it")
	}
	address, err := w.relayAddress()
	if err != nil {
		return err
	}
	config := w.config
	if config.WarmConns >= 0 {
		config.WarmConns = relayWarm
	}
	first := true
	var mu sync.Mutex
	open := func(ctx context.Context) (net.Conn, error) {
		mu.Lock()
		ticket := w.yes.Ticket
		if !first {
			ticket = attach.Ticket{}
		}
		first = false
		mu.Unlock()
		if ticket.IsZero() {
			if ticket, err = w.ticket(ctx); err != nil {
				return nil, err
			}
		}
		return reach.RelayLeg(ctx, []netip.AddrPort{address}, ticket)
	}
	s, err := session.DialConn(ctx, open, session.ViaRelay, config)
	if err != nil {
		return err
	}
	w.relayed.Store(true)
	w.won(s)
	return nil
}

// relayAddress is where the legs go: to the node that introduced us, or the one that
// the basestation vouches for in its place.
func (w *way) relayAddress() (netip.AddrPort, error) {
	node := w.link.Status().Node
	if len(w.yes.Certificate) == 0 {
		return node, nil
	}
	c, err := attach.CheckCertificate(w.link.Roots(), w.yes.Certificate)
	if err != nil {
		return node, fmt.Errorf("%w: %w", ErrBasestation, err)
	}
	return c.Address(node.Addr()), nil
}

// ticket asks for one more leg.
func (w *way) ticket(ctx context.Context) (attach.Ticket, error) {
	w.tickets.Lock()
	defer w.tickets.Unlock()
	ctx, cancel := context.WithTimeout(ctx, ticketTime)
	defer cancel()
	select {
	case <-w.granted: // of a question that was given up
	default:
	}
	if err := w.link.Send(attach.KindTicket, attach.TicketRequest{}); err != nil {
		return attach.Ticket{}, err
	}
	select {
	case t := <-w.granted:
		if t.IsZero() {
			return t, errors.New("the basestation grants no further connection through its relay")
		}
		return t, nil
	case <-ctx.Done():
		return attach.Ticket{}, fmt.Errorf("ask for a ticket: %w", ctx.Err())
	}
}
