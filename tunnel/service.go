package tunnel

import (
	"errors"
	"fmt"

	"github.com/keyholed/keyhole/tunnel/inject"
)

// Access says who decides whether a peer may use a service.
type Access string

const (
	// AccessRole: the access list.
	AccessRole Access = "role"
	// AccessApplication: the service itself, by its own password.
	AccessApplication Access = "application"
)

// A Service is one row of the configuration: a name that clients ask for and
// where it leads. It is made by ParseService; the zero value leads nowhere.
type Service struct {
	Name    string // [a-z][a-z0-9-]{0,31}
	Type    Type
	Access  Access
	Address string // as configured; clients never see it

	media  bool
	target target
	vault  *inject.Vault // nil: the device knows no password for it
}

// Media says that who has a tunnel to the service may be watching or listening:
// of its type, or because the configuration says so.
func (s Service) Media() bool { return s.Type.Media || s.media }

// WithMedia returns the service marked as one that carries pictures or sound,
// whatever its type: a camera's pictures over http, for example.
func (s Service) WithMedia() Service {
	s.media = true
	return s
}

func (s Service) String() string { return s.Name + " (" + s.Type.Name + " " + s.Address + ")" }

// A FieldError says which field of a service's configuration is wrong: "name",
// "type", "address", "access" or "credentials".
type FieldError struct {
	Field string
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }
func (e *FieldError) Unwrap() error { return e.Err }

// ParseService checks a configured service. Access "" means AccessRole. The
// error joins one *FieldError for each field that is wrong. Nothing is resolved
// or dialled.
func ParseService(name, typ, address, access string) (Service, error) {
	s := Service{Name: name, Access: Access(access), Address: address}
	var errs []error
	wrong := func(field string, err error) { errs = append(errs, &FieldError{field, err}) }
	if !validName(name) {
		wrong("name", fmt.Errorf("%.40q is not a service name: want a-z, then up to %d of a-z 0-9 -", name, maxNameBytes-1))
	}
	known := false
	if s.Type, known = TypeOf(typ); !known {
		wrong("type", fmt.Errorf("%.40q is not a type of service: want one of %s", typ, TypeNames()))
	}
	switch s.Access {
	case "":
		s.Access = AccessRole
	case AccessRole:
	case AccessApplication:
		if known && !s.Type.ByItself {
			wrong("access", fmt.Errorf("a service of type %s has no password of its own to ask for: want \"role\"", typ))
		}
	default:
		wrong("access", fmt.Errorf("%.40q: want \"role\" or \"application\"", access))
	}
	var err error
	if s.target, err = parseTarget(address, s.Type.Port); err != nil {
		wrong("address", err)
	}
	if err := errors.Join(errs...); err != nil {
		return Service{}, err
	}
	return s, nil
}

// maxNameBytes is the longest service name, 32: with room to spare it is one
// DNS label (63), so `<service>.localhost` works in a browser.
const maxNameBytes = 32

func validName(name string) bool {
	if len(name) == 0 || len(name) > maxNameBytes || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
