package reach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/keyholed/keyhole/internal/congestion"
	"github.com/keyholed/keyhole/protocol/attach"
)

const (
	// legTime bounds the dialling of a leg: a ticket is valid for 30 s, and who
	// waits for a relay longer than this waits in vain.
	legTime = 10 * time.Second
	// legStagger is from one address of a node to the next when the first does
	// not answer (RFC 8305 §5 recommends 250 ms).
	legStagger = 250 * time.Millisecond
)

// ErrNoAddress says that there was nothing to dial.
var ErrNoAddress = errors.New("no address")

// RelayLeg opens one leg of a relay at a node of the basestation, which has these
// addresses, and shows the ticket. What is written to the connection goes to the
// other leg once that is there; nothing says that it is, nor that the ticket was
// good: a bad one ends the connection. A ticket is good for one leg, so a leg that
// fails needs another ticket. Errors are those of dialling, and ErrNoAddress.
func RelayLeg(ctx context.Context, addresses []netip.AddrPort, ticket attach.Ticket) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, legTime)
	defer cancel()
	conn, err := dialFirst(ctx, addresses)
	if err != nil {
		return nil, fmt.Errorf("open a leg to the relay: %w", err)
	}
	congestion.PreferBBR(conn)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	_, err = conn.Write(attach.AppendRelayPreface(nil, ticket))
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("open a leg to the relay: %w", err)
	}
	return conn, nil
}

// dialFirst dials the addresses one after the other, the next when one failed or
// is slow, and returns the first connection.
func dialFirst(ctx context.Context, addresses []netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the others; what still comes is closed below
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result, len(addresses))
	next := time.NewTimer(0)
	defer next.Stop()
	started, ended := 0, 0
	err := ErrNoAddress
	defer func() {
		go func(pending int) {
			for range pending {
				if r := <-results; r.conn != nil {
					r.conn.Close()
				}
			}
		}(started - ended)
	}()
	for ended < len(addresses) {
		select {
		case <-next.C:
			if started == len(addresses) {
				continue
			}
			to := addresses[started].String()
			started++
			go func() {
				conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
				results <- result{conn, err}
			}()
			next.Reset(legStagger)
		case r := <-results:
			ended++
			if r.err == nil {
				return r.conn, nil
			}
			err = r.err
			next.Reset(0)
		}
	}
	return nil, err
}
