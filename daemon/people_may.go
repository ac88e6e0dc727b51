package daemon

import (
	"slices"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
)

// What people may do to each other: nobody gives more than he has, and nobody touches
// who has more. Owner is the owners' to give alone.

// forHimself are the operations on users that whoever is on the list may ask about his
// own entry. Their handlers see to it that he gets no further.
var forHimself = []string{
	"GET /v1/users", "GET /v1/users/{user}", "PATCH /v1/users/{user}", "DELETE /v1/users/{user}", "POST /v1/users/{user}/keys",
}

func (d *Daemon) mayForHimself(c caller, r route) bool {
	return c.paired && slices.Contains(forHimself, r.Method+" "+r.Path) &&
		d.store.Decide(acl.Principal{Fingerprint: c.peer}, acl.ActionMe, acl.Service{}).Allow
}

// mine are the roles that the caller has now: as a user, and as a guest.
func (c caller) mine(d *Daemon) []string {
	var roles []string
	if u, listed := d.store.UserOf(c.peer); listed {
		roles = append(roles, u.Role)
	}
	for _, p := range d.guests.principals(c.peer) {
		roles = append(roles, slices.DeleteFunc(slices.Clone(p.Roles), func(r string) bool { return r == acl.RoleOwner })...)
	}
	return roles
}

// mayGive reports whether somebody who has these roles may make others that.
func (d *Daemon) mayGive(mine []string, role string) bool {
	if role == acl.RoleOwner {
		return slices.Contains(mine, acl.RoleOwner)
	}
	return slices.ContainsFunc(mine, func(r string) bool { return d.store.Includes(r, role) })
}

// mayTouch keeps those who may manage users from making or unmaking their betters:
// who has a role that includes the other's, and could use each service that the other
// was granted. The caller holds d.changing.
func (d *Daemon) mayTouch(c caller, target acl.User) error {
	if err := d.stillMay(c, acl.ActionUsers); err != nil {
		return err
	}
	if !d.mayGive(c.mine(d), target.Role) {
		if target.Role == acl.RoleOwner {
			return api.Problemf(api.CodeForbidden, "only an owner may change an owner or make one")
		}
		return api.Problemf(api.CodeForbidden, "%s has the role %s, which may what you may not", target.Name, target.Role)
	}
	for _, g := range target.Grants {
		if !d.mayReach(c, g.Service) {
			return api.Problemf(api.CodeForbidden, "%s was granted the service %q, which you may not use", target.Name, g.Service)
		}
	}
	return nil
}

// mayChange says whether a caller may change a user, or give him a role. The caller
// holds d.changing.
func (d *Daemon) mayChange(c caller, target acl.User, role *string) error {
	if role != nil {
		return d.mayGiveRole(c, target, *role)
	}
	return d.mayTouch(c, target)
}

// mayReach reports whether the caller could tunnel to a service now. One that is not
// configured leads nowhere.
func (d *Daemon) mayReach(c caller, service string) bool {
	s, configured := d.bridge.Services().Lookup(service)
	if !configured {
		return true
	}
	c.principals = d.principalsOf(c.peer)
	return d.decide(c, acl.ActionTunnel, aclService(s)).Allow
}

// mayGiveRole is mayTouch for giving somebody a role.
func (d *Daemon) mayGiveRole(c caller, target acl.User, role string) error {
	if err := d.mayTouch(c, target); err != nil {
		return err
	}
	switch {
	case d.mayGive(c.mine(d), role):
		return d.mayLimit(c, target.Limits)
	case role == acl.RoleOwner:
		return api.Problemf(api.CodeForbidden, "only an owner may change an owner or make one")
	}
	if !slices.ContainsFunc(d.store.Roles(), func(r acl.Role) bool { return r.Name == role }) {
		return acl.ErrRole
	}
	return api.Problemf(api.CodeForbidden, "the role %s may what you may not: nobody gives more than he has", role)
}

// mayLimit keeps a caller whose own time is limited from giving others more of it.
func (d *Daemon) mayLimit(c caller, limits acl.Limits) error {
	me, listed := d.store.UserOf(c.peer)
	if listed && !limits.Within(me.Limits) {
		return acl.ErrExceeds
	}
	return nil
}
