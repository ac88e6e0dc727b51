package client

import (
	"context"
	"time"

	"github.com/keyholed/keyhole/protocol/session"
)

const (
	// improveFirst and improveMost bound the pause between two attempts to find a
	// better path: a router that refused once mostly goes on refusing, and each
	// attempt costs the basestation an introduction.
	improveFirst = 10 * time.Second
	improveMost  = 10 * time.Minute

	// A direct QUIC path is compared with the relay when it takes twice as long for
	// probeSize as slowStarts round trips and slowGrace: from there on it is either
	// narrow, and the relay is no better, or it loses packets.
	slowStarts = 8
	slowGrace  = 200 * time.Millisecond

	// idleLook is how often a session that was replaced is looked at, to be closed
	// when its last tunnel has ended.
	idleLook = 5 * time.Second
)

// improve looks for a path that delivers more than conn's until there is one, conn is
// not the one to use any more, or nothing better can be. What it finds goes to
// Run by l.improved.
func (l *Line) improve(ctx context.Context, conn *Conn, gone <-chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	if l.tryLater(ctx, conn) || conn.rank() == bestRank || l.options.RelayOnly {
		return
	}
	for pause := l.improveFirst; ; pause = min(2*pause, improveMost) {
		select {
		case <-time.After(pause):
		case <-l.moved:
			pause = l.improveFirst
		case <-ctx.Done():
			return
		}
		if o, worth := l.improvement(ctx, conn); worth && l.tryOther(ctx, conn, o) {
			return
		}
	}
}

// tryLater takes what else came of the race that conn has won.
func (l *Line) tryLater(ctx context.Context, conn *Conn) bool {
	if conn.stands.more == nil {
		return false
	}
	for {
		select {
		case w, more := <-conn.stands.more:
			if !more {
				return false
			}
			next := l.home.connOf(w, conn.trust, l.options)
			if l.take(ctx, conn, next) {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
}

// improvement says how to look for something better than conn, if that is worth it.
func (l *Line) improvement(ctx context.Context, conn *Conn) (o DialOptions, worth bool) {
	o = l.options
	switch conn.Via() {
	case session.ViaRelay:
		o.directOnly = true
		return o, true
	case session.ViaPunched:
		if conn.Path() == session.PathQUIC && !o.NoBasestation && conn.lossy(ctx) {
			o.RelayOnly = true
			return o, true
		}
	}
	o.NoBasestation = true // the device may have come home
	return o, true
}

// lossy tells whether a path brings much less than its round trip allows.
func (c *Conn) lossy(ctx context.Context) bool {
	d, err := c.deliver(ctx)
	if err != nil {
		return ctx.Err() == nil // it cannot even be measured
	}
	expected := slowStarts*d.roundTrip + slowGrace
	return d.cost() > 2*expected
}

func (l *Line) tryOther(ctx context.Context, conn *Conn, o DialOptions) bool {
	next, err := l.home.DialDevice(ctx, l.whom(), o)
	if err != nil {
		return false
	}
	return l.take(ctx, conn, next)
}

// take hands next to Run if it is better than conn, and closes it otherwise.
func (l *Line) take(ctx context.Context, conn, next *Conn) bool {
	if _, err := next.Me(ctx); err == nil && better(ctx, conn, next) {
		select {
		case l.improved <- next:
			return true
		case <-ctx.Done():
		}
	}
	next.Close()
	return false
}
