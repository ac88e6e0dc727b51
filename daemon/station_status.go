package daemon

import (
	"errors"
	"fmt"
	"time"

	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// forCaller is what GET /v1/me says of it; nil without a basestation. A presence
// pass is for those on the list: nothing makes one void when a guest leaves.
func (s *station) forCaller(peer identity.Fingerprint, listed bool) *api.Basestation {
	if s == nil {
		return nil
	}
	if !listed {
		return &api.Basestation{Addresses: s.config.Addresses, Keys: s.config.Keys}
	}
	pass, err := s.passes.pass(s.d.key, s.file.now().Presence, peer)
	if err != nil {
		s.log.Warn("no presence pass", "error", err)
	}
	return &api.Basestation{Addresses: s.config.Addresses, Keys: s.config.Keys, Presence: pass}
}

// status is what `keyholed status` says.
func (s *station) status() control.Basestation {
	if s == nil {
		return control.Basestation{State: control.BasestationOff}
	}
	now := s.link.Status()
	out := control.Basestation{
		State: control.BasestationConnecting, Address: now.Address, Path: now.Over, Since: int64(time.Since(now.Since).Seconds()),
	}
	out.Introductions, out.Relayed = s.open.count()
	if out.Address == "" {
		out.Address = s.config.Addresses[0]
	}
	if now.State == attach.StateAttached {
		out.State = control.BasestationAttached
	}
	if now.Observed.IsValid() {
		out.Observed = now.Observed.String()
	}
	if now.Err != nil {
		out.Error = now.Err.Error()
	}
	return out
}

// attached reports whether the device can be asked for from beyond the LAN.
func (s *station) attached() bool {
	return s != nil && s.link.Status().State == attach.StateAttached
}

// warnings are what the owner should look at.
func (s *station) warnings() []string {
	if s == nil {
		return nil
	}
	var w []string
	if text := s.file.warning(s.config.Keys); text != "" {
		w = append(w, text)
	}
	now := s.link.Status()
	var refused *attach.RefusedError
	switch {
	case errors.As(now.Err, &refused) && refused.Code == attach.CodeDuplicate:
		w = append(w, "another device with this device's key is attached to the basestation: if you did not copy this device, somebody has its key")
	case errors.As(now.Err, &refused) && refused.Code == attach.CodeRefused:
		w = append(w, "the basestation does not know this device: ask who runs it to add "+s.d.key.Fingerprint().String())
	case now.State != attach.StateAttached && now.Err != nil && time.Since(now.Since) > unreachableAfter:
		w = append(w, fmt.Sprintf("the basestation has not answered for %v: %v", time.Since(now.Since).Round(time.Minute), now.Err))
	}
	return w
}

// unreachableAfter is when the owner is told: a restart of router or basestation is
// over by then.
const unreachableAfter = 5 * time.Minute
