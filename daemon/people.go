package daemon

import (
	"net/http"
	"slices"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// users lists everybody for who may manage users, and the asker to himself.
func (d *Daemon) users(w http.ResponseWriter, _ *http.Request, c caller) error {
	list := d.people()
	if no := d.stillMay(c, acl.ActionUsers); no != nil {
		if !c.paired {
			return no
		}
		mine := api.Users{Users: []api.User{}}
		for _, u := range list.Users {
			if u.Name == c.user.Name {
				mine.Users = append(mine.Users, u)
			}
		}
		list = mine
	}
	api.WriteJSON(w, list)
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
		list.Users = append(list.Users, d.apiUser(u, online))
	}
	for _, b := range d.store.Blocked() {
		list.Blocked = append(list.Blocked, api.Blocked{Name: b.String(), Keys: b.Keys, Since: b.Since})
	}
	list.Users = append(list.Users, d.certifiedUsers()...)
	return list
}

func (d *Daemon) apiUser(u acl.User, online map[identity.Fingerprint]bool) api.User {
	out := api.User{Name: u.Name, Role: u.Role, Keys: []api.UserKey{}, Limits: apiLimits(u.Limits), Central: u.Central}
	if !u.Limits.Always() {
		out.Refused = u.Limits.Refuses(d.clock())
	}
	for _, g := range u.Grants {
		out.Grants = append(out.Grants, api.Grant{Service: g.Service, Limits: apiLimits(g.Limits)})
	}
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

func (d *Daemon) userByName(w http.ResponseWriter, r *http.Request, c caller) error {
	u, _, err := d.subject(c, r.PathValue("user"))
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
	return d.apiUser(u, nil)
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
