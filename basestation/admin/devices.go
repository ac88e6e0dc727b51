package admin

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
)

const (
	defaultPage = 1000
	// maxPage bounds the memory of an answer, some 100 MB with its records. A page
	// is a look at every record, so a million devices should not take many.
	maxPage = 100_000

	maxNoteBytes   = 256
	maxVendorBytes = 64
	maxSerialBytes = 64
)

// Words for the state of a device.
const (
	stateAttached   = "attached"
	stateGone       = "gone"
	stateRegistered = "registered"
)

func (s *Server) listDevices(w http.ResponseWriter, r *http.Request) error {
	query, err := queryOf(r, "after", "limit", "state")
	if err != nil {
		return err
	}
	p := page{after: identity.ID(query.Get("after")), most: defaultPage}
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPage {
			return api.Problemf(api.CodeMalformed, "limit: want 1 to %d", maxPage)
		}
		p.most = n
	}
	if _, err := identity.ParseID(string(p.after)); p.after != "" && err != nil {
		return api.Problemf(api.CodeMalformed, "after: %v", err)
	}
	state := query.Get("state")
	if state != "" && state != stateAttached && state != stateGone && state != stateRegistered {
		return api.Problemf(api.CodeMalformed, "state: want %s, %s or %s", stateAttached, stateGone, stateRegistered)
	}
	if err := s.gather(r.Context(), &p, state); err != nil {
		return err
	}
	ids := p.whole()
	answer := Devices{Devices: make([]Device, 0, len(ids))}
	for _, id := range ids {
		d := deviceOf(id, *p.found[id])
		if err := s.addBlock(r.Context(), &d); err != nil {
			return err
		}
		answer.Devices = append(answer.Devices, d)
	}
	if p.more {
		answer.Next = string(ids[len(ids)-1])
	}
	api.WriteJSON(w, answer)
	return nil
}

// gather fills the page from both lists: who was registered, and who attached.
func (s *Server) gather(ctx context.Context, p *page, state string) error {
	attended := map[identity.ID]bool{} // only for stateRegistered
	err := s.Records.Presences(ctx, func(id identity.ID, presence registry.Presence) error {
		if state == stateRegistered {
			attended[id] = true
		} else if state == "" || state == presence.State.String() {
			if e := p.add(id); e != nil {
				e.presence = &presence
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.Records.Devices(ctx, func(d registry.Device) error {
		e := p.found[d.ID]
		if e == nil && (state == "" || state == stateRegistered && !attended[d.ID]) {
			e = p.add(d.ID)
		}
		if e != nil {
			e.registered = &d
		}
		return nil
	})
}

// page gathers the first ids behind one, in their order, out of any number in
// none, in memory for two pages.
type page struct {
	after identity.ID
	most  int
	found map[identity.ID]*entry
	last  identity.ID // nothing behind it is wanted any more; "": no such bound yet
	more  bool
}

// entry is what the lists say of one device.
type entry struct {
	presence   *registry.Presence
	registered *registry.Device
}

// add returns the entry of an id that may be on the page, or nil.
func (p *page) add(id identity.ID) *entry {
	if id <= p.after || p.last != "" && id > p.last {
		p.more = p.more || id > p.after
		return nil
	}
	e := p.found[id]
	if e == nil {
		if len(p.found) > 2*p.most {
			p.whole()
			if id > p.last {
				return nil
			}
		}
		if p.found == nil {
			p.found = map[identity.ID]*entry{}
		}
		e = new(entry)
		p.found[id] = e
	}
	return e
}

// whole forgets what is behind the page and returns the ids on it, in order.
func (p *page) whole() []identity.ID {
	ids := slices.Sorted(maps.Keys(p.found))
	if len(ids) <= p.most {
		return ids
	}
	for _, id := range ids[p.most:] {
		delete(p.found, id)
	}
	p.more, p.last = true, ids[p.most-1]
	return ids[:p.most]
}

func (s *Server) showDevice(w http.ResponseWriter, r *http.Request) error {
	id, err := idOf(r)
	if err != nil {
		return err
	}
	d, err := s.device(r.Context(), id)
	if err != nil {
		return err
	}
	api.WriteJSON(w, d)
	return nil
}

func idOf(r *http.Request) (identity.ID, error) {
	id, err := identity.ParseID(r.PathValue("id"))
	if err != nil {
		return "", api.Problemf(api.CodeNotFound, "%v", err)
	}
	return id, nil
}

// device puts together what the records say. It returns store.ErrNotFound when
// none does.
func (s *Server) device(ctx context.Context, id identity.ID) (Device, error) {
	var e entry
	registered, err := s.Records.Device(ctx, id)
	if err == nil {
		e.registered = &registered
	} else if !errors.Is(err, store.ErrNotFound) {
		return Device{}, err
	}
	presence, err := s.Records.Presence(ctx, id)
	if err == nil {
		e.presence = &presence
	} else if !errors.Is(err, store.ErrNotFound) {
		return Device{}, err
	}
	d := deviceOf(id, e)
	if err := s.addBlock(ctx, &d); err != nil {
		return Device{}, err
	}
	if e == (entry{}) && d.Blocked == nil {
		return Device{}, store.ErrNotFound
	}
	return d, nil
}

// addBlock says why a device is blocked, if it is.
func (s *Server) addBlock(ctx context.Context, d *Device) error {
	block, err := s.Records.BlockOf(ctx, d.ID)
	if err == nil {
		d.Blocked = &Block{Reason: block.Reason, Since: *unix(block.Since)}
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

func deviceOf(id identity.ID, e entry) Device {
	d := Device{ID: id, State: stateRegistered}
	if r := e.registered; r != nil {
		d.Serial, d.Vendor, d.Note, d.Added = r.Serial, r.Vendor, r.Note, unix(r.Added)
		if !r.Fingerprint.IsZero() {
			d.Fingerprint = r.Fingerprint.String()
		}
	}
	if e.presence != nil {
		d.attended(*e.presence)
	}
	return d
}

func (d *Device) attended(p registry.Presence) {
	d.Fingerprint = identity.Fingerprint(p.Fingerprint).String()
	d.State, d.Since, d.Node = p.State.String(), unix(p.Since), p.Node
	d.Firmware, d.Boots, d.Serial = p.Firmware, p.Boots, cmp.Or(d.Serial, p.Serial)
	if p.State == registry.Gone {
		d.Reason = p.Reason.String()
	}
	if d.Transport = "udp"; p.TCP {
		d.Transport = "tcp"
	}
	if p.Address.IsValid() {
		d.Address = p.Address.String()
	}
}

func unix(seconds uint64) *time.Time {
	t := time.Unix(int64(min(seconds, 1<<40)), 0).UTC()
	return &t
}

func (s *Server) addDevice(w http.ResponseWriter, r *http.Request) error {
	var in DeviceAdd
	if err := decode(w, r, &in); err != nil {
		return err
	}
	d := registry.Device{ID: identity.ID(in.ID), Serial: in.Serial, Vendor: in.Vendor, Note: in.Note}
	if in.Fingerprint != "" {
		f, err := identity.ParseFingerprint(in.Fingerprint)
		if err != nil {
			return api.Problemf(api.CodeMalformed, "fingerprint: %v", err)
		}
		d.Fingerprint, d.ID = f, cmp.Or(d.ID, f.ID())
	}
	if _, err := identity.ParseID(string(d.ID)); err != nil {
		return api.Problemf(api.CodeMalformed, "id: %v", err)
	}
	if !d.Fingerprint.IsZero() && d.Fingerprint.ID() != d.ID {
		return api.Problemf(api.CodeMalformed, "id and fingerprint are not of one key")
	}
	for _, f := range []struct {
		key, text string
		most      int
	}{{"serial", d.Serial, maxSerialBytes}, {"vendor", d.Vendor, maxVendorBytes}, {"note", d.Note, maxNoteBytes}} {
		if len(f.text) > f.most {
			return api.Problemf(api.CodeMalformed, "%s: %d bytes, at most %d", f.key, len(f.text), f.most)
		}
	}
	if err := s.Records.Add(r.Context(), d); err != nil {
		return err
	}
	full, err := s.device(r.Context(), d.ID)
	if err != nil {
		return err
	}
	api.WriteJSON(w, full)
	return nil
}

// known returns the id in the path, of a device that there is.
func (s *Server) known(r *http.Request) (identity.ID, error) {
	id, err := idOf(r)
	if err == nil {
		_, err = s.device(r.Context(), id)
	}
	return id, err
}

func (s *Server) removeDevice(w http.ResponseWriter, r *http.Request) error {
	id, err := s.known(r)
	if err == nil {
		err = s.Records.Remove(r.Context(), id)
	}
	return done(w, err)
}

// blockDevice blocks unknown devices as well: one that was stolen before it ever
// attached must not.
func (s *Server) blockDevice(w http.ResponseWriter, r *http.Request) error {
	id, err := idOf(r)
	if err != nil {
		return err
	}
	var in BlockAdd
	if err := decode(w, r, &in); err != nil {
		return err
	}
	if len(in.Reason) > maxNoteBytes {
		return api.Problemf(api.CodeMalformed, "reason: %d bytes, at most %d", len(in.Reason), maxNoteBytes)
	}
	return done(w, s.Records.Block(r.Context(), id, in.Reason))
}

func (s *Server) unblockDevice(w http.ResponseWriter, r *http.Request) error {
	id, err := s.known(r)
	if err == nil {
		err = s.Records.Unblock(r.Context(), id)
	}
	return done(w, err)
}

func done(w http.ResponseWriter, err error) error {
	if err == nil {
		api.WriteJSON(w, Done{true})
	}
	return err
}
