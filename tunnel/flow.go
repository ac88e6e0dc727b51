package tunnel

import (
	"errors"
	"io"
	"net"
	"sync/atomic"

	"github.com/keyholed/keyhole/internal/readiness"
)

// flow is one direction of a tunnel, one goroutine.
type flow struct {
	from, to Conn
	moved    *atomic.Int64 // bytes delivered
	ended    func(outcome)
	oneEnded *atomic.Bool // shared by both flows of a tunnel
	side     Why          // who is to blame when reading fails
	other    Why          // who is to blame when writing fails

	// follow is nil where bytes pass unseen. Otherwise it is given all that
	// was read and says by write what goes on.
	follow follower

	// writes is odd while a write is under way, and grows with each.
	writes atomic.Uint64
}

// follower sees the bytes of one direction. It must not keep p.
type follower interface {
	// pass hands on what may go on, by f.write.
	pass(f *flow, p []byte) error
	// ended is told how the direction ended.
	ended(outcome)
}

// outcome is how a flow ended.
type outcome struct {
	err     error // nil: an orderly end, passed on
	side    Why   // WhyClient or WhyService: where it happened
	writing bool  // the error is from a write
	fatal   bool  // nobody's connection: the bytes must not go on
	first   bool  // the other flow had not ended
}

func (f *flow) run() {
	err := f.copy()
	o := outcome{err: err, side: f.side}
	switch e := err.(type) {
	case *writeError:
		o.err, o.side, o.writing = e.err, f.other, true
	case *ProtocolError:
		o.fatal = true
	}
	// Noted before the other side hears of it: its answer to the end must not
	// pass for the beginning of it.
	o.first = f.oneEnded.CompareAndSwap(false, true)
	if err == io.EOF {
		o.err = nil
		if err := f.to.CloseWrite(); errors.Is(err, errors.ErrUnsupported) {
			// The other side cannot be told in any other way.
			o.err = io.EOF
		}
		// Any other error means that it is gone, which reading it will tell.
	}
	if f.follow != nil {
		f.follow.ended(o)
	}
	f.ended(o)
}

// errServiceGone is what a request meets that was held until its service had gone.
var errServiceGone = net.ErrClosed

// writeError tells a failed write from a failed read.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// copy moves bytes until reading or writing ends; io.EOF is an orderly end.
func (f *flow) copy() error {
	if c, ok := f.from.(net.Conn); ok {
		if r, ok := readiness.Of(c); ok {
			return f.copyReady(r, isSocket(c))
		}
	}
	if r, ok := f.from.(readiness.Reader); ok {
		return f.copyReady(r, false)
	}
	return f.copyWaiting()
}

// isSocket says that one read takes all that is there: after one that did not
// fill the buffer a second would find nothing.
func isSocket(c net.Conn) bool {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// copyReady waits empty-handed and gathers what is there into one write.
func (f *flow) copyReady(r readiness.Reader, whole bool) error {
	for {
		// A try comes before the first wait: a source may have buffered bytes.
		if err := f.drain(r, whole); err != nil {
			return err
		}
		if err := r.WaitRead(); err != nil {
			return err
		}
	}
}

// drain moves what is there now, holding a buffer no longer than that.
func (f *flow) drain(r readiness.Reader, whole bool) error {
	b := borrow()
	defer giveBack(b)
	for {
		n, err := gather(r, b[:], whole)
		if n > 0 {
			if err := f.forward(b[:n]); err != nil {
				return err
			}
		}
		if err != nil || n < len(b) {
			return err
		}
	}
}

// gather reads until the buffer is full or nothing is there now. TLS gives at
// most one record a read; several of them make one write.
func gather(r readiness.Reader, p []byte, whole bool) (n int, err error) {
	for n < len(p) {
		m, err := r.TryRead(p[n:])
		n += m
		if m == 0 || err != nil || whole {
			return n, err
		}
	}
	return n, nil
}

// copyWaiting is for a source that cannot tell when bytes are there. It waits
// with a small buffer and borrows a large one when a read has filled the small
// one, for as long as reads need it.
func (f *flow) copyWaiting() error {
	small := make([]byte, waitingBytes)
	for {
		n, err := f.from.Read(small)
		if n > 0 {
			if err := f.forward(small[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		if n == len(small) {
			if err := f.copyFull(); err != nil {
				return err
			}
		}
	}
}

// copyFull goes on with a large buffer until a read would have fitted the small
// one. A source that pauses right after a read of exactly waitingBytes leaves
// the large one here for the length of its pause.
func (f *flow) copyFull() error {
	b := borrow()
	defer giveBack(b)
	for {
		n, err := f.from.Read(b[:])
		if n > 0 {
			if err := f.forward(b[:n]); err != nil {
				return err
			}
		}
		if err != nil || n <= waitingBytes {
			return err
		}
	}
}

func (f *flow) forward(p []byte) error {
	if f.follow != nil {
		return f.follow.pass(f, p)
	}
	return f.write(p)
}

// write delivers p and counts it.
func (f *flow) write(p []byte) error {
	f.writes.Add(1)
	n, err := f.to.Write(p)
	f.writes.Add(1)
	f.moved.Add(int64(n))
	if err != nil {
		return &writeError{err}
	}
	return nil
}
