package registry

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/protocol/identity"
)

const (
	devicePrefix  = "device/"
	blockedPrefix = "blocked/"
)

// A Device is one that the operator registered, or that was enrolled by its
// serial number. Under open enrolment a device needs no such record.
type Device struct {
	ID          identity.ID          `json:"id"`
	Fingerprint identity.Fingerprint `json:"fingerprint,omitzero"` // zero: registered by its id alone
	Serial      string               `json:"serial,omitempty"`
	Vendor      string               `json:"vendor,omitempty"` // on whose account it relays
	Note        string               `json:"note,omitempty"`
	Added       uint64               `json:"added"` // seconds since 1970
}

// A Block keeps a device from attaching.
type Block struct {
	Reason string `json:"reason,omitempty"`
	Since  uint64 `json:"since"` // seconds since 1970
}

// Add registers a device, which listed enrolment then welcomes. A device that is
// registered is changed: empty fields of d leave what there is.
func (r *Registry) Add(ctx context.Context, d Device) error {
	if _, err := identity.ParseID(string(d.ID)); err != nil {
		return err
	}
	if !d.Fingerprint.IsZero() && d.Fingerprint.ID() != d.ID {
		return errors.New("fingerprint and id are not of one key")
	}
	return changeJSON(ctx, r, devicePrefix+string(d.ID), func(v *Device) {
		v.ID = d.ID
		if !d.Fingerprint.IsZero() {
			v.Fingerprint = d.Fingerprint
		}
		for _, f := range []struct{ to, from *string }{{&v.Serial, &d.Serial}, {&v.Vendor, &d.Vendor}, {&v.Note, &d.Note}} {
			if *f.from != "" {
				*f.to = *f.from
			}
		}
		if v.Added == 0 {
			v.Added = now()
		}
	})
}

// Device returns a registered device. It returns store.ErrNotFound.
func (r *Registry) Device(ctx context.Context, id identity.ID) (d Device, err error) {
	if _, err := identity.ParseID(string(id)); err != nil {
		return d, errors.Join(store.ErrNotFound, err)
	}
	_, err = r.getJSON(ctx, devicePrefix+string(id), &d)
	return d, err
}

// Devices tells every registered device, in no order.
func (r *Registry) Devices(ctx context.Context, tell func(Device) error) error {
	return r.store.List(ctx, devicePrefix, func(key string, value []byte, _ uint64) error {
		var d Device
		if err := json.Unmarshal(value, &d); err != nil {
			r.log.Warn("a record of a device is damaged", "key", key, "err", err)
			return nil
		}
		return tell(d)
	})
}

// Listed reports whether a device is registered: by its fingerprint, by its id, or
// because its serial number was bound to its key.
func (r *Registry) Listed(ctx context.Context, f identity.Fingerprint) (bool, error) {
	d, err := r.Device(ctx, f.ID())
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && (d.Fingerprint.IsZero() || d.Fingerprint == f), err
}

// Remove forgets a device: its registration, its presence and the binding of its
// serial number. A block stays, since whoever was blocked is not to come back by
// being forgotten.
func (r *Registry) Remove(ctx context.Context, id identity.ID) error {
	d, err := r.Device(ctx, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if d.Serial != "" {
		if err := r.Reopen(ctx, d.Serial); err != nil {
			return err
		}
	}
	if _, err := identity.ParseID(string(id)); err != nil {
		return err
	}
	return errors.Join(r.store.Delete(ctx, devicePrefix+string(id), 0), r.store.Delete(ctx, presencePrefix+string(id), 0))
}

// Block keeps a device from attaching, on every node, and has the one that holds
// it close its link. Unblock ends that.
func (r *Registry) Block(ctx context.Context, id identity.ID, reason string) error {
	if _, err := identity.ParseID(string(id)); err != nil {
		return err
	}
	return r.putJSON(ctx, blockedPrefix+string(id), Block{Reason: reason, Since: now()})
}

// Unblock lets a blocked device attach again.
func (r *Registry) Unblock(ctx context.Context, id identity.ID) error {
	if _, err := identity.ParseID(string(id)); err != nil {
		return err
	}
	return r.store.Delete(ctx, blockedPrefix+string(id), 0)
}

// BlockOf returns why and since when a device is blocked. It returns
// store.ErrNotFound for one that is not.
func (r *Registry) BlockOf(ctx context.Context, id identity.ID) (b Block, err error) {
	if _, err := identity.ParseID(string(id)); err != nil {
		return b, errors.Join(store.ErrNotFound, err)
	}
	_, err = r.getJSON(ctx, blockedPrefix+string(id), &b)
	return b, err
}

// Blocked reports, from memory, whether a device is blocked.
func (r *Registry) Blocked(id identity.ID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, ok := r.blocked[id]
	return ok
}

// OnBlock has tell called for every device that becomes blocked. Call it before
// Run; tell must not wait.
func (r *Registry) OnBlock(tell func(identity.ID)) { r.onBlock = tell }

func (r *Registry) watchBlocked(ctx context.Context) error {
	return r.store.Watch(ctx, blockedPrefix, func(c store.Change) {
		if c.Key == "" {
			select {
			case <-r.ready:
			default:
				close(r.ready)
			}
			return
		}
		id := identity.ID(strings.TrimPrefix(c.Key, blockedPrefix))
		r.mu.Lock()
		if c.Deleted {
			delete(r.blocked, id)
		} else {
			r.blocked[id] = struct{}{}
		}
		r.mu.Unlock()
		if !c.Deleted && r.onBlock != nil {
			r.onBlock(id)
		}
	})
}
