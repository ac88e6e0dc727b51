package daemon

import (
	"slices"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/tunnel"
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

// A standing is one way in which a caller is somebody, and for how long.
type standing struct {
	role    string // "": a grant by name
	service string // of a grant
	limits  []acl.Limits
}

// holds reports whether l is within the time of a standing.
func (s standing) holds(l acl.Limits) bool {
	return !slices.ContainsFunc(s.limits, func(mine acl.Limits) bool { return !l.Within(mine) })
}

// standings are those of a caller who gives something to target. As a guest he gives
// nothing to himself, and by the word of the vendor or a support code nothing that
// outlives it: what they let in for an hour would make itself at home.
func (c caller) standings(d *Daemon, target acl.User) (all []standing) {
	me, listed := d.store.UserOf(c.peer)
	if listed {
		all = append(all, standing{me.Role, "", []acl.Limits{me.Limits}})
		for _, g := range me.Grants {
			all = append(all, standing{"", g.Service, []acl.Limits{me.Limits, g.Limits}})
		}
		if target.ID == me.ID {
			return all
		}
	}
	now := d.clock().Now
	for _, g := range d.guests.of(c.peer) {
		var limits []acl.Limits
		if g.principal.Kind != acl.KindAuthority && !g.until.IsZero() {
			limits = []acl.Limits{{Until: now.Add(time.Until(g.until))}}
		}
		for _, r := range g.principal.Roles {
			if r != acl.RoleOwner {
				all = append(all, standing{r, "", limits})
			}
		}
	}
	return all
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
		return d.mayLimit(c, target, role, target.Limits)
	case role == acl.RoleOwner:
		return api.Problemf(api.CodeForbidden, "only an owner may change an owner or make one")
	}
	if !slices.ContainsFunc(d.store.Roles(), func(r acl.Role) bool { return r.Name == role }) {
		return acl.ErrRole
	}
	return api.Problemf(api.CodeForbidden, "the role %s may what you may not: nobody gives more than he has", role)
}

// mayLimit keeps a caller whose own time is limited from giving others more of it: he
// has a role for all of that time which may all that the other's may.
func (d *Daemon) mayLimit(c caller, target acl.User, role string, limits acl.Limits) error {
	for _, s := range c.standings(d, target) {
		if s.role != "" && d.mayGive([]string{s.role}, role) && s.holds(limits) {
			return nil
		}
	}
	return acl.ErrExceeds
}

// mayLend is mayLimit for a service: he may use it himself for all of that time.
func (d *Daemon) mayLend(c caller, target acl.User, service tunnel.Service, limits acl.Limits) error {
	for _, s := range c.standings(d, target) {
		if s.holds(limits) && (s.service == service.Name || s.role != "" && d.store.RoleMay(s.role, acl.ActionTunnel, aclService(service))) {
			return nil
		}
	}
	return acl.ErrExceeds
}
