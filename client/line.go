package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/keyholed/keyhole/internal/netstate"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

const (
	// retryFirst and retryMost bound the pause between two tries to come back: a
	// camera that was unplugged is back in a minute, and a laptop that woke up
	// wants its picture at once.
	retryFirst = 250 * time.Millisecond
	retryMost  = 10 * time.Second

	// retryDial is how long the first try may take; later ones have more. A
	// device that starts refuses TCP at once, and waiting for QUIC to give up
	// would only be late.
	retryDial = 500 * time.Millisecond

	// retryFar is the least that the second try and later ones have where there is a
	// basestation: it says no after a second, and is asked again.
	retryFar = 4 * time.Second

	// lineWait is how long a tunnel that is wanted while the session is down
	// waits for it. A player gives up at about that time too.
	lineWait = 15 * time.Second
)

// A Line is a session that comes back: when the device restarts or the network
// changes it dials again, always the same key. It is a Task: Run keeps it up
// until its context ends.
type Line struct {
	home    *Home
	device  Device
	options DialOptions
	changed func(error)

	mu     sync.Mutex
	conn   *Conn         // nil while down
	wanted chan struct{} // holds one token: a tunnel is wanted while down
	up     chan struct{} // closed when there is a conn, or never again
	gone   chan struct{} // closed when conn is not the one to use any more
	err    error         // final: the device does not want us any more

	doubts   chan struct{} // holds one token: somebody waits for an answer
	retired  chan struct{} // a place for each session that was replaced
	closing  sync.WaitGroup
	improved chan *Conn    // a session on a better path
	moved    chan struct{} // holds one token: the network has changed

	improveFirst time.Duration // less in tests
}

// KeepUp makes a Line of a session. Changed, which may be nil, is called from
// Run's goroutine with the reason when the session was lost, and with nil when
// there is one again. The Line owns conn.
func KeepUp(conn *Conn, o DialOptions, changed func(error)) *Line {
	d := conn.device
	if len(d.Addresses) == 0 && conn.Via() == session.ViaDirect {
		d.Addresses = []string{conn.RemoteAddr().String()}
	}
	if changed == nil {
		changed = func(error) {}
	}
	l := &Line{home: conn.home, device: d, options: o, changed: changed, conn: conn, up: make(chan struct{}),
		gone: make(chan struct{}), doubts: make(chan struct{}, 1), retired: make(chan struct{}, mostRetired),
		wanted: make(chan struct{}, 1), improved: make(chan *Conn), moved: make(chan struct{}, 1), improveFirst: improveFirst}
	close(l.up)
	return l
}

// String names the device at the other end.
func (l *Line) String() string { return "line to " + l.device.String() }

// Run dials anew whenever the session is lost, replaces it when it does not answer
// while a new one does (see doubt), and when a path is found that delivers more (see
// improve): tunnels that are open stay where they are. It returns nil when ctx ends, and
// an error when the device has let this client know that it is not wanted any
// more, or another device answers in its place. Then the session is closed.
func (l *Line) Run(ctx context.Context) error {
	defer l.closing.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the retired sessions
	l.closing.Go(func() { l.watchNetwork(ctx) })
	var improving *Conn
	for {
		conn, _, gone := l.current()
		if conn != improving {
			improving = conn
			l.closing.Go(func() { l.improve(ctx, conn, gone) })
		}
		select {
		case <-ctx.Done():
			l.finish(context.Canceled)
			conn.Close()
			return nil
		case next := <-l.improved:
			l.options.log().Info("new streams take a better path", "device", l.device.String(), "via", next.Via(), "path", next.Path())
			l.replace(next)
			l.closing.Go(func() { l.retire(ctx, conn) })
			continue
		case <-l.doubts:
			if next := l.doubt(ctx, conn); next != nil {
				l.replace(next)
				l.closing.Go(func() { l.retire(ctx, conn) })
				l.changed(errSilent)
				l.changed(nil)
			}
			continue
		case <-conn.Done():
		}
		l.lost()
		conn.Close() // and what it stood on
		if l.stranger() {
			if !l.waitWanted(ctx) {
				l.finish(context.Canceled)
				return nil
			}
		} else {
			l.changed(conn.Err())
		}
		if err := l.comeBack(ctx); err != nil {
			l.finish(err)
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if !l.stranger() {
			l.changed(nil)
		}
	}
}

// stranger says that the device is not in the address book. Such a one ends sessions
// in which nothing is asked, after half a minute; they come back when they are wanted.
func (l *Line) stranger() bool {
	_, known := l.home.byFingerprint(l.device.Fingerprint)
	return !known
}

// waitWanted waits until a tunnel is wanted; false: until ctx ended.
func (l *Line) waitWanted(ctx context.Context) bool {
	select {
	case <-l.wanted:
		return true
	case <-ctx.Done():
		return false
	}
}

// watchNetwork doubts the session when addresses or routes of this machine change,
// and lets the search for a better path begin anew.
func (l *Line) watchNetwork(ctx context.Context) {
	monitor := netstate.NewMonitor(l.options.log())
	changes, stop := monitor.Watch()
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { _ = monitor.Run(ctx) })
	for {
		select {
		case <-changes:
			l.Doubt()
			offer(l.moved, struct{}{})
		case <-ctx.Done():
			return
		}
	}
}

// Close ends a Line that is not run. Run does it by itself.
func (l *Line) Close() {
	if conn, _, _ := l.current(); conn != nil {
		conn.Close()
	}
}

func (l *Line) comeBack(ctx context.Context) error {
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		patience := retryDial + 2*pause
		if pause > retryFirst && !l.whom().Basestation.IsZero() {
			patience = max(patience, retryFar)
		}
		conn, err := l.try(ctx, patience)
		if err == nil {
			l.found(conn)
			return nil
		}
		if ctx.Err() != nil || l.inVain(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// inVain tells whether dialling again can lead to nothing else: the device has said
// so itself, or another one answers at the only address there is. What a
// basestation leads to is no such word: it may be lying.
func (l *Line) inVain(err error) bool {
	var wrong *identity.MismatchError
	return api.IsCode(err, api.CodeForbidden) ||
		errors.As(err, &wrong) && !errors.Is(err, ErrBasestation) && !l.heardElsewhere()
}

// try dials once and makes sure that the device still wants us.
func (l *Line) try(ctx context.Context, patience time.Duration) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := l.home.DialDevice(ctx, l.whom(), l.options)
	if err != nil {
		return nil, err
	}
	if err := l.welcome(ctx, conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// welcome asks whether the device still wants us: who is not paired, whether there
// is a service for everybody.
func (l *Line) welcome(ctx context.Context, conn *Conn) error {
	if l.stranger() {
		_, err := conn.Services(ctx)
		return err
	}
	_, err := conn.Me(ctx)
	return err
}

// whom is the device with what was learnt of its basestation since.
func (l *Line) whom() Device {
	d := l.device
	if now, known := l.home.byFingerprint(d.Fingerprint); known {
		d.Basestation = now.Basestation
	}
	return d
}

// heardElsewhere tells whether to go on after another device answered at a
// remembered address: DHCP may have given it away while ours is restarting.
func (l *Line) heardElsewhere() bool { return l.options.Find >= 0 }

// current is the session with what closes when there is one, and when it is not
// the one to use any more.
func (l *Line) current() (conn *Conn, up, gone chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn, l.up, l.gone
}

func (l *Line) lost() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn, l.up = nil, make(chan struct{})
	close(l.gone)
}

func (l *Line) found(conn *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn, l.gone = conn, make(chan struct{})
	close(l.up)
}

func (l *Line) replace(conn *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.gone)
	l.conn, l.gone = conn, make(chan struct{})
}

func (l *Line) finish(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
	if l.conn == nil {
		close(l.up)
	} else {
		close(l.gone)
	}
}

// Connect opens a tunnel as Conn.Connect does. While the session is down it waits
// for the next one, for lineWait at most.
func (l *Line) Connect(ctx context.Context, service, typ string) (session.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, lineWait)
	defer cancel()
	for {
		conn, up, gone := l.current()
		if conn == nil {
			offer(l.wanted, struct{}{})
		}
		select {
		case <-up:
		case <-ctx.Done():
			return nil, &UnreachableError{Device: l.device.String(), Err: ctx.Err()}
		}
		if err := l.final(); err != nil {
			return nil, err
		}
		if conn == nil {
			continue // it has come back while we waited
		}
		stream, err := l.attempt(ctx, conn, gone, service, typ)
		if err == nil || ctx.Err() != nil || err != errSilent && conn.Err() == nil {
			return stream, err
		}
		// The session died under the request. Run notices the same and replaces it.
		select {
		case <-gone:
		case <-ctx.Done():
		}
	}
}

func (l *Line) final() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
