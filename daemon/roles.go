package daemon

import (
	"errors"
	"net/http"
	"strings"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/tunnel"
)

// everybodyMay is what each role of a vendor may as well: whoever is paired reads the
// device, its services and the own entry.
var everybodyMay = []acl.Action{acl.ActionHello, acl.ActionDevice, acl.ActionServices, acl.ActionMe}

// vendorRoles makes the roles of the configuration. Errors name file and line.
func vendorRoles(cfg *config.Config) ([]acl.Role, error) {
	var out []acl.Role
	for _, r := range cfg.Roles {
		role := acl.Role{Name: r.Name, Types: r.Types}
		for _, a := range r.Actions {
			role.Actions = append(role.Actions, acl.Action(a))
		}
		out = append(out, role)
	}
	err := acl.CheckRoles(out, strings.Split(tunnel.TypeNames(), ", "))
	var faults []error
	for _, e := range each(err) {
		var fault *acl.RoleFault
		if errors.As(e, &fault) && fault.Index < len(cfg.Roles) {
			e = cfg.Roles[fault.Index].Fault(fault.Field, fault.Place, fault.Text)
		}
		faults = append(faults, e)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	for i := range out {
		out[i].Actions = append(out[i].Actions, everybodyMay...) // twice is no harm: they are a set
	}
	return out, nil
}

// each takes apart what errors.Join joined.
func each(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// roles lists the roles there are, with whether the asker may give them.
func (d *Daemon) listRoles(w http.ResponseWriter, _ *http.Request, c caller) error {
	api.WriteJSON(w, d.roles(c.mine(d)))
	return nil
}

// roles are those of the device, for somebody who has these.
func (d *Daemon) roles(mine []string) api.Roles {
	list := api.Roles{Roles: []api.Role{}}
	for _, r := range d.store.Roles() {
		role := api.Role{Name: r.Name, Actions: []string{}, Types: r.Types, MayGive: d.mayGive(mine, r.Name)}
		for _, a := range r.Actions {
			role.Actions = append(role.Actions, string(a))
		}
		list.Roles = append(list.Roles, role)
	}
	return list
}

// roleNames are the roles there are, as a person would offer them.
func (d *Daemon) roleNames() string {
	var all []string
	for _, r := range d.store.Roles() {
		all = append(all, r.Name)
	}
	return strings.Join(all, ", ")
}
