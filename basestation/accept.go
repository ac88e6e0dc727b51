package basestation

import (
	"container/list"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/keyholed/keyhole/internal/pace"
	"github.com/keyholed/keyhole/protocol/attach"
)

// acceptPause after an error of accept, such as too few descriptors: it passes.
const acceptPause = 100 * time.Millisecond

// An acceptor takes TCP connections and sorts them by their first byte.
type acceptor struct {
	s    *Server
	done <-chan struct{} // closed when the server stops

	mu      sync.Mutex
	open    map[*net.TCPConn]*admitted // those that are not relayed
	sources map[netip.Prefix]int
	// unproven are those in which no device has attached, the oldest first: where all
	// places are taken it makes room. Whoever has something to do here is quick.
	unproven list.List
	closed   bool
	running  sync.WaitGroup
}

// admitted is what the acceptor knows of a connection.
type admitted struct {
	source   netip.Prefix
	unproven *list.Element // nil: proven
}

func newAcceptor(s *Server, done <-chan struct{}) *acceptor {
	return &acceptor{s: s, done: done, open: map[*net.TCPConn]*admitted{}, sources: map[netip.Prefix]int{}}
}

// accept takes connections until the listener is closed.
func (a *acceptor) accept(l *net.TCPListener) {
	for {
		conn, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select {
			case <-time.After(acceptPause):
				continue
			case <-a.done:
				return
			}
		}
		remote := remoteOf(conn)
		if !a.admit(conn, remote.Addr()) {
			a.s.metrics.closedStreams.Inc()
			_ = conn.Close()
		}
	}
}

func remoteOf(conn *net.TCPConn) netip.AddrPort {
	a := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// admit has a connection served on a goroutine of its own, if the limits allow it.
func (a *acceptor) admit(conn *net.TCPConn, remote netip.Addr) bool {
	source := pace.Source(remote)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.sources[source] >= a.s.config.Limits.ConnectionsPerSource {
		return false
	}
	if len(a.open) >= a.s.config.Limits.Connections && !a.evictLocked() {
		return false
	}
	a.open[conn] = &admitted{source, a.unproven.PushBack(conn)}
	a.sources[source]++
	a.running.Go(func() { a.serve(conn, source) })
	return true
}

// evictLocked makes room; false when devices have all places.
func (a *acceptor) evictLocked() bool {
	oldest := a.unproven.Front()
	if oldest == nil {
		return false
	}
	conn := oldest.Value.(*net.TCPConn)
	a.s.metrics.closedStreams.Inc()
	a.forgetLocked(conn)
	_ = conn.Close() // its goroutine finds out
	return true
}

// proven is called when a device has attached in a connection.
func (a *acceptor) proven(conn *net.TCPConn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.open[conn]; c != nil && c.unproven != nil {
		a.unproven.Remove(c.unproven)
		c.unproven = nil
	}
}

// forget no longer counts a connection; it was closed, or given to the relay.
func (a *acceptor) forget(conn *net.TCPConn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgetLocked(conn)
}

// forgetLocked may be called again.
func (a *acceptor) forgetLocked(conn *net.TCPConn) {
	c := a.open[conn]
	if c == nil {
		return
	}
	delete(a.open, conn)
	if c.unproven != nil {
		a.unproven.Remove(c.unproven)
	}
	if a.sources[c.source]--; a.sources[c.source] <= 0 {
		delete(a.sources, c.source)
	}
}

// serve reads the first byte and hands the connection to whom it is for.
func (a *acceptor) serve(conn *net.TCPConn, source netip.Prefix) {
	_ = conn.SetReadDeadline(time.Now().Add(prefaceTime)) // a failure shows in the read
	kind, err := attach.ReadStreamKind(conn)
	if err == nil && kind == attach.StreamRelay && a.s.relay != nil {
		a.forget(conn) // the relay has limits of its own
		a.s.metrics.legs.Inc()
		a.s.relay.Serve(conn)
		return
	}
	defer a.forget(conn)
	defer func() { _ = conn.Close() }()
	if err == nil {
		_, err = attach.ReadPreface(conn, kind)
	}
	switch {
	case err != nil:
	case kind == attach.StreamAttach:
		a.s.metrics.streams.Inc()
		a.s.streams.serve(conn, source.Addr(), func() { a.proven(conn) }, a.done)
	case kind == attach.StreamObserve:
		a.s.metrics.observed.Inc()
		observe(conn)
	}
}

// observe tells a connection where it is seen, and lets it stay a while. What it sends
// is not looked at; it is closed after its first byte.
func observe(conn *net.TCPConn) {
	_ = conn.SetDeadline(time.Now().Add(observeTime)) // a failure shows below
	if _, err := conn.Write(attach.AppendSeen(nil, remoteOf(conn))); err != nil {
		return
	}
	var b [1]byte
	_, _ = io.ReadFull(conn, b[:]) // whatever comes, this is the end
}

// stop closes all connections that are not relayed, and waits for their goroutines.
func (a *acceptor) stop() {
	a.mu.Lock()
	a.closed = true
	for conn := range a.open {
		_ = conn.Close()
	}
	a.mu.Unlock()
	a.running.Wait()
}
