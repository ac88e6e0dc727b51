package daemon

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
	"github.com/keyholed/keyhole/tunnel"
)

// This file writes the audit log's lines that are not changes of permission: who,
// by which key and as what, did or tried what, by which path, from where. What of
// it is a matter of security goes to event streams and to the basestation as well
// (alarms.go), by way of the log.

// record writes to the audit log. A log that cannot be written is shown in the
// status; it does not keep people out. It is false for one event too many.
func (d *Daemon) record(e acl.Event) bool {
	written, err := d.store.Recorded(e)
	if err != nil && !errors.Is(err, acl.ErrResetting) { // the log goes with the rest
		d.log.Error("audit log", "error", err)
	}
	return written || err != nil
}

// recorded is told every line of the log, and passes on what somebody should hear of.
func (d *Daemon) recorded(e acl.Entry) {
	kind, told := alarmKind(e)
	if !told {
		return
	}
	detail := e.Why
	if detail == "" {
		detail = e.Role
	}
	d.events.publish(api.Event{Kind: "security", What: kind, User: e.User, Service: e.Service, Detail: detail})
	if d.station != nil {
		d.station.alarms.kick(false)
	}
}

// kindOf is by what the holder of a key is known, as the log has it: "" for who is
// on the list.
func (d *Daemon) kindOf(f identity.Fingerprint) string {
	if d.store.Known(f) {
		return ""
	}
	if guests := d.guests.principals(f); len(guests) > 0 {
		return guests[0].Kind.String()
	}
	return kindStranger
}

// kindStranger is who is nobody to this device.
const kindStranger = "stranger"

func (c caller) kind() string {
	switch {
	case c.paired:
		return ""
	case c.known():
		return c.principals[0].Kind.String()
	case len(c.principals) > 0:
		return acl.KindAnonymous.String()
	}
	return kindStranger
}

// by names the caller as the one who makes a change.
func (c caller) by() acl.By {
	info := c.session.Info()
	return acl.By{
		User: c.name(), Kind: c.kind(), Fingerprint: info.Peer,
		Via: string(info.Path), Way: wayOf(info.Via), Source: info.Remote.String(),
	}
}

// wayOf is how a session came, "" for the plain one.
func wayOf(v session.Via) string {
	if v == session.ViaDirect {
		return ""
	}
	return string(v)
}

// meta says on whose behalf a tunnel is opened.
func (c caller) meta() tunnel.Meta {
	info := c.session.Info()
	return tunnel.Meta{
		Peer: info.Peer.String(), User: c.name(), Path: string(info.Path), Remote: info.Remote.String(),
		Session: info.Number, Kind: c.kind(), Way: string(info.Via),
	}
}

// sessionHappened records that a key came or went.
func (d *Daemon) sessionHappened(peer identity.Fingerprint, v *visit, ended bool) {
	first := v.first
	ev := acl.Event{
		What: acl.WhatSessionStarted, User: v.name, Kind: v.kind, Fingerprint: peer, Session: first.Number,
		Path: string(first.Path), Way: wayOf(first.Via), Source: first.Remote.String(), // of a relayed one that is the relay
	}
	what := "opened"
	if ended {
		ev.What, what = acl.WhatSessionEnded, "closed"
		ev.Millis = time.Since(first.Since).Milliseconds()
	}
	d.record(ev)
	d.events.publish(api.Event{Kind: "session", What: what, User: v.name})
}

// tunnelsChanged is told by the bridge that a tunnel is there, or no more.
func (d *Daemon) tunnelsChanged() {
	d.watching.changed()
	d.panel.refresh()
}

// tunnelOpened is called right after a tunnel was answered with yes.
func (d *Daemon) tunnelOpened(m tunnel.Meta, s tunnel.Service) {
	if s.Media() {
		// Others are many and brief, and their end tells it all; that somebody began
		// to watch must not be lost with the power.
		d.record(tunnelEvent(acl.WhatTunnelStarted, m, s))
	}
	d.events.publish(api.Event{Kind: "tunnel", What: "opened", User: m.User, Service: s.Name})
}

func (d *Daemon) tunnelClosed(m tunnel.Meta, s tunnel.Service, r tunnel.Report) {
	ev := tunnelEvent(acl.WhatTunnelEnded, m, s)
	ev.Up, ev.Down, ev.Millis, ev.Why = uint64(r.Up), uint64(r.Down), r.Duration.Milliseconds(), string(r.Why)
	d.record(ev)
	d.events.publish(api.Event{Kind: "tunnel", What: "closed", User: m.User, Service: s.Name, Detail: string(r.Why)})
}

func tunnelEvent(what acl.What, m tunnel.Meta, s tunnel.Service) acl.Event {
	peer, _ := identity.ParseFingerprint(m.Peer) // made by meta: it is one
	return acl.Event{
		What: what, User: m.User, Kind: m.Kind, Fingerprint: peer, Session: m.Session, Service: s.Name,
		Path: m.Path, Way: wayOf(session.Via(m.Way)), Source: m.Remote,
	}
}

// recordFailedPairing keeps what became of a try. Who asks while no window is open
// for him has tried nothing, and could otherwise fill the log from afar.
func (d *Daemon) recordFailedPairing(c caller, why pairing.Code) {
	if why == pairing.CodeRefused || why == pairing.CodeBusy {
		d.refused(c, "pair", "", string(why))
		return
	}
	info := c.session.Info()
	d.record(acl.Event{
		What: acl.WhatPairingFailed, Fingerprint: info.Peer, Path: string(info.Path), Way: wayOf(info.Via),
		Source: info.Remote.Addr().String(), Why: string(why),
	})
	d.noteLock()
}

// pairingAbandoned records a try whose client has gone: it counts like one that was
// refused (SECURITY: an abandoned exchange is a failed one).
func (d *Daemon) pairingAbandoned(c pairing.Caller, mode string, why error) {
	path := session.PathQUIC
	if c.TCP {
		path = session.PathTCP
	}
	ev := acl.Event{What: acl.WhatPairingFailed, Fingerprint: c.Fingerprint, Path: string(path), Source: c.Source.String(), Why: "abandoned", Detail: mode}
	if refused := (*pairing.Error)(nil); errors.As(why, &refused) {
		ev.Why = "abandoned: " + string(refused.Code)
	}
	d.record(ev)
	d.noteLock()
}

// noteLock records that pairing was locked after too many tries, or unlocked, once.
func (d *Daemon) noteLock() {
	locked := d.window.State().Locked
	switch was := d.locked.Swap(locked); {
	case locked && !was:
		d.record(acl.Event{What: acl.WhatPairingLocked, Why: "too many failed tries since the last success"})
	case was && !locked:
		d.record(acl.Event{What: acl.WhatUnlocked, By: acl.By{Via: "button"}})
	}
}

// recordReload says what a new configuration changed: who may be reached, and how.
func (d *Daemon) recordReload(c config.Changes) {
	words := slices.Clone(c.Live)
	for _, key := range c.Restart {
		words = append(words, key+" (at the next start)")
	}
	d.record(acl.Event{What: acl.WhatReloaded, By: acl.By{Kind: kindLocal, Via: "signal"}, Detail: strings.Join(words, ", ")})
}
