package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// errNoPipe: the process has no descriptors left for one. The bytes go through
// its memory then.
var errNoPipe = errors.New("no pipe")

// A flow carries what one side sends to the other.
type flow struct {
	tunnel   *tunnel
	side     side // who sends
	from, to *net.TCPConn
	mover    mover
}

// A mover takes bytes from one connection and puts them into another.
type mover interface {
	// take waits until there are bytes and takes some of them. It returns
	// io.EOF at the end, errQuota, errNoPipe, or the error of the connection,
	// which is os.ErrDeadlineExceeded when the read deadline has passed.
	take() (n int, err error)
	// pass puts what was taken into the other connection without waiting, and
	// reports how many bytes are left.
	pass() (left int, err error)
	// wait is pass that waits, until all is through or the write deadline
	// has passed.
	wait() (left int, err error)
	// release gives back what is borrowed.
	release()
}

func newFlow(t *tunnel, s side) *flow {
	f := &flow{tunnel: t, side: s, from: t.legs[s], to: t.legs[s.other()]}
	f.mover = t.relay.mover(f)
	return f
}

// run is the goroutine of a flow.
func (f *flow) run() {
	defer f.tunnel.relay.work.Done()
	if why := f.carry(); why != "" {
		f.tunnel.cut(why)
	}
	f.mover.release()
	f.tunnel.ended()
}

// carry moves bytes until the sender's end has been carried over ("") or
// something ends the tunnel.
func (f *flow) carry() Why {
	if !f.rest() {
		return WhyReset
	}
	for {
		_, err := f.mover.take()
		switch {
		case err == io.EOF:
			// Who has closed reading already gets no more; that is no fault.
			_ = f.to.CloseWrite()
			f.tunnel.halfDone(f.side)
			return ""
		case err == errQuota:
			return WhyQuota
		case err == errNoPipe:
			f.mover = newCopier(f)
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			if why := f.overdue(); why != "" {
				return why
			}
			continue
		case err != nil:
			return brokenOff(err)
		}
		if why := f.push(); why != "" {
			return why
		}
	}
}

// push hands on what was taken.
func (f *flow) push() Why {
	left, err := f.mover.pass()
	if err != nil {
		return brokenOff(err)
	}
	if left == 0 {
		return ""
	}
	t := f.tunnel
	for {
		limit := t.relay.times.stall
		if t.until > 0 {
			limit = min(limit, t.until-t.relay.now())
		}
		if err := f.to.SetWriteDeadline(time.Now().Add(limit)); err != nil {
			return WhyReset
		}
		before := left
		left, err = f.mover.wait()
		switch {
		case err == nil:
			if f.to.SetWriteDeadline(time.Time{}) != nil {
				return WhyReset
			}
			return ""
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return brokenOff(err)
		case t.over():
			return WhyTime
		case left == before:
			return WhyStalled
		}
	}
}

// brokenOff tells a side that ended the connection from one that the kernel gave
// up, because it took nothing for as long as endVanished says.
func brokenOff(err error) Why {
	if errors.Is(err, syscall.ETIMEDOUT) {
		return WhyStalled
	}
	return WhyReset
}

// rest sets when to look whether the sender is silent for too long.
func (f *flow) rest() bool {
	t := f.tunnel
	now := t.relay.now()
	due := time.Duration(t.last.Load()) + t.patience() - now
	if t.until > 0 {
		due = min(due, t.until-now)
	}
	return f.from.SetReadDeadline(time.Now().Add(due)) == nil
}

// overdue is called when that time has come. Bytes may have flown since it was
// set, in either direction.
func (f *flow) overdue() Why {
	t := f.tunnel
	switch {
	case t.over():
		return WhyTime
	case t.relay.now() >= time.Duration(t.last.Load())+t.patience():
		return WhyIdle
	case !f.rest():
		return WhyReset
	}
	return ""
}

func (t *tunnel) over() bool { return t.until > 0 && t.relay.now() >= t.until }

// patience is how long the tunnel may be silent.
func (t *tunnel) patience() time.Duration {
	if t.done.Load() > 0 {
		return t.relay.times.halfIdle
	}
	return t.relay.times.idle
}

// halfDone is called when a side has sent all: the other is not waited for as
// long from now on.
func (t *tunnel) halfDone(done side) {
	if t.done.Load() == 0 {
		_ = t.legs[done.other()].SetReadDeadline(time.Now().Add(min(t.relay.times.halfIdle, t.remaining())))
	}
}

// remaining is how much of a tunnel's life is left.
func (t *tunnel) remaining() time.Duration {
	if t.until == 0 {
		return 1<<63 - 1
	}
	return t.until - t.relay.now()
}
