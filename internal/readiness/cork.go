package readiness

import (
	"net"
	"sync/atomic"
)

const (
	// maxRecord is the plaintext of the largest TLS record (RFC 8446 §5.1).
	maxRecord = 16 << 10
	// recordOverhead is what TLS 1.3 adds to the plaintext of a record: its
	// header (5), the type (1) and the tag, 16 in all its suites that Go has.
	recordOverhead = 5 + 1 + 16
	// maxAlone: alerts and key updates, which are no part of what is written,
	// are smaller; a record of data that begins a large write never is.
	maxAlone = 64
)

// cork gathers the records of one large write and sends them by one write(2):
// crypto/tls sends each by itself. The last one sends them all, within the
// Write of TLS, so that its Close ends a write that is stuck.
type cork struct {
	rest atomic.Int64 // plaintext still to come; 0: nothing is gathered

	// Below the lock that TLS holds while it writes.
	held *spare
	n    int
}

func (c *cork) write(to net.Conn, p []byte) (int, error) {
	if c.rest.Load() <= 0 || c.held == nil && len(p) <= maxAlone {
		return to.Write(p)
	}
	if c.held == nil {
		if c.held = borrowSpare(); c.held == nil {
			c.rest.Store(0)
			return to.Write(p)
		}
	}
	if c.n+len(p) > len(c.held) {
		if err := c.send(to); err != nil {
			return 0, err
		}
	}
	c.n += copy(c.held[c.n:], p)
	if c.rest.Add(int64(recordOverhead-len(p))) > 0 {
		return len(p), nil
	}
	if err := c.end(to); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *cork) send(to net.Conn) error {
	_, err := to.Write(c.held[:c.n])
	c.n = 0
	if err != nil {
		c.drop()
	}
	return err
}

func (c *cork) end(to net.Conn) error {
	err := c.send(to)
	c.drop()
	return err
}

func (c *cork) drop() {
	c.rest.Store(0)
	if c.held != nil {
		giveSpareBack(c.held)
		c.held, c.n = nil, 0
	}
}

// Write writes p through TLS; what makes several records leaves as one.
func (r *overTLS) Write(p []byte) (int, error) {
	r.writing.Lock()
	defer r.writing.Unlock()
	if len(p) <= maxRecord {
		return r.conn.Write(p)
	}
	c := &r.gate.cork
	c.rest.Store(int64(len(p)))
	n, err := r.conn.Write(p)
	c.rest.Store(0)
	return n, err
}
