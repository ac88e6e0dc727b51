package registry

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

const (
	presencePrefix = "presence/"
	// presenceDelay is how long changes wait, so that an attach and what the
	// device says right after it are one write.
	presenceDelay = 500 * time.Millisecond
	// maxWaiting bounds the devices whose presence waits while the store
	// does not answer: some 20 MB.
	maxWaiting = 1 << 16
)

// A State says whether a device is there.
type State uint8

// The states.
const (
	Unknown  State = 0
	Attached State = 1
	Gone     State = 2
)

func (s State) String() string { return [...]string{"unknown", "attached", "gone"}[min(s, 2)] }

// A Presence is what is known of a device that has attached. It is written
// often, so it is small: CBOR with integer keys.
type Presence struct {
	Fingerprint attach.Hash        `cbor:"1,keyasint"`
	State       State              `cbor:"2,keyasint"`
	Node        string             `cbor:"3,keyasint"`          // where it is, or was last
	Since       uint64             `cbor:"4,keyasint"`          // seconds since 1970: of State
	Address     attach.Address     `cbor:"5,keyasint,omitzero"` // it was seen at
	Firmware    string             `cbor:"6,keyasint,omitempty"`
	Boots       uint32             `cbor:"7,keyasint,omitempty"`
	Reason      attach.CloseReason `cbor:"8,keyasint,omitempty"` // of Gone
	TCP         bool               `cbor:"9,keyasint,omitempty"` // attached over TCP, UDP being blocked
	Serial      string             `cbor:"10,keyasint,omitempty"`

	// Epoch is that of the oldest presence pass which counts; it holds only if
	// Told, since a device that has not told it yet may have raised it.
	Told  bool   `cbor:"11,keyasint,omitempty"`
	Epoch uint64 `cbor:"12,keyasint,omitempty"`
}

// ID is that of the device.
func (p *Presence) ID() identity.ID { return identity.Fingerprint(p.Fingerprint).ID() }

// A change is what waits to be written of one device.
type change struct {
	whole  bool // record is all there is to know; else it is edited as follows
	record Presence
	told   bool
	epoch  uint64
	moved  netip.AddrPort
	gone   bool
	reason attach.CloseReason
	goneAt uint64
}

type waiting struct {
	sync.Mutex
	by   map[identity.Fingerprint]*change
	lost atomic.Uint64
}

// edit returns the change of a device to add to, or nil when too many wait.
func (w *waiting) editLocked(f identity.Fingerprint) *change {
	c := w.by[f]
	if c == nil {
		if len(w.by) >= maxWaiting {
			w.lost.Add(1)
			return nil
		}
		c = new(change)
		w.by[f] = c
	}
	return c
}

// Attached writes soon that a device is attached to this node. None of these four
// waits; while the store does not answer, changes of more than 65,536 devices are lost.
func (r *Registry) Attached(p Presence) {
	p.State, p.Node = Attached, r.node
	r.waiting.Lock()
	defer r.waiting.Unlock()
	if c := r.waiting.editLocked(identity.Fingerprint(p.Fingerprint)); c != nil {
		*c = change{whole: true, record: p}
	}
}

// Told writes soon which presence passes count.
func (r *Registry) Told(f identity.Fingerprint, epoch uint64) {
	r.waiting.Lock()
	defer r.waiting.Unlock()
	if c := r.waiting.editLocked(f); c != nil {
		c.told, c.epoch = true, epoch
	}
}

// Moved writes soon where an attached device is seen now.
func (r *Registry) Moved(f identity.Fingerprint, to netip.AddrPort) {
	r.waiting.Lock()
	defer r.waiting.Unlock()
	if c := r.waiting.editLocked(f); c != nil {
		c.moved = to
	}
}

// Gone writes soon that a device left this node, unless another one has it now.
func (r *Registry) Gone(f identity.Fingerprint, reason attach.CloseReason) {
	r.waiting.Lock()
	defer r.waiting.Unlock()
	if c := r.waiting.editLocked(f); c != nil {
		c.gone, c.reason, c.goneAt = true, reason, now()
	}
}

// Abandon writes that a device is gone from a node that does not say so itself,
// because it died, or forgot the device when it restarted. A record that was
// written since it was read is left as it is; done says that it was not.
func (r *Registry) Abandon(ctx context.Context, id identity.ID, node string, since uint64) (done bool, err error) {
	key := presencePrefix + string(id)
	data, revision, err := r.store.Get(ctx, key)
	var p Presence
	if err == nil {
		err = attach.Decode(data, &p)
	}
	if err != nil || p.State != Attached || p.Node != node || p.Since != since {
		return false, err
	}
	p.State, p.Reason, p.Since = Gone, attach.CloseSilent, now()
	if data, err = attach.Encode(p); err == nil {
		_, err = r.store.Update(ctx, key, data, revision)
	}
	if errors.Is(err, store.ErrConflict) {
		return false, nil // it is back
	}
	return err == nil, err
}

// LostPresence is how many changes were lost since the start.
func (r *Registry) LostPresence() uint64 { return r.waiting.lost.Load() }

// flush hands all that waits to the store.
func (r *Registry) flush(ctx context.Context) {
	r.waiting.Lock()
	all := r.waiting.by
	r.waiting.by = map[identity.Fingerprint]*change{}
	r.waiting.Unlock()
	failed := 0
	var reason error
	for f, c := range all {
		if err := r.write(ctx, f, c); err != nil {
			failed, reason = failed+1, err
		}
	}
	if failed > 0 {
		r.waiting.lost.Add(uint64(failed))
		r.log.Warn("presence was not written", "devices", failed, "err", reason)
	}
}

func (r *Registry) write(ctx context.Context, f identity.Fingerprint, c *change) error {
	key := presencePrefix + string(f.ID())
	p := c.record
	if !c.whole {
		before, err := r.Presence(ctx, f.ID())
		if errors.Is(err, store.ErrNotFound) {
			return nil // removed by the operator meanwhile
		}
		if err != nil {
			return err
		}
		if before.Node != r.node {
			return nil // it is another node's by now
		}
		p = before
	}
	if c.told {
		p.Told, p.Epoch = true, c.epoch
	}
	if c.moved.IsValid() {
		p.Address, p.TCP = observed(c.moved)
	}
	if c.gone {
		p.State, p.Reason, p.Since = Gone, c.reason, c.goneAt
	}
	data, err := attach.Encode(p)
	if err != nil {
		return err
	}
	return r.store.PutSoon(key, data)
}

// observed is where a device is seen, as a record holds it.
func observed(a netip.AddrPort) (at attach.Address, tcp bool) {
	if attach.IsStream(a) {
		return attach.Address{}, true
	}
	return attach.Address{AddrPort: a}, false
}

// SetAddress fills in where the device is seen.
func (p *Presence) SetAddress(a netip.AddrPort) { p.Address, p.TCP = observed(a) }

// Presence returns what is known of a device, up to a second late. It returns
// store.ErrNotFound.
func (r *Registry) Presence(ctx context.Context, id identity.ID) (p Presence, err error) {
	if _, err := identity.ParseID(string(id)); err != nil {
		return p, fmt.Errorf("%w: %w", store.ErrNotFound, err)
	}
	data, _, err := r.store.Get(ctx, presencePrefix+string(id))
	if err != nil {
		return p, err
	}
	if err := attach.Decode(data, &p); err != nil {
		return p, fmt.Errorf("presence of %s: %w", id, err)
	}
	return p, nil
}

// Presences tells every device that ever attached, in no order.
func (r *Registry) Presences(ctx context.Context, tell func(identity.ID, Presence) error) error {
	return r.store.List(ctx, presencePrefix, func(key string, value []byte, _ uint64) error {
		var p Presence
		if err := attach.Decode(value, &p); err != nil {
			r.log.Warn("a record of presence is damaged", "key", key, "err", err)
			return nil
		}
		return tell(identity.ID(strings.TrimPrefix(key, presencePrefix)), p)
	})
}
