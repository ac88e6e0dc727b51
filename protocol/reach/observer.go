package reach

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// observedFor is how long an answer is used: the basestation ends the connection
// after 30 s, and a meeting that begins now needs it for some seconds more.
const observedFor = 20 * time.Second

// An Observer asks as [Observe] does, with one connection for all introductions
// that are under way at once: a second one could not be opened from the same port.
// The zero value is ready; its methods may be called by several goroutines.
type Observer struct {
	mu   sync.Mutex
	asks map[ask]*observation // guarded by mu
}

type ask struct {
	port int
	base netip.AddrPort
}

type observation struct {
	since  time.Time
	cancel context.CancelFunc
	users  int // guarded by Observer.mu

	done chan struct{} // closed when the rest is known
	seen netip.AddrPort
	conn net.Conn
	err  error
}

// Observe returns the address that base sees connections from the local port at.
// The connection is kept until release was called by all who asked; call it once
// the meeting is over. Errors are those of [Observe]; after one there is nothing
// to release.
func (o *Observer) Observe(ctx context.Context, port int, base netip.AddrPort) (seen netip.AddrPort, release func(), err error) {
	key := ask{port, unmap(base)}
	o.mu.Lock()
	now, known := o.asks[key]
	if known && time.Since(now.since) > observedFor {
		now.close() // whoever still uses it has met by now
		known = false
	}
	if !known {
		now = &observation{done: make(chan struct{}), since: time.Now()}
		if o.asks == nil {
			o.asks = map[ask]*observation{}
		}
		o.asks[key] = now
		// Not with the first asker's ctx: others wait for it too.
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		now.cancel = cancel
		go now.ask(ctx, key)
	}
	now.users++
	o.mu.Unlock()
	release = sync.OnceFunc(func() { o.release(key, now) })
	select {
	case <-now.done:
		err = now.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		release()
		return netip.AddrPort{}, nil, err
	}
	return now.seen, release, nil
}

func (n *observation) ask(ctx context.Context, key ask) {
	defer close(n.done)
	n.seen, n.conn, n.err = Observe(ctx, key.port, key.base)
}

func (o *Observer) release(key ask, n *observation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n.users--; n.users > 0 {
		return
	}
	if o.asks[key] == n {
		delete(o.asks, key)
	}
	n.close()
}

// close ends the question, which is a matter of a moment, and the connection.
func (n *observation) close() {
	n.cancel()
	<-n.done
	if n.conn != nil {
		n.conn.Close()
	}
}
