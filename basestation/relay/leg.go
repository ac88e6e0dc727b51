package relay

import (
	"container/list"
	"crypto/sha256"
	"net"
	"net/netip"
	"time"

	"github.com/keyholed/keyhole/internal/congestion"
	"github.com/keyholed/keyhole/internal/pace"
	"github.com/keyholed/keyhole/protocol/attach"
)

// A leg is one connection until it is part of a tunnel.
type leg struct {
	conn    *net.TCPConn
	source  netip.Prefix
	counted bool          // as unjoined, in Relay.sources; guarded by Relay.mu
	silent  *list.Element // in Relay.silent until its preface is read
}

// Serve takes a connection whose first byte said that it is a leg, and reads
// the rest of its preface. It returns when that is done, within seconds; the
// connection is the Relay's from the call on. Whoever has no good ticket is
// closed without a word.
func (r *Relay) Serve(conn *net.TCPConn) {
	l := &leg{conn: conn, source: sourceOf(conn)}
	if !r.admit(l) {
		r.counter.flooded.Add(1)
		conn.Close()
		return
	}
	defer r.work.Done()
	ticket, err := readPreface(conn, r.times.preface)
	if err != nil {
		r.counter.malformed.Add(1)
		r.leave(l)
		conn.Close()
		return
	}
	r.claim(l, ticket)
}

// readPreface reads the rest of the preface (package attach draws it) within
// limit, and not a byte more: what follows is the peer's.
func readPreface(conn net.Conn, limit time.Duration) (t attach.Ticket, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return t, err
	}
	if t, err = attach.ReadPreface(conn, attach.StreamRelay); err != nil {
		return t, err
	}
	return t, conn.SetReadDeadline(time.Time{})
}

func sourceOf(conn *net.TCPConn) netip.Prefix {
	a, _ := conn.RemoteAddr().(*net.TCPAddr)
	if a == nil {
		return netip.Prefix{}
	}
	return pace.Source(a.AddrPort().Addr())
}

// admit counts a leg, and the call of Serve, where the limits let it. Where all
// places are taken the leg that has been silent longest makes room: whoever has
// a ticket sends it at once.
func (r *Relay) admit(l *leg) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.sources[l.source] >= r.limits.UnjoinedPerSource {
		return false
	}
	if r.unjoined >= r.limits.Unjoined {
		oldest := r.silent.Front()
		if oldest == nil {
			return false
		}
		victim := oldest.Value.(*leg)
		r.counter.flooded.Add(1)
		r.leaveLocked(victim)
		victim.conn.Close() // its Serve finds out
	}
	l.counted = true
	r.unjoined++
	r.sources[l.source]++
	l.silent = r.silent.PushBack(l)
	r.work.Add(1)
	return true
}

func (r *Relay) leave(l *leg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaveLocked(l)
}

// leaveLocked stops counting a leg as unjoined. It may be called again.
func (r *Relay) leaveLocked(l *leg) {
	if !l.counted {
		return
	}
	l.counted = false
	if l.silent != nil {
		r.silent.Remove(l.silent)
		l.silent = nil
	}
	r.unjoined--
	if r.sources[l.source]--; r.sources[l.source] == 0 {
		delete(r.sources, l.source)
	}
}

// claim uses a ticket up: the leg waits, or it completes a tunnel.
func (r *Relay) claim(l *leg, ticket attach.Ticket) {
	first, ended := r.claimLocked(l, hashOf(ticket))
	if ended != nil {
		r.report(ended)
	}
	if first != nil {
		first()
	}
}

func (r *Relay) claimLocked(l *leg, hash [sha256.Size]byte) (first func(), refused *Use) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !l.counted { // evicted in the meantime
		return nil, nil
	}
	r.silent.Remove(l.silent)
	l.silent = nil
	c, ok := r.tickets[hash]
	if !ok || r.now() >= c.pair.until && c.pair.waiting == nil {
		r.counter.unknown.Add(1)
		r.leaveLocked(l)
		l.conn.Close()
		return nil, nil
	}
	delete(r.tickets, hash)
	p := c.pair
	if p.waiting == nil {
		p.waiting, p.side = l, c.side
		p.until = max(p.until, r.now()+r.times.join)
		if c.side == client {
			first = p.first
		}
		return first, nil
	}
	legs := [2]*net.TCPConn{}
	legs[p.side], legs[c.side] = p.waiting.conn, l.conn
	r.leaveLocked(p.waiting)
	r.leaveLocked(l)
	p.waiting = nil
	refused = r.joinLocked(p, legs)
	r.forgetLocked(p)
	return nil, refused
}

// tune is what a leg gets before bytes flow.
func (r *Relay) tune(conn *net.TCPConn) {
	// Errors are those of a connection that is gone, which the flow will meet.
	_ = conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount})
	_ = conn.SetNoDelay(true)
	endVanished(conn, r.times.stall)
	congestion.PreferBBR(conn)
}
