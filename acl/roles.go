package acl

import (
	"errors"
	"fmt"
	"slices"
)

// A RoleFault says what is wrong with a role of the vendor's.
type RoleFault struct {
	Index int    // of the role in the list that was given
	Field string // "name", "actions" or "types"
	Place int    // of the word in Actions or Types; -1: the whole field
	Text  string
}

func (f *RoleFault) Error() string { return f.Text }

// CheckRoles says what is wrong with roles that a vendor adds: one *RoleFault, or
// several joined. types are those of services that there are.
func CheckRoles(vendor []Role, types []string) error {
	if len(vendor) > maxRoles {
		return &RoleFault{Index: maxRoles, Field: "name", Place: -1, Text: fmt.Sprintf("%d roles: at most %d", len(vendor), maxRoles)}
	}
	var errs []error
	seen := map[string]bool{}
	for _, r := range BuiltinRoles {
		seen[r.Name] = true
	}
	for i, r := range vendor {
		wrong := func(field string, place int, format string, args ...any) {
			errs = append(errs, &RoleFault{i, field, place, fmt.Sprintf(format, args...)})
		}
		switch {
		case !roleName(r.Name):
			wrong("name", -1, "%.40q is no name of a role: want [a-z][a-z0-9-]{0,31}", r.Name)
		case seen[r.Name]:
			wrong("name", -1, "there is a role of that name already")
		}
		seen[r.Name] = true
		for at, a := range r.Actions {
			switch {
			case a.bit() == 0:
				wrong("actions", at, "%.40q is no action: want some of %v", string(a), Actions)
			case slices.Contains(r.Actions[:at], a):
				wrong("actions", at, "%q is listed twice", string(a))
			}
		}
		for at, t := range r.Types {
			switch {
			case t != AnyType && !slices.Contains(types, t):
				wrong("types", at, "%.40q is no type of service: want some of %v, or %q for all", t, types, AnyType)
			case slices.Contains(r.Types[:at], t) || t != AnyType && slices.Contains(r.Types, AnyType):
				wrong("types", at, "%q is listed twice", t)
			}
		}
		switch tunnel := slices.Contains(r.Actions, ActionTunnel); {
		case tunnel && len(r.Types) == 0:
			wrong("types", -1, "has no value: the action tunnel is for nothing without")
		case !tunnel && len(r.Types) > 0:
			wrong("types", -1, "means nothing without the action tunnel")
		}
	}
	return errors.Join(errs...)
}

// SetRoles puts other roles of the vendor's in force. Keys of users who may do less
// by that are told to OnRevoke before it returns. On an error nothing has changed.
func (s *Store) SetRoles(vendor []Role) error {
	next, err := compileRoles(vendor)
	if err != nil {
		return err
	}
	s.mu.Lock()
	old := *s.roles.Load()
	s.roles.Store(&next)
	l := s.current.Load()
	s.mu.Unlock()
	st := step{}
	for _, id := range l.ids() {
		if u := l.users[id]; !next[u.Role].includes(old[u.Role]) {
			st.smaller = append(st.smaller, u.fingerprints()...)
		}
	}
	if f := s.onRevoke.Load(); f != nil && len(st.smaller) > 0 {
		(*f)(st.smaller)
	}
	return nil
}

// Roles lists the roles there are: the built-in ones, then the vendor's, each in the
// order in which it was given.
func (s *Store) Roles() []Role {
	compiled := *s.roles.Load()
	all := make([]Role, len(compiled))
	for _, r := range compiled {
		all[r.order] = Role{Name: r.name, Actions: r.actions.list(), Types: slices.Clone(r.types)}
	}
	return all
}

// Includes reports whether a role allows all that another allows. A role that is not
// configured allows nothing.
func (s *Store) Includes(role, other string) bool { return s.role(role).includes(s.role(other)) }

// RoleMay reports whether a role alone allows something.
func (s *Store) RoleMay(role string, action Action, service Service) bool {
	r := s.role(role)
	if r == nil {
		return false
	}
	may, _ := r.decide(action, service)
	return may
}

// role is one by its name, nil where there is none.
func (s *Store) role(name string) *role { return (*s.roles.Load())[name] }

func (set actionSet) list() (out []Action) {
	for _, a := range Actions {
		if set&a.bit() != 0 {
			out = append(out, a)
		}
	}
	return out
}
