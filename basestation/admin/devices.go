package admin

import (
	"cmp"
	"context"
	"errors"
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
	// maxPage bounds the memory of an answer: some 5 MB.
	maxPage = 10_000

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
	query := r.URL.Query()
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
	answer := Devices{Devices: make([]Device, 0, len(p.found))}
	for _, d := range p.whole() {
		full, err := s.device(r.Context(), d)
		if errors.Is(err, store.ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return err
		}
		answer.Devices = append(answer.Devices, full)
	}
	if p.more {
		answer.Next = string(p.found[len(p.found)-1])
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
			p.add(id)
		}
		return nil
	})
	if err != nil || state == stateAttached || state == stateGone {
		return err
	}
	return s.Records.Devices(ctx, func(d registry.Device) error {
		if !attended[d.ID] {
			p.add(d.ID)
		}
		return nil
	})
}

// page gathers the first ids behind one, in their order, out of any number in
// none, in memory for one page.
type page struct {
	after identity.ID
	most  int
	found []identity.ID // up to twice most, unsorted and with twins, between two sorts
	last  identity.ID   // nothing behind it is wanted any more; "": no such bound yet
	more  bool
}

func (p *page) add(id identity.ID) {
	if id <= p.after || p.last != "" && id > p.last {
		p.more = p.more || id > p.after
		return
	}
	if p.found = append(p.found, id); len(p.found) >= 2*p.most+2 {
		p.sort()
	}
}

func (p *page) sort() {
	slices.Sort(p.found)
	p.found = slices.Compact(p.found)
	if len(p.found) > p.most {
		p.found, p.more = p.found[:p.most], true
		p.last = p.found[p.most-1]
	}
}

// whole returns the page when everything was added.
func (p *page) whole() []identity.ID {
	p.sort()
	return p.found
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
	registered, errRegistered := s.Records.Device(ctx, id)
	presence, errPresence := s.Records.Presence(ctx, id)
	block, errBlock := s.Records.BlockOf(ctx, id)
	missing := 0
	for _, err := range []error{errRegistered, errPresence, errBlock} {
		if errors.Is(err, store.ErrNotFound) {
			missing++
		} else if err != nil {
			return Device{}, err
		}
	}
	if missing == 3 {
		return Device{}, store.ErrNotFound
	}
	d := Device{ID: id, State: stateRegistered}
	if errRegistered == nil {
		d.Serial, d.Vendor, d.Note, d.Added = registered.Serial, registered.Vendor, registered.Note, unix(registered.Added)
		if !registered.Fingerprint.IsZero() {
			d.Fingerprint = registered.Fingerprint.String()
		}
	}
	if errPresence == nil {
		d.attended(presence)
	}
	if errBlock == nil {
		d.Blocked = &Block{Reason: block.Reason, Since: *unix(block.Since)}
	}
	return d, nil
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
