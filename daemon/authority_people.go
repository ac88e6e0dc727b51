package daemon

import (
	"errors"
	"net/http"
	"strings"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/authority"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
)

// What the owner says about users whom an authority certifies: a role, or that they
// stay out. They are named by their id; "ca:" before it names one that has the form
// of a user's name.

// certifiedPrefix is what no user's name begins with.
const certifiedPrefix = "ca:"

// certifiedNamed returns the certified user id that is meant by who, where no user
// of the list is: err is what looking for him ended with.
func certifiedNamed(who string, err error) (id string, ok bool) {
	if !errors.Is(err, acl.ErrNoUser) {
		return "", false
	}
	rest := who
	if len(who) > len(certifiedPrefix) && strings.EqualFold(who[:len(certifiedPrefix)], certifiedPrefix) {
		rest = who[len(certifiedPrefix):]
	} else if !authority.LooksCertified(who) {
		return "", false
	}
	id, _, err = authority.Canonical(rest)
	return id, err == nil
}

// asUser is a certified user as those see him who may manage users.
func (d *Daemon) asUser(id string) acl.User { return acl.User{Name: id, Role: d.certified.wouldBe(id)} }

// wouldBe is the role that somebody of that name has when he comes, "" for none.
func (c *certified) wouldBe(id string) string {
	c.mu.Lock()
	set := c.set
	c.mu.Unlock()
	a := set.Of(id)
	if a == nil {
		return ""
	}
	role, err := c.roleOf(authority.Person{Authority: a.Name(), ID: id}, identity.Fingerprint{})
	if err != nil {
		return "" // nobody gave one, or he is blocked
	}
	return role
}

// configured is the role that the configuration alone gives to somebody of that name,
// "" for none.
func (c *certified) configured(id string) string {
	if canonical, _, err := authority.Canonical(id); err == nil {
		id = canonical
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.set.Of(id)
	if a == nil {
		return ""
	}
	for _, one := range c.config {
		if one.Name == a.Name() {
			return one.RoleOf(id)
		}
	}
	return ""
}

// patchCertified gives a certified user a role; "none" takes back what was given, and
// the configuration's word counts. The caller holds d.changing.
func (d *Daemon) patchCertified(w http.ResponseWriter, c caller, id string, patch api.UserPatch) error {
	if patch.Role == nil {
		return api.Problemf(api.CodeMalformed, "a certified user has the name that his authority gave: only a role can be given")
	}
	role := *patch.Role
	if role == "none" {
		role = ""
	}
	if err := d.mayGiveCertified(c, id, role); err != nil {
		return err
	}
	if err := d.store.Appoint(id, role, c.by()); err != nil {
		return err
	}
	d.certified.recheck()
	d.log.Info("role given", "user", id, "role", role, "by", c.name())
	d.events.publish(api.Event{Kind: "user", What: "changed", User: id, Detail: role})
	api.WriteJSON(w, d.certifiedUser(id, d.certified.wouldBe(id)))
	return nil
}

func (d *Daemon) mayGiveCertified(c caller, id, role string) error {
	if role == "" {
		if err := d.mayTouch(c, d.asUser(id)); err != nil {
			return err
		}
		return d.mayUnblock(c, acl.KindAuthority, id)
	}
	if role == acl.RoleOwner {
		return api.Problemf(api.CodeForbidden, "an owner has a paired key: a certificate can be given up to admin")
	}
	return d.mayGiveRole(c, d.asUser(id), role)
}

// blockCertified keeps a certified user out. When it returns, nothing of his is live
// any more. The caller holds d.changing.
func (d *Daemon) blockCertified(id string, by acl.By, may func(acl.User) error) (api.Revoked, error) {
	if err := may(d.asUser(id)); err != nil {
		return api.Revoked{}, err
	}
	closed := d.certified.sessionsOf(id)
	if err := d.store.Block(acl.KindAuthority, id, by); err != nil {
		return api.Revoked{}, err
	}
	d.log.Info("revoked", "user", id, "sessions", closed, "by", by.User)
	d.events.publish(api.Event{Kind: "user", What: "revoked", User: id})
	return api.Revoked{User: id, Keys: []identity.Fingerprint{}, SessionsClosed: closed}, nil
}

func (c *certified) sessionsOf(id string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for h := range c.live {
		if h.person.ID == id {
			n++
		}
	}
	return n
}

// certifiedUsers are those to whom the owner has given a role.
func (d *Daemon) certifiedUsers() (list []api.User) {
	for _, a := range d.store.Appointments() {
		list = append(list, d.certifiedUser(a.Name, a.Role))
	}
	return list
}

func (d *Daemon) certifiedUser(id, role string) api.User {
	return api.User{Name: id, Role: role, Kind: acl.KindAuthority.String(), Keys: []api.UserKey{}, Online: d.certified.sessionsOf(id) > 0}
}
