package relay

import (
	"sync"

	"github.com/keyholed/keyhole/internal/readiness"
)

// copyBytes is what a flow moves at once where the kernel cannot move it.
const copyBytes = 32 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBytes]byte) }}

// A copier moves bytes through this process: on systems without splice, and
// when there are no descriptors for a pipe. Where the system tells when a
// socket is readable it holds a buffer only while bytes flow.
type copier struct {
	flow *flow
	from readiness.Reader // nil: the system does not tell
	buf  *[copyBytes]byte
	held []byte // taken and not passed, in buf
}

func newCopier(f *flow) *copier {
	c := &copier{flow: f}
	if r, ok := readiness.Of(f.from); ok {
		c.from = r
	}
	return c
}

func (c *copier) take() (int, error) {
	for {
		n, err := c.try()
		if n > 0 || err != nil {
			return n, err
		}
		if err := c.from.WaitRead(); err != nil {
			return 0, err
		}
	}
}

// try takes what is there now; without a Reader it waits.
func (c *copier) try() (int, error) {
	t := c.flow.tunnel
	if c.from == nil {
		return c.read()
	}
	granted := t.reserve(copyBytes)
	if granted == 0 {
		return 0, errQuota
	}
	c.borrow()
	n, err := c.from.TryRead(c.buf[:granted])
	t.took(c.flow.side, granted, n)
	if c.held = c.buf[:n]; n == 0 {
		c.release()
	}
	return n, err
}

// read waits with the buffer in hand and asks the quota afterwards: what is
// over it is dropped here, and the tunnel is cut.
func (c *copier) read() (int, error) {
	c.borrow()
	n, err := c.flow.from.Read(c.buf[:])
	if n == 0 {
		return 0, err
	}
	t := c.flow.tunnel
	granted := t.reserve(n)
	if granted == 0 {
		return 0, errQuota
	}
	t.took(c.flow.side, granted, granted)
	c.held = c.buf[:granted]
	return granted, nil
}

func (c *copier) pass() (int, error) { return len(c.held), nil }

func (c *copier) wait() (int, error) {
	n, err := c.flow.to.Write(c.held)
	if c.held = c.held[n:]; len(c.held) == 0 {
		c.release()
	}
	return len(c.held), err
}

func (c *copier) borrow() {
	if c.buf == nil {
		c.buf = copyBuffers.Get().(*[copyBytes]byte)
	}
}

func (c *copier) release() {
	if c.buf != nil {
		copyBuffers.Put(c.buf)
		c.buf, c.held = nil, nil
	}
}
