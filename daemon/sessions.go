package daemon

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// sessions answers who is connected: to who may know it everybody, to others what
// is their own, on any of their keys.
func (d *Daemon) sessions(w http.ResponseWriter, _ *http.Request, c caller) error {
	if d.decide(c, acl.ActionSessions, acl.Service{}).Allow {
		api.WriteJSON(w, d.live(nil))
		return nil
	}
	api.WriteJSON(w, d.live(c.owns))
	return nil
}

// owns reports whether a key is the caller's, or another one of the same user.
func (c caller) owns(f identity.Fingerprint) bool {
	for _, k := range c.user.Keys {
		if k.Fingerprint == f {
			return true
		}
	}
	return f == c.peer
}

// live lists who is connected and what is open, of the keys that mine picks; nil is
// everybody.
func (d *Daemon) live(mine func(identity.Fingerprint) bool) api.Sessions {
	list := api.Sessions{Sessions: []api.Session{}, Tunnels: []api.Tunnel{}}
	for _, s := range d.server.Sessions() {
		if mine != nil && !mine(s.Peer) {
			continue
		}
		list.Sessions = append(list.Sessions, api.Session{
			Number: s.Number, User: d.nameOf(s.Peer), Kind: d.kindOf(s.Peer), Fingerprint: s.Peer,
			Path: string(s.Path), Via: string(s.Via), Remote: s.Remote.String(),
			Seconds: int64(time.Since(s.Since).Seconds()),
		})
	}
	for _, t := range d.bridge.List() {
		if f, err := identity.ParseFingerprint(t.Meta.Peer); mine != nil && (err != nil || !mine(f)) {
			continue
		}
		list.Tunnels = append(list.Tunnels, api.Tunnel{
			Session: t.Meta.Session, User: t.Meta.User, Kind: t.Meta.Kind, Service: t.Service, Media: t.Media,
			Path: t.Meta.Path, Via: t.Meta.Way, Up: t.Up, Down: t.Down, Seconds: int64(time.Since(t.Since).Seconds()),
		})
	}
	if mine == nil {
		list.Watching = d.watchers()
	}
	return list
}

// endSession ends one session, with what is open in it. Whoever may see all may end
// all, but for a hotline, which looks and does not touch; everybody may end his own:
// a laptop that he forgot somewhere.
func (d *Daemon) endSession(w http.ResponseWriter, r *http.Request, c caller) error {
	number, err := strconv.ParseUint(r.PathValue("number"), 10, 64)
	if err != nil {
		return api.Problemf(api.CodeMalformed, "a session has a number")
	}
	if number == c.session.Info().Number {
		return api.Problemf(api.CodeConflict, "it is the session that you ask by: just close it")
	}
	may := slices.ContainsFunc(c.principals, func(p acl.Principal) bool {
		return p.Kind != acl.KindSupport && d.store.Decide(p, acl.ActionSessions, acl.Service{}).Allow
	})
	var ended session.Info
	n := d.server.CloseSessions(func(s session.Info) bool {
		if s.Number != number || !may && !c.owns(s.Peer) {
			return false
		}
		ended = s
		return true
	})
	if n == 0 {
		return api.Problemf(api.CodeNotFound, "there is no session %d: `keyhole sessions` lists them", number)
	}
	name := d.nameOf(ended.Peer)
	d.record(acl.Event{
		What: acl.WhatSessionsCut, By: c.by(), User: name, Kind: d.kindOf(ended.Peer), Fingerprint: ended.Peer,
		Session: number, Path: string(ended.Path), Way: wayOf(ended.Via), Source: ended.Remote.String(),
	})
	api.WriteJSON(w, api.SessionEnded{Number: number, User: name})
	return nil
}

func (d *Daemon) localSessions(w http.ResponseWriter, _ *http.Request) error {
	api.WriteJSON(w, d.live(nil))
	return nil
}
