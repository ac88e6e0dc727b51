package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/reach"
	"github.com/keyholed/keyhole/protocol/session"
)

const (
	// relayWarm is how many connections wait for bulk tunnels through a relay: each
	// is two of the relay's, and one of the device's.
	relayWarm = 2

	// ticketTime bounds the question for one more leg.
	ticketTime = 3 * time.Second
)

// ErrNotRelayed means that nobody took the other end of a leg in time: the device was
// not told, or cannot reach the basestation over TCP.
var ErrNotRelayed = errors.New("the device did not come to the relay")

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
	var used atomic.Bool                                  // the ticket that came with the introduction
	open := func(ctx context.Context) (net.Conn, error) { // by several goroutines
		ticket := w.yes.Ticket
		if used.Swap(true) {
			var err error
			if ticket, err = w.ticket(ctx); err != nil {
				return nil, err
			}
		}
		return reach.RelayLeg(ctx, []netip.AddrPort{address}, ticket)
	}
	s, err := session.DialConn(ctx, open, session.ViaRelay, config)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w at %s", ErrNotRelayed, address)
	case err != nil:
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
