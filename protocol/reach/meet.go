package reach

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/keyholed/keyhole/internal/congestion"
)

const (
	// meetFor is how long an address is tried: the kernel repeats a lost SYN after
	// one second and again after two or three. The repetition is also what opens a
	// symmetric router's way when its first SYN came before the other side had sent
	// anything.
	meetFor = 3200 * time.Millisecond
	// meetTries is how often a try is begun anew that was refused, by a router that
	// should have been silent. A try that is not refused is never given up for
	// another: a SYN that comes between the two is answered with the numbers of one
	// and met by those of the other, and both sides reset each other. (Seen in the
	// laboratory with tries of 300 and 500 ms, when the sides were just that far
	// apart; and over a long line they never came together.)
	meetTries = 3
	// meetPause is between refused tries.
	meetPause = 300 * time.Millisecond
)

// MeetTCP connects to a peer that does the same at the same moment
// (simultaneous open, RFC 9293 §3.5): the SYN of each side opens its own router for
// the other's. It connects from port, on which a listener of [ListenReusable] must
// stay open meanwhile: it accepts a peer whose router shows another address than
// the one that is tried here.
//
// Connections come out of the channel as they stand, from which only TLS can tell
// the right one; the taker owns them. Several are possible when several addresses
// lead to the peer, so the client takes the first whose handshake ends and the
// device serves all. The channel is closed when all tries have ended; ctx ends it
// earlier, with whatever nobody took.
//
// accepted brings what the listener accepts, if that is not served anyway:
// connections from an address of peers are passed on, others are closed. A device,
// whose listener serves everybody, gives nil.
func MeetTCP(ctx context.Context, port int, peers []netip.AddrPort, accepted <-chan net.Conn) <-chan net.Conn {
	met := make(chan net.Conn)
	peers = meetable(peers)
	var tries sync.WaitGroup
	for _, peer := range peers {
		tries.Go(func() { meetOne(ctx, port, peer, met) })
	}
	if accepted != nil && len(peers) > 0 {
		tries.Go(func() { acceptFrom(ctx, peers, accepted, met) })
	}
	go func() {
		tries.Wait()
		close(met)
	}()
	return met
}

// meetable are the addresses to try: possible ones, each once, no more than one
// side may name.
func meetable(peers []netip.AddrPort) (some []netip.AddrPort) {
	for _, p := range peers {
		if p = unmap(p); possible(p) && !slices.Contains(some, p) && len(some) < MaxCandidates {
			some = append(some, p)
		}
	}
	return some
}

// meetOne tries one address, and hands out at most one connection.
func meetOne(ctx context.Context, port int, peer netip.AddrPort, met chan<- net.Conn) {
	try, cancel := context.WithTimeout(ctx, meetFor)
	defer cancel()
	for range meetTries {
		conn, err := dialFrom(try, port, peer)
		if err == nil {
			hand(ctx, conn, met)
			return
		}
		select {
		case <-try.Done():
			return
		case <-time.After(meetPause):
		}
	}
}

// acceptFrom passes on what the listener accepted from one of the peers.
func acceptFrom(ctx context.Context, peers []netip.AddrPort, accepted <-chan net.Conn, met chan<- net.Conn) {
	over := time.NewTimer(meetFor)
	defer over.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-over.C:
			return
		case conn, ok := <-accepted:
			if !ok {
				return
			}
			if !isFrom(conn, peers) {
				forget(conn)
				continue
			}
			hand(ctx, conn, met)
		}
	}
}

// isFrom tells whether a connection comes from the address of a peer; its port is
// another one where the peer's router is symmetric.
func isFrom(conn net.Conn, peers []netip.AddrPort) bool {
	from, ok := conn.RemoteAddr().(*net.TCPAddr)
	return ok && slices.ContainsFunc(peers, func(p netip.AddrPort) bool {
		return p.Addr() == from.AddrPort().Addr().Unmap()
	})
}

// hand gives a connection to who takes it, or closes it when nobody wants one any
// more.
func hand(ctx context.Context, conn net.Conn, met chan<- net.Conn) {
	congestion.PreferBBR(conn)
	select {
	case met <- conn:
	case <-ctx.Done():
		forget(conn)
	}
}
