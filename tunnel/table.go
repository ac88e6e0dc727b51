package tunnel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Own tells whether an address is one of our own listeners: network is "tcp"
// with an IP address and port, or "unix" with a path. A tunnel that leads back
// to ourselves would lend a peer our own loopback address.
type Own func(network, address string) bool

// A Table is the set of services, in the order of the configuration. It never
// changes once made: a reload makes another one. The nil Table is empty.
type Table struct {
	services []Service
	byName   map[string]Service
}

// NewTable checks the services against each other and against own, which may
// be nil. The error joins one for each service that is wrong.
func NewTable(services []Service, own Own) (*Table, error) {
	t := &Table{services: slices.Clone(services), byName: make(map[string]Service, len(services))}
	var errs []error
	for _, s := range services {
		if _, taken := t.byName[s.Name]; taken {
			errs = append(errs, fmt.Errorf("service %q: %w", s.Name, &FieldError{"name", errors.New("there is another of that name")}))
			continue
		}
		if own != nil && own(s.target.network, s.target.literal()) {
			errs = append(errs, fmt.Errorf("service %q: %w", s.Name, &FieldError{"address", errOwn}))
			continue
		}
		t.byName[s.Name] = s
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return t, nil
}

var errOwn = errors.New("it leads back to a listener of our own")

// literal is the address in the one spelling Own is asked with; a host name
// stays one, and is asked about again when it is resolved.
func (t target) literal() string {
	if ap, err := netip.ParseAddrPort(t.address); err == nil {
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()
	}
	return t.address
}

// Lookup returns the service of that name.
func (t *Table) Lookup(name string) (Service, bool) {
	if t == nil {
		return Service{}, false
	}
	s, ok := t.byName[name]
	return s, ok
}

// Any says whether one of the services is such a one.
func (t *Table) Any(such func(Service) bool) bool {
	return t != nil && slices.ContainsFunc(t.services, such)
}

// All returns the services in the order of the configuration.
func (t *Table) All() []Service {
	if t == nil {
		return nil
	}
	return slices.Clone(t.services)
}
