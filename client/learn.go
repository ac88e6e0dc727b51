package client

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// refreshTime bounds the question that each dial asks beside what it was for.
const refreshTime = 5 * time.Second

// besides is what a Conn does beside its owner's wishes, and ends before Close
// returns.
type besides struct {
	mu      sync.Mutex
	closed  bool
	cancel  []context.CancelFunc
	running sync.WaitGroup
}

// run calls f in a goroutine whose context ends with the Conn.
func (b *besides) run(f func(context.Context)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = append(b.cancel, cancel)
	b.running.Go(func() {
		defer cancel()
		f(ctx)
	})
}

func (b *besides) end() {
	b.mu.Lock()
	b.closed = true
	for _, cancel := range b.cancel {
		cancel()
	}
	b.mu.Unlock()
	b.running.Wait()
}

// Close ends the session, its tunnels on it, and what was done beside it.
func (c *Conn) Close() {
	c.closing.Do(func() {
		c.Client.Close()
		c.beside.end()
		c.stands.leave()
	})
}

// refresh asks the device where it can be asked for from elsewhere, and for a
// fresh presence pass: one that was handed out before somebody was revoked is not
// good any more.
func (c *Conn) refresh() {
	c.beside.run(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, refreshTime)
		defer cancel()
		if _, err := c.Me(ctx); err != nil {
			c.log.Debug("the device was not asked about its basestation", "error", err)
		}
	})
}

// learn takes what the device says of its basestation into the address book.
func (c *Conn) learn(me api.Me) {
	near := false
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		near = a.IP.IsLoopback()
	} else if a, ok := c.RemoteAddr().(*net.UDPAddr); ok {
		near = a.IP.IsLoopback()
	}
	if err := c.home.told(c.Peer(), me.Basestation, near); err != nil {
		c.log.Warn("basestation not remembered", "error", err)
	}
}

// told takes what the device with this fingerprint says of its basestation. What
// cannot be used leaves what is known.
func (h *Home) told(f identity.Fingerprint, says *api.Basestation, near bool) error {
	d, known := h.byFingerprint(f)
	if !known {
		return nil
	}
	next, err := toldBasestation(says, d.Basestation, near)
	if err == nil {
		next.Presence = h.pass(d, next.Presence)
	}
	if err != nil || next.equal(d.Basestation) {
		return err
	}
	return h.change(func(b *book) (bool, error) {
		i := b.index(f)
		if i < 0 {
			return false, nil
		}
		// Floors may have risen since.
		b.Devices[i].Basestation, _ = next.raised(b.Devices[i].Basestation.roots())
		return true, nil
	})
}

// pass is the presence pass to keep: the one that is known as long as the fresh one
// says no more, since devices sign a new one for each answer, and none that is not
// the device's own for this client.
func (h *Home) pass(d Device, fresh []byte) []byte {
	epoch, err := attach.CheckPresencePass(fresh, d.ID, h.key.Fingerprint())
	if err != nil {
		return nil
	}
	known := d.Basestation.Presence
	if before, err := attach.CheckPresencePass(known, d.ID, h.key.Fingerprint()); err == nil && before == epoch {
		return known
	}
	return fresh
}

// raise keeps the floors of root keys that have risen.
func (h *Home) raise(f identity.Fingerprint, roots []attach.Root) error {
	d, known := h.byFingerprint(f)
	if _, changed := d.Basestation.raised(roots); !known || !changed {
		return nil
	}
	return h.change(func(b *book) (changed bool, err error) {
		i := b.index(f)
		if i >= 0 {
			b.Devices[i].Basestation, changed = b.Devices[i].Basestation.raised(roots)
		}
		return changed, nil
	})
}
