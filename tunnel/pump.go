package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/keyholed/keyhole/tunnel/tries"
)

const (
	// DefaultIdle ends a tunnel in which no byte moved for so long. Dead peers
	// are found by TCP's own keep-alive; this only clears away what was
	// forgotten, so it is as patient as a NAT must be with a silent TCP
	// connection (RFC 5382 REQ-5: 2 h 4 min), and an ssh session outlives a
	// lunch.
	DefaultIdle = 2 * time.Hour
	// DefaultHalfIdle is the same once one side has said that it is done: what
	// is left is an answer on its way, and not every program closes a
	// connection whose other end is gone.
	DefaultHalfIdle = 10 * time.Minute
	// DefaultStall ends a tunnel of which one side takes nothing while there
	// is something for it: a paused player survives a phone call, and a phone
	// that vanished does not hold its place for the quarter of an hour that
	// the kernel would try on.
	DefaultStall = 5 * time.Minute
	// watchesPerLimit is how often within its shortest limit a tunnel is
	// looked at: a limit strikes at most a quarter late, and an idle tunnel
	// wakes the processor less than once a minute.
	watchesPerLimit = 4
)

// Conn is one side of a tunnel: *net.TCPConn, *net.UnixConn, *tls.Conn and the
// streams of sessions are. Close from another goroutine must end a Read or a
// Write at once, and may come more than once.
//
// A Conn that is a readiness.Reader, or a TCP or Unix socket, costs no buffer
// while nothing flows. One that has a Reset method is ended by it, instead of
// by Close, where the other side must not take the end for an orderly one.
type Conn interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Traffic counts the bytes a tunnel delivers, readable while it runs.
type Traffic struct{ up, down atomic.Int64 }

// Up is the number of bytes delivered from client to service.
func (t *Traffic) Up() int64 { return t.up.Load() }

// Down is the number of bytes delivered from service to client.
func (t *Traffic) Down() int64 { return t.down.Load() }

// Pump copies between two Conns. The zero value is ready, with the default
// limits.
type Pump struct {
	Idle     time.Duration // 0: DefaultIdle
	HalfIdle time.Duration // 0: DefaultHalfIdle, at most Idle
	Stall    time.Duration // 0: DefaultStall
	Traffic  *Traffic      // counts while it runs; nil: only the Report

	rtsp  bool            // follow the requests and answer SETUPs for UDP
	guard *guard          // watches passwords; nil: nobody does
	cut   context.Context // ends the tunnel as Run's does; nil: there is none
}

// Run copies both ways until both sides have ended, a limit strikes or ctx is
// done, closes both, and says how it went. It starts one goroutine and waits for
// it. Each direction holds at most one buffer of 64 KiB, and that only
// while bytes flow: a side that stops reading stops the other from being read.
func (p Pump) Run(ctx context.Context, client, service Conn) Report {
	p = p.withDefaults()
	began := time.Now()
	t := newRun(p, client, service)
	t.supervise(ctx)
	upEnded := make(chan struct{})
	go func() {
		defer close(upEnded)
		t.up.run()
	}()
	t.down.run() // here: a goroutine less for as long as the tunnel lives
	<-upEnded
	t.finish()
	if p.guard != nil {
		p.guard.finish(tries.Abandoned)
	}
	return Report{
		Up: p.Traffic.Up(), Down: p.Traffic.Down(),
		Duration: time.Since(began), Why: t.why, Err: t.err,
	}
}

func (p Pump) withDefaults() Pump {
	orElse := func(d *time.Duration, otherwise time.Duration) {
		if *d <= 0 {
			*d = otherwise
		}
	}
	orElse(&p.Idle, DefaultIdle)
	orElse(&p.HalfIdle, DefaultHalfIdle)
	orElse(&p.Stall, DefaultStall)
	p.HalfIdle = min(p.HalfIdle, p.Idle)
	if p.Traffic == nil {
		p.Traffic = new(Traffic)
	}
	return p
}

// run is one tunnel in motion. The two flows tell it of their end and are
// watched through their atomic counters.
type run struct {
	Pump
	client, service Conn
	up, down        *flow

	mu      sync.Mutex // guards what follows, and is held while both sides are closed
	tick    *time.Timer
	watched *watched
	forget  []func() bool // no more news of the contexts
	done    bool          // Run is about to return

	why  Why // "" until something ended
	err  error
	half bool // one direction is done
	over bool // both sides are being closed
}

func newRun(p Pump, client, service Conn) *run {
	t := &run{Pump: p, client: client, service: service}
	oneEnded := new(atomic.Bool)
	t.up = &flow{from: client, to: service, moved: &p.Traffic.up, ended: t.flowEnded, oneEnded: oneEnded, side: WhyClient, other: WhyService}
	t.down = &flow{from: service, to: client, moved: &p.Traffic.down, ended: t.flowEnded, oneEnded: oneEnded, side: WhyService, other: WhyClient}
	switch {
	case p.rtsp:
		watch(t.up, t.down, p.guard)
	case p.guard != nil:
		watchHTTP(t.up, t.down, p.guard)
	}
	t.watched = newWatched(t)
	return t
}

// supervise arms what may end the tunnel beside its flows: contexts and limits.
// It takes no goroutine, whose stack each idle tunnel would hold.
func (t *run) supervise(ctxs ...context.Context) {
	if t.cut != nil {
		ctxs = append(ctxs, t.cut)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ctx := range ctxs {
		if ctx.Done() == nil {
			continue
		}
		t.forget = append(t.forget, context.AfterFunc(ctx, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			if !t.done {
				t.strike(WhyCut, context.Cause(ctx), true)
			}
		}))
	}
	t.tick = time.AfterFunc(t.watchEvery(), t.look)
}

func (t *run) watchEvery() time.Duration { return min(t.Idle, t.HalfIdle, t.Stall) / watchesPerLimit }

// look compares the tunnel with its limits.
func (t *run) look() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return
	}
	if why := t.watched.check(); why != "" {
		t.strike(why, nil, why == WhyStalled)
	}
	t.tick.Reset(t.watchEvery())
}

// finish closes what an orderly end has left open, when both flows have ended.
func (t *run) finish() {
	for _, stop := range t.forget {
		stop()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done = true
	t.tick.Stop()
	t.end(WhyError, nil, false)
}

// flowEnded decides what the end of one direction means for the other.
func (t *run) flowEnded(o outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case o.err == nil:
		// An orderly half-close, passed on: the answer may still be on its way.
		t.note(o.side, nil, o.first)
	case o.err == io.EOF:
		// The same, but the other side knows no half-close: it ends as a whole.
		t.end(o.side, nil, false)
	case o.fatal:
		t.end(WhyError, o.err, true)
	case o.writing && o.side == WhyService:
		// The service takes no more. What it said before that may still be on
		// its way to the client; its own end follows.
		t.note(whyOf(o), detailOf(o), o.first)
	default:
		t.end(whyOf(o), detailOf(o), true)
	}
	t.half = true
}

// note keeps the first reason: what follows is its echo. The reports of the two
// flows may arrive in the other order than they ended in.
func (t *run) note(why Why, err error, first bool) {
	if t.why == "" || first && !t.over {
		t.why, t.err = why, err
	}
}

// strike ends a tunnel from our side. That one direction had already ended in
// order is not why.
func (t *run) strike(why Why, err error, abruptly bool) {
	if !t.over {
		t.why = ""
	}
	t.end(why, err, abruptly)
}

// end closes both sides, once. With abruptly neither side is told that this was
// an orderly end.
func (t *run) end(why Why, err error, abruptly bool) {
	if t.over {
		return
	}
	t.over = true
	t.note(why, err, false)
	if t.guard != nil {
		t.guard.wake()
	}
	for _, c := range []Conn{t.client, t.service} {
		if abruptly {
			reset(c)
		}
		// What Close has to say adds nothing to how the tunnel ended.
		_ = c.Close()
	}
}

func reset(c Conn) {
	switch c := c.(type) {
	case interface{ Reset() error }:
		_ = c.Reset()
	case *net.TCPConn:
		_ = c.SetLinger(0) // Close sends RST
	}
}

// whyOf blames a side for an error: one that is gone has closed, anything else
// is an error.
func whyOf(o outcome) Why {
	if isGone(o.err) {
		return o.side
	}
	return WhyError
}

func detailOf(o outcome) error {
	if errors.Is(o.err, net.ErrClosed) {
		return nil
	}
	return o.err
}

func isGone(err error) bool {
	for _, gone := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE, syscall.ENOTCONN} {
		if errors.Is(err, gone) {
			return true
		}
	}
	return false
}

// watched is what the supervisor saw at its last looks.
type watched struct {
	t        *run
	moved    int64     // sum of both directions
	movedAt  time.Time // when it was last seen to grow
	writes   [2]uint64 // flow.writes of up and down
	writesAt [2]time.Time
}

func newWatched(t *run) *watched {
	now := time.Now()
	return &watched{t: t, movedAt: now, writesAt: [2]time.Time{now, now}}
}

// check returns the limit that has been reached, or "".
func (w *watched) check() Why {
	now := time.Now()
	for i, f := range []*flow{w.t.up, w.t.down} {
		if n := f.writes.Load(); n != w.writes[i] || n%2 == 0 {
			w.writes[i], w.writesAt[i] = n, now
		} else if now.Sub(w.writesAt[i]) >= w.t.Stall {
			return WhyStalled
		}
	}
	idle := w.t.Idle
	if w.t.half {
		idle = w.t.HalfIdle
	}
	if moved := w.t.Traffic.Up() + w.t.Traffic.Down(); moved != w.moved {
		w.moved, w.movedAt = moved, now
	} else if now.Sub(w.movedAt) >= idle {
		return WhyIdle
	}
	return ""
}
