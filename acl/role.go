package acl

import (
	"errors"
	"fmt"
	"slices"
)

// AnyType in Role.Types stands for every type of service, later ones included.
const AnyType = "*"

// A Role is a named set of permissions. The device's vendor may add to the
// built-in ones but not change them.
type Role struct {
	Name    string   // [a-z][a-z0-9-]{0,31}
	Actions []Action // what it may do
	Types   []string // the service types it may tunnel to, if Actions has tunnel
}

// Names of the built-in roles.
const (
	RoleOwner   = "owner"
	RoleAdmin   = "admin"
	RoleViewer  = "viewer"
	RoleGuest   = "guest"
	RoleSupport = "support"

	// RoleSupportControl is what a hotline has beside its role once the person at the
	// device has allowed control.
	RoleSupportControl = "support-control"
)

// BuiltinRoles are there on every device. Everybody paired may read the device,
// its services and the own entry. A guest reaches only the services granted by
// name. Support sees state and logs, and never users, keys, reset or firmware.
var BuiltinRoles = []Role{
	{RoleOwner, Actions, []string{AnyType}},
	{RoleAdmin, []Action{
		ActionHello, ActionDevice, ActionServices, ActionMe, ActionTunnel, ActionUsers, ActionSettings,
		ActionEvents, ActionAudit, ActionSessions, ActionFirmware,
	}, []string{AnyType}},
	{RoleViewer, []Action{ActionHello, ActionDevice, ActionServices, ActionMe, ActionTunnel}, []string{"http", "rtsp"}},
	{RoleGuest, []Action{ActionHello, ActionDevice, ActionServices, ActionMe}, nil},
	{RoleSupport, []Action{ActionHello, ActionDevice, ActionServices, ActionMe, ActionEvents, ActionAudit, ActionSessions}, nil},
	{RoleSupportControl, []Action{ActionTunnel}, []string{AnyType}},
}

// ErrRole means that there is no role of that name, or that one cannot be made.
var ErrRole = errors.New("no such role")

// doing says each action that a role can lack in words.
var doing = map[Action]string{
	ActionDevice: "see the device", ActionServices: "list services", ActionMe: "see its own entry", ActionTunnel: "use services",
	ActionUsers: "manage users", ActionSettings: "change settings", ActionEvents: "follow events", ActionAudit: "read the audit log",
	ActionSessions: "see sessions", ActionFirmware: "send firmware", ActionReset: "reset the device", ActionProvision: "provision the device",
}

// maxRoles is more than any product has names for.
const maxRoles = 64

// role is a Role made ready for deciding.
type role struct {
	name    string
	order   int
	actions actionSet
	any     bool
	types   []string
	allows  string // reasons, made once so that deciding allocates nothing
	refuses map[Action]string
	noType  string
}

// compileRoles joins the built-in roles and the vendor's.
func compileRoles(vendor []Role) (map[string]*role, error) {
	if len(vendor) > maxRoles {
		return nil, fmt.Errorf("%d roles: at most %d", len(vendor), maxRoles)
	}
	roles := make(map[string]*role)
	for _, r := range slices.Concat(BuiltinRoles, vendor) {
		if !roleName(r.Name) {
			return nil, fmt.Errorf("role %q: a name is [a-z][a-z0-9-]{0,31}", r.Name)
		}
		if roles[r.Name] != nil {
			return nil, fmt.Errorf("role %q: there is one of that name already", r.Name)
		}
		c := &role{
			name:    r.Name,
			order:   len(roles),
			any:     slices.Contains(r.Types, AnyType),
			types:   slices.Clone(r.Types),
			allows:  "role " + r.Name + " may",
			refuses: make(map[Action]string, len(doing)),
			noType:  "role " + r.Name + " may not use services of this type",
		}
		for action, words := range doing {
			c.refuses[action] = "role " + r.Name + " may not " + words
		}
		for _, a := range r.Actions {
			if a.bit() == 0 {
				return nil, fmt.Errorf("role %q: no action %q", r.Name, a)
			}
			c.actions |= a.bit()
		}
		roles[r.Name] = c
	}
	return roles, nil
}

func roleName(s string) bool {
	if len(s) == 0 || len(s) > 32 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// includes reports whether r allows all that other does. A role that is not
// known allows nothing.
func (r *role) includes(other *role) bool {
	if other == nil || r == nil {
		return other == nil
	}
	if other.actions&^r.actions != 0 {
		return false
	}
	return r.any || !other.any && !slices.ContainsFunc(other.types, func(t string) bool { return !slices.Contains(r.types, t) })
}

// decide says what the role alone permits.
func (r *role) decide(action Action, service Service) (bool, string) {
	switch {
	case r.actions&action.bit() == 0:
		return false, r.refuses[action]
	case action == ActionTunnel && !r.any && !slices.Contains(r.types, service.Type):
		return false, r.noType
	}
	return true, r.allows
}
