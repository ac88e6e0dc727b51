package inject

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyholed/keyhole/internal/readiness"
)

// Conn is a service without its password: one side of a tunnel, in place of the
// connection to the service. What is written to it are the client's bytes, what
// is read from it is for the client. One goroutine may read and one may write;
// Close may come from anywhere and ends both.
//
// It reads into the buffer that it is given and holds nothing while nothing
// flows, but for a head of which a part has come.
type Conn struct {
	talk  talk
	vault *Vault
	dial  Dial

	ctx    context.Context // done when the Conn is closed
	cancel context.CancelFunc

	mu      sync.Mutex // guards what follows, and the talk's shared part
	changed sync.Cond  // on mu: anything of it
	up      Upstream
	closed  bool
	last    []byte // the answer that ends the conversation; read by the reader once over
	over    atomic.Bool
	verdict error // why it is over, for the log

	ignored int // bytes that came after it was over; owned by the writer

	// Owned by the reader.
	reader readiness.Reader
	out    []byte // for the client, before anything else is read
	sent   int    // of out
	dry    bool   // the last read took all that was there
	anew   bool   // the connection is another one: what is left of the old one is for nobody
	final  error  // what reading says when out is empty; nil: go on
}

// talk is a protocol: what HTTP and RTSP do differently.
type talk interface {
	// fromClient takes all of p. Called by the writer.
	fromClient(p []byte) error
	// through returns how many bytes at the start of p are for the client as
	// they are. Called by the reader, as are the others.
	through(p []byte) int
	// fromService takes what through left, and appends to Conn.out what is for
	// the client.
	fromService(p []byte) error
	// ended is asked when the service has ended its connection in order. It
	// returns nil where there is another one by now.
	ended() error
	// between says that an answer of our own has a place here: the client stands
	// at the beginning of one.
	between() bool
	// closeWriteLocked passes on the client's end, now or when its last answer is there.
	// The caller holds mu.
	closeWriteLocked() error
	// abandon is the end of it all. The caller holds mu.
	abandonLocked()
}

func newConn(v *Vault, up Upstream, dial Dial) *Conn {
	c := &Conn{vault: v, dial: dial, up: up}
	c.changed.L = &c.mu
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.reader, _ = readiness.Of(up)
	return c
}

// Side is one side of a tunnel, as package tunnel has it.
type Side interface {
	io.ReadWriteCloser
	CloseWrite() error
	Reset() error
	// Verdict is why the conversation was ended from here, nil where it was not.
	Verdict() error
}

// side hides the Reader of a Conn whose system has none.
func (c *Conn) side() Side {
	if c.reader == nil {
		return plain{c}
	}
	return ready{plain{c}}
}

type plain struct{ c *Conn }

func (p plain) Read(b []byte) (int, error)  { return p.c.read(b, true) }
func (p plain) Write(b []byte) (int, error) { return p.c.write(b) }
func (p plain) CloseWrite() error           { return p.c.closeWrite() }
func (p plain) Close() error                { return p.c.close() }
func (p plain) Reset() error                { return p.c.reset() }
func (p plain) Verdict() error              { return p.c.why() }

type ready struct{ plain }

// TryRead is part of readiness.Reader.
func (r ready) TryRead(b []byte) (int, error) { return r.c.read(b, false) }

// WaitRead is part of readiness.Reader.
func (r ready) WaitRead() error { return r.c.wait() }

// read returns bytes for the client. With wait it does not return without any.
func (c *Conn) read(p []byte, wait bool) (int, error) {
	for {
		if c.sent < len(c.out) {
			n := copy(p, c.out[c.sent:])
			if c.sent += n; c.sent == len(c.out) {
				c.out, c.sent = c.out[:0], 0
				if cap(c.out) > keptIdle {
					c.out = nil
				}
			}
			return n, nil
		}
		if c.over.Load() && c.final == nil {
			c.farewell()
			continue
		}
		if c.final != nil {
			return 0, c.final
		}
		if c.dry && !wait {
			c.dry = false
			return 0, nil
		}
		n, err := c.fromSocket(p, wait)
		if n == 0 && err == nil {
			return 0, nil
		}
		if n == 0 {
			c.end(err)
			continue
		}
		c.dry = n < len(p)
		through := c.talk.through(p[:n])
		if through < n {
			c.anew = false
			if err := c.talk.fromService(p[through:n]); err != nil {
				c.conclude(nil, err)
				c.final = err
			}
		}
		if through > 0 {
			return through, nil
		}
	}
}

func (c *Conn) fromSocket(p []byte, wait bool) (int, error) {
	if !wait {
		return c.reader.TryRead(p)
	}
	return c.up.Read(p) // only the reader changes up
}

// wait is for read to have something to tell.
func (c *Conn) wait() error {
	c.dry = false
	if c.sent < len(c.out) || c.final != nil || c.over.Load() {
		return nil
	}
	// An error is for the read that follows to meet.
	if err := c.reader.WaitRead(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// end decides what the end of the service's connection means.
func (c *Conn) end(err error) {
	switch {
	case c.over.Load(): // the answer that is left to give says it
	case err == io.EOF:
		c.final = c.talk.ended()
	default:
		c.final = err
	}
}

// farewell takes over the last answer.
func (c *Conn) farewell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.final = io.EOF
	if c.talk.between() {
		c.out, c.sent = c.last, 0
	} else if c.last != nil {
		c.final = io.ErrUnexpectedEOF // what it has must not look whole
	}
	c.last = nil
	if c.closed {
		c.out, c.final = nil, net.ErrClosed
	}
}

// conclude ends the conversation with an answer of our own, after which neither
// side is listened to.
func (c *Conn) conclude(answer []byte, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.concludeLocked(answer, why)
}

func (c *Conn) concludeLocked(answer []byte, why error) {
	if c.over.Load() {
		return
	}
	c.last, c.verdict = answer, why
	c.over.Store(true)
	c.talk.abandonLocked()
	c.cancel()
	_ = c.up.Close() // wakes the reader
	c.changed.Broadcast()
}

// write takes the client's bytes.
func (c *Conn) write(p []byte) (int, error) {
	if c.over.Load() {
		if c.ignored += len(p); c.ignored > maxIgnored || c.isClosed() {
			return 0, errEnded
		}
		return len(p), nil
	}
	if err := c.talk.fromClient(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *Conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func (c *Conn) closeWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over.Load() {
		return nil
	}
	return c.talk.closeWriteLocked()
}

func (c *Conn) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.verdict
}

func (c *Conn) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	c.concludeLocked(nil, nil)
	return nil
}

// reset ends the service's connection without an orderly end.
func (c *Conn) reset() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if tcp, ok := c.up.(*net.TCPConn); ok && !c.over.Load() {
		_ = tcp.SetLinger(0)
	}
	return nil
}

// again opens another connection to the service in place of this one, which is
// closed. Only the reader calls it.
func (c *Conn) again() error {
	conn, err := c.dial(c.ctx)
	if err != nil {
		return err
	}
	up, ok := conn.(Upstream)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over.Load() || !ok {
		_ = conn.Close()
		return net.ErrClosed
	}
	_ = c.up.Close()
	c.up, c.dry, c.anew = up, false, true
	if c.reader != nil {
		c.reader, _ = readiness.Of(up)
	}
	return nil
}

// send writes a small message within answerTime.
func send(up Upstream, message []byte) error {
	if err := up.SetWriteDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	_, err := up.Write(message)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return errors.Join(err, up.SetWriteDeadline(time.Time{}))
}
