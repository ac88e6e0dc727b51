package config

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/keyholed/keyhole/internal/settings"
)

// A Role is a set of permissions that the vendor adds to the built-in ones, a
// [[role]] section. What its actions and types mean is the access list's knowledge;
// here they are words with a line number. Roles are taken over by a reload: whoever
// may do less then is put out at once.
type Role struct {
	// Name is what users are given: [a-z][a-z0-9-]{0,31}, unique, none of the
	// built-in owner, admin, viewer, guest, support. Required.
	Name string `toml:"name"`
	// Actions are what the role may do besides reading the device, its services and
	// the own entry, which everybody may: tunnel, users, settings, events, audit,
	// sessions, firmware, reset, provision. Default none.
	Actions []string `toml:"actions"`
	// Types are the types of service that it may tunnel to: rtsp, http, ssh, tcp, or
	// "*" for all. Needed with the action tunnel, and only then.
	Types []string `toml:"types"`

	doc *settings.Document
	at  []string
}

// maxRoles is more than any product has names for.
const maxRoles = 64

// builtinRoles are those of package acl.
var builtinRoles = []string{"owner", "admin", "viewer", "guest", "support"}

func (d *decoder) roles(into *[]Role, value any, path []string) {
	settings.Sections(&d.Decoder, into, value, path, maxRoles, func(at []string, _ map[string]any) Role {
		return Role{doc: d.Document, at: slices.Clone(at)}
	})
}

// Fault makes an error about a key of the role: "name", or "actions" and "types" with
// the place of the word that is wrong; a place of -1 is the whole key.
func (r Role) Fault(key string, place int, text string) *Error {
	at := append(slices.Clone(r.at), key)
	if place >= 0 {
		at = append(at, strconv.Itoa(place))
	}
	e := r.doc.Fault(text, "", at...)
	e.Key = fmt.Sprintf("role %q: %s", r.Name, key)
	if r.Name == "" {
		e.Key = "role: " + key
	}
	return e
}

// Equal reports whether two roles are the same, wherever they stand in their files.
func (r Role) Equal(o Role) bool {
	return r.Name == o.Name && slices.Equal(r.Actions, o.Actions) && slices.Equal(r.Types, o.Types)
}

func (v *validator) roles() {
	for i, r := range v.Roles {
		wrong := func(text string) { v.errs = append(v.errs, r.Fault("name", -1, text)) }
		switch {
		case r.Name == "":
			wrong("has no value")
		case !shortName.MatchString(r.Name):
			wrong(settings.Quote(r.Name) + " is no name of a role: want a-z, then up to 31 of a-z 0-9 -")
		case slices.Contains(builtinRoles, r.Name):
			wrong("is built in and cannot be changed: give the role another name")
		case slices.ContainsFunc(v.Roles[:i], func(o Role) bool { return o.Name == r.Name }):
			wrong("used twice")
		}
	}
}

// givenRoles are those that the configuration may give to people.
func (c *Config) givenRoles() settings.Choice {
	return settings.Choice{Allowed: slices.DeleteFunc(c.roleNames(), func(n string) bool { return n == "support" })}
}

// roleNames are those that may be given to anybody but the first user.
func (c *Config) roleNames() []string {
	names := slices.DeleteFunc(slices.Clone(builtinRoles), func(n string) bool { return n == "owner" })
	for _, r := range c.Roles {
		names = append(names, r.Name)
	}
	return names
}
