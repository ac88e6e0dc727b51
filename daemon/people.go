package daemon

import (
	"net/http"
	"slices"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

func (d *Daemon) users(w http.ResponseWriter, _ *http.Request, _ caller) error {
	api.WriteJSON(w, d.people())
	return nil
}

// people lists all users for peers and for the local socket alike.
func (d *Daemon) people() api.Users {
	online := map[identity.Fingerprint]bool{}
	for _, s := range d.server.Sessions() {
		online[s.Peer] = true
	}
	list := api.Users{Users: []api.User{}}
	for _, u := range d.store.Users() {
		list.Users = append(list.Users, apiUser(u, online))
	}
	list.Users = append(list.Users, d.certifiedUsers()...)
	return list
}

func apiUser(u acl.User, online map[identity.Fingerprint]bool) api.User {
	out := api.User{Name: u.Name, Role: u.Role, Keys: []api.UserKey{}, Central: u.Central}
	for _, k := range u.Keys {
		key := api.UserKey{Fingerprint: k.Fingerprint, Name: k.Name}
		if !k.Since.IsZero() {
			key.Added = &k.Since
		}
		out.Keys = append(out.Keys, key)
		out.Online = out.Online || online[k.Fingerprint]
	}
	return out
}

func (d *Daemon) userByName(w http.ResponseWriter, r *http.Request, _ caller) error {
	u, err := d.store.User(r.PathValue("user"))
	if err != nil {
		return err
	}
	api.WriteJSON(w, d.oneUser(u))
	return nil
}

func (d *Daemon) oneUser(u acl.User) api.User {
	for _, known := range d.people().Users {
		if known.Name == u.Name {
			return known
		}
	}
	return apiUser(u, nil)
}

func (d *Daemon) patchUser(w http.ResponseWriter, r *http.Request, c caller) error {
	var patch api.UserPatch
	if err := decode(w, r, &patch); err != nil {
		return err
	}
	if (patch.Role == nil) == (patch.Name == nil) {
		return api.Problemf(api.CodeMalformed, "give either role or name: one change at a time")
	}
	who, by := r.PathValue("user"), c.by()
	d.changing.Lock()
	defer d.changing.Unlock()
	target, err := d.store.User(who)
	if id, ok := certifiedNamed(who, err); ok {
		return d.patchCertified(w, c, id, patch)
	}
	if err != nil {
		return err
	}
	if err := d.mayChange(c, target, patch.Role); err != nil {
		return err
	}
	u, err := d.change(who, patch, by)
	if err != nil {
		return err
	}
	d.events.publish(api.Event{Kind: "user", What: "changed", User: u.Name, Detail: u.Role})
	api.WriteJSON(w, d.oneUser(u))
	return nil
}

func (d *Daemon) change(who string, patch api.UserPatch, by acl.By) (acl.User, error) {
	if patch.Role != nil {
		return d.store.SetRole(who, *patch.Role, by)
	}
	return d.store.Rename(who, *patch.Name, by)
}

// mayChange says whether a caller may change a user, or give him a role. The caller
// holds d.changing.
func (d *Daemon) mayChange(c caller, target acl.User, role *string) error {
	if role != nil {
		return d.mayGiveRole(c, target, *role)
	}
	return d.mayTouch(c, target)
}

// stillMay asks again, under d.changing: who was let in by dispatch may have been
// put out while he waited for the lock, behind the very change that did it.
func (d *Daemon) stillMay(c caller, action acl.Action) error {
	c.principals = d.principalsOf(c.peer)
	if !c.known() {
		return stranger
	}
	if decision := d.decide(c, action, acl.Service{}); !decision.Allow {
		return api.Problemf(api.CodeForbidden, "%s", decision.Why)
	}
	return nil
}

func (d *Daemon) revokeUser(w http.ResponseWriter, r *http.Request, c caller) error {
	revoked, err := d.revoke(r.PathValue("user"), c.by(), func(target acl.User) error { return d.mayChange(c, target, nil) })
	if err != nil {
		return err
	}
	api.WriteJSON(w, revoked)
	return nil
}

// revoke takes a user or one key off the list, if may has nothing against it. When
// it returns, nothing of theirs is live any more: the store has called cut.
func (d *Daemon) revoke(who string, by acl.By, may func(acl.User) error) (api.Revoked, error) {
	d.changing.Lock()
	defer d.changing.Unlock()
	target, err := d.store.User(who)
	if id, ok := certifiedNamed(who, err); ok {
		return d.blockCertified(id, by, may)
	}
	if err != nil {
		return api.Revoked{}, err
	}
	if err := may(target); err != nil {
		return api.Revoked{}, err
	}
	live := d.server.Sessions()
	keys, err := d.store.Revoke(who, by)
	if err != nil {
		return api.Revoked{}, err
	}
	closed := 0
	for _, s := range live {
		if slices.Contains(keys, s.Peer) {
			closed++
		}
	}
	d.log.Info("revoked", "user", target.Name, "keys", len(keys), "sessions", closed, "by", by.User)
	d.events.publish(api.Event{Kind: "user", What: "revoked", User: target.Name})
	return api.Revoked{User: target.Name, Keys: keys, SessionsClosed: closed}, nil
}

// cut ends every session of these keys, the tunnels in them included. Presence
// passes become void behind that: it waits for the disk, and a request that is under
// way would be answered with a pass that is good again.
func (d *Daemon) cut(keys []identity.Fingerprint) {
	d.guests.dismiss(func(p acl.Principal) bool {
		return slices.Contains(keys, p.Fingerprint) && !d.store.Known(p.Fingerprint)
	})
	d.station.dismiss(keys)
	d.server.CloseSessions(func(s session.Info) bool { return slices.Contains(keys, s.Peer) })
	d.station.voidPasses()
}
