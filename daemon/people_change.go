package daemon

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
)

// subject finds whom a request is about: the asker himself, or anybody for who may
// manage users. Everybody else learns nothing about who there is.
func (d *Daemon) subject(c caller, who string) (u acl.User, self bool, err error) {
	me, listed := d.store.UserOf(c.peer)
	u, err = d.store.User(who)
	if err == nil && listed && u.ID == me.ID {
		return u, true, d.stillMay(c, acl.ActionMe)
	}
	if no := d.stillMay(c, acl.ActionUsers); no != nil {
		return acl.User{}, false, no
	}
	return u, false, err
}

func (d *Daemon) patchUser(w http.ResponseWriter, r *http.Request, c caller) error {
	var patch api.UserPatch
	if err := decode(w, r, &patch); err != nil {
		return err
	}
	change, err := d.readPatch(patch)
	if err != nil {
		return err
	}
	who := r.PathValue("user")
	_, err = d.store.User(who)
	if id, ok := certifiedNamed(who, err); ok {
		d.changing.Lock()
		defer d.changing.Unlock()
		return d.patchCertified(w, c, id, patch)
	}
	return d.changeUser(w, c, who, change)
}

// A userChange is one change of a user. may is asked, under d.changing, whether the
// caller may make it.
type userChange struct {
	may func(c caller, target acl.User, self bool) error
	do  func(who string, by acl.By) (acl.User, error)
}

// changeUser makes a change and answers with the user as he is then.
func (d *Daemon) changeUser(w http.ResponseWriter, c caller, who string, change userChange) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	target, self, err := d.subject(c, who)
	if err != nil {
		return err
	}
	if err := change.may(c, target, self); err != nil {
		return err
	}
	u, err := change.do(target.Name, c.by())
	if err != nil {
		return err
	}
	d.events.publish(api.Event{Kind: "user", What: "changed", User: u.Name, Detail: u.Role})
	api.WriteJSON(w, d.oneUser(u))
	return nil
}

func (d *Daemon) readPatch(patch api.UserPatch) (userChange, error) {
	given := 0
	for _, there := range []bool{patch.Role != nil, patch.Name != nil, patch.Limits != nil} {
		if there {
			given++
		}
	}
	switch {
	case given != 1:
		return userChange{}, api.Problemf(api.CodeMalformed, "give role, name or limits: one change at a time")
	case patch.Role != nil:
		return userChange{
			may: func(c caller, target acl.User, _ bool) error { return d.mayGiveRole(c, target, *patch.Role) },
			do:  func(who string, by acl.By) (acl.User, error) { return d.store.SetRole(who, *patch.Role, by) },
		}, nil
	case patch.Name != nil:
		return userChange{
			may: func(c caller, target acl.User, self bool) error {
				if self {
					return nil
				}
				return d.mayTouch(c, target)
			},
			do: func(who string, by acl.By) (acl.User, error) { return d.store.Rename(who, *patch.Name, by) },
		}, nil
	}
	limits, err := aclLimits(*patch.Limits)
	return userChange{
		may: func(c caller, target acl.User, _ bool) error {
			if err := d.mayTouch(c, target); err != nil {
				return err
			}
			return d.mayLimit(c, target, target.Role, limits)
		},
		do: func(who string, by acl.By) (acl.User, error) { return d.store.SetLimits(who, limits, by) },
	}, err
}

// putGrant lets a user use one service.
func (d *Daemon) putGrant(w http.ResponseWriter, r *http.Request, c caller) error {
	var body api.Limits
	if err := decode(w, r, &body); err != nil {
		return err
	}
	limits, err := aclLimits(body)
	if err != nil {
		return err
	}
	grant := acl.Grant{Service: r.PathValue("service"), Limits: limits}
	return d.changeUser(w, c, r.PathValue("user"), userChange{
		may: func(c caller, target acl.User, _ bool) error { return d.mayGrant(c, target, grant) },
		do:  func(who string, by acl.By) (acl.User, error) { return d.store.Grant(who, grant, by) },
	})
}

func (d *Daemon) mayGrant(c caller, target acl.User, grant acl.Grant) error {
	if err := d.mayTouch(c, target); err != nil {
		return err
	}
	service, configured := d.bridge.Services().Lookup(grant.Service)
	if !configured {
		return api.Problemf(api.CodeNotFound, "there is no service %q: `keyhole services` lists them", grant.Service)
	}
	if !d.mayReach(c, grant.Service) {
		return api.Problemf(api.CodeForbidden, "you may not use the service %q yourself: nobody gives more than he has", grant.Service)
	}
	return d.mayLend(c, target, service, grant.Limits)
}

func (d *Daemon) deleteGrant(w http.ResponseWriter, r *http.Request, c caller) error {
	service := r.PathValue("service")
	return d.changeUser(w, c, r.PathValue("user"), userChange{
		may: func(c caller, target acl.User, _ bool) error { return d.mayTouch(c, target) },
		do:  func(who string, by acl.By) (acl.User, error) { return d.store.RevokeGrant(who, service, by) },
	})
}

// addKey gives the asker's own entry one key more. Nobody adds a key to another.
func (d *Daemon) addKey(w http.ResponseWriter, r *http.Request, c caller) error {
	var body api.NewKey
	if err := decode(w, r, &body); err != nil {
		return err
	}
	if body.Fingerprint.IsZero() {
		return api.Problemf(api.CodeMalformed, "the field \"fingerprint\" is missing")
	}
	return d.changeUser(w, c, r.PathValue("user"), userChange{
		may: func(_ caller, target acl.User, self bool) error {
			if !self {
				return api.Problemf(api.CodeForbidden, "only %s adds keys of %s", target.Name, target.Name)
			}
			return nil
		},
		do: func(who string, by acl.By) (acl.User, error) {
			return d.store.AddKey(who, body.Fingerprint, body.Name, by)
		},
	})
}

func (d *Daemon) revokeUser(w http.ResponseWriter, r *http.Request, c caller) error {
	revoked, err := d.revoke(r.PathValue("user"), c.by(), func(target acl.User, known bool) error {
		switch {
		case !known:
			return d.mayBlock(c)
		case target.ID == 0 && target.Name != "": // somebody whom an authority certifies
			return d.mayTouch(c, target)
		}
		_, self, err := d.subject(c, target.Name)
		if err != nil || self {
			return err
		}
		return d.mayTouch(c, target)
	})
	if err != nil {
		return err
	}
	api.WriteJSON(w, revoked)
	return nil
}

// mayBlock is for those on the list: guests do not decide about each other.
func (d *Daemon) mayBlock(c caller) error {
	if err := d.stillMay(c, acl.ActionUsers); err != nil {
		return err
	}
	if !d.store.Known(c.peer) {
		return api.Problemf(api.CodeForbidden, "only users of the list may block others")
	}
	return nil
}

// revoke takes a user or one key off the list, or keeps out somebody who was never on
// it, if may has nothing against it; known tells it which. When it returns, nothing
// of theirs is live any more: the store has called cut.
func (d *Daemon) revoke(who string, by acl.By, may func(target acl.User, known bool) error) (api.Revoked, error) {
	d.changing.Lock()
	defer d.changing.Unlock()
	target, err := d.store.User(who)
	if id, ok := certifiedNamed(who, err); ok {
		return d.blockCertified(id, by, func(u acl.User) error { return may(u, true) })
	}
	if errors.Is(err, acl.ErrNoUser) {
		if kind, name, ok := d.guestNamed(who); ok {
			return d.block(kind, name, by, may)
		}
	}
	if no := may(target, true); err == nil || no != nil {
		err = no
	}
	if err != nil {
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

// block keeps out somebody who is no user of the list, or goes by a name of the
// vendor's there. may is asked about everybody who goes by that name now.
func (d *Daemon) block(kind acl.Kind, name string, by acl.By, may func(acl.User, bool) error) (api.Revoked, error) {
	if err := may(acl.User{}, false); err != nil {
		return api.Revoked{}, err
	}
	for _, u := range d.goesBy(kind, name) {
		if err := may(u, true); err != nil {
			return api.Revoked{}, err
		}
	}
	before := len(d.server.Sessions())
	if err := d.store.Block(kind, name, by); err != nil {
		return api.Revoked{}, err
	}
	closed := max(0, before-len(d.server.Sessions()))
	out := acl.Block{Kind: kind, Name: name}.String()
	d.log.Info("blocked", "who", out, "sessions", closed, "by", by.User)
	d.events.publish(api.Event{Kind: "user", What: "blocked", User: out})
	return api.Revoked{User: out, Keys: []identity.Fingerprint{}, SessionsClosed: closed}, nil
}

// goesBy are those who go by the name of a principal now: a user of the vendor's list,
// and guests, as a user in each of their roles.
func (d *Daemon) goesBy(kind acl.Kind, name string) (all []acl.User) {
	if u, err := d.store.User(name); kind == acl.KindCentral && err == nil && u.Central {
		all = append(all, u)
	}
	for _, g := range d.guests.list() {
		if g.principal.Kind != kind || !strings.EqualFold(g.principal.Name, name) {
			continue
		}
		for _, role := range g.principal.Roles {
			if role != acl.RoleOwner { // which no guest has
				all = append(all, acl.User{Name: g.principal.String(), Role: role})
			}
		}
	}
	return all
}

// guestNamed is the principal that somebody means who is no user: by its name in
// full, "central:x", or as the status shows a guest who is here.
func (d *Daemon) guestNamed(who string) (acl.Kind, string, bool) {
	if kind, name, ok := acl.ParseBlock(who); ok {
		return kind, name, true
	}
	for _, g := range d.guests.list() {
		if p := g.principal; p.Name != "" && (p.Name == who || p.String() == who) {
			return p.Kind, p.Name, true
		}
	}
	return 0, "", false
}

// unblock lets a principal in again who is no user.
func (d *Daemon) unblock(w http.ResponseWriter, r *http.Request, c caller) error {
	who := r.PathValue("who")
	d.changing.Lock()
	defer d.changing.Unlock()
	if err := d.mayBlock(c); err != nil {
		return err
	}
	kind, name, ok := acl.ParseBlock(who)
	if !ok {
		return acl.ErrNotBlocked
	}
	if err := d.mayUnblock(c, kind, name); err != nil {
		return err
	}
	if err := d.store.Unblock(kind, name, c.by()); err != nil {
		return err
	}
	d.events.publish(api.Event{Kind: "user", What: "unblocked", User: who})
	api.WriteJSON(w, api.Unblocked{Name: who})
	return nil
}

// mayUnblock keeps a caller from letting in again who could have more than he has: what
// the configuration says of a certified user counts again then, and what the vendor
// may give of anybody whom he vouches for.
func (d *Daemon) mayUnblock(c caller, kind acl.Kind, name string) error {
	var roles []string
	switch kind {
	case acl.KindAuthority:
		roles = []string{d.certified.configured(name)}
	case acl.KindCentral:
		roles = d.config().Central.Roles
	}
	for _, role := range roles {
		if role != "" && !d.mayGive(c.mine(d), role) {
			return api.Problemf(api.CodeForbidden, "%s could have the role %s, which may what you may not: nobody gives more than he has", name, role)
		}
	}
	return nil
}
