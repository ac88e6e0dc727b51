package client

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/keyholed/keyhole/protocol/identity"
)

// ErrNotAddress means that a text is no HOST:PORT.
var ErrNotAddress = errors.New("not an address: want HOST:PORT")

// A TargetError means that a text names no device, whatever is paired.
type TargetError struct{ Typed, Why string }

func (e *TargetError) Error() string { return fmt.Sprintf("%q: %s", clip(e.Typed), e.Why) }

// A Target is what a person typed to say which device is meant, taken apart. Any
// of the fields may be empty, not all.
type Target struct {
	ID      identity.ID // a whole id: it says which key to expect
	Address string      // HOST:PORT
	Name    string      // a name, or the beginning of a name or id
}

// ParseTarget reads
//
//	Front door               a name, or the beginning of one or of an id
//	mfrggzdf…                an id of 26 characters
//	192.0.2.7:7443           an address; without a port, of an IP address or a
//	                         name that ends in .local, it is 7443
//	mfrggzdf…@192.0.2.7:7443 both: who shall answer at this address
//
// <id>.local is the name that a device has in mDNS and says both at once.
func ParseTarget(s string) (Target, error) {
	if strings.HasPrefix(s, "keyhole:") {
		return Target{}, &TargetError{"keyhole:…", "a link is for pairing: keyhole pair LINK"}
	}
	if s == "" || len(s) > maxTextBytes {
		return Target{}, &TargetError{s, fmt.Sprintf("a device is named by 1 to %d bytes", maxTextBytes)}
	}
	if id, err := identity.ParseID(s); err == nil {
		return Target{ID: id}, nil
	}
	if before, after, found := strings.Cut(s, "@"); found {
		if id, err := identity.ParseID(before); err == nil {
			address, err := parseAddress(withPort(after))
			return Target{ID: id, Address: address}, err
		}
	}
	address, err := parseAddress(withPort(s))
	if err != nil {
		if _, _, split := net.SplitHostPort(s); split == nil {
			return Target{}, fmt.Errorf("%q: %w", s, err) // it was meant as an address
		}
		return Target{Name: s}, nil
	}
	t := Target{Address: address}
	host, _, _ := net.SplitHostPort(address) // parsed a moment ago
	if label, local := strings.CutSuffix(strings.ToLower(host), ".local"); local {
		if id, err := identity.ParseID(label); err == nil {
			t.ID = id
		}
	}
	return t, nil
}

// withPort adds the usual port to what can only be an address.
func withPort(s string) string {
	bare := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if a, ok := parseIP(bare); ok {
		return net.JoinHostPort(a.String(), strconv.Itoa(DefaultPort))
	}
	if strings.HasSuffix(strings.ToLower(s), ".local") && !strings.Contains(s, " ") {
		return net.JoinHostPort(s, strconv.Itoa(DefaultPort))
	}
	return s
}

// parseAddress checks the form of a HOST:PORT and returns it as it is.
func parseAddress(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil || len(s) > maxAddressText {
		return "", ErrNotAddress
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return "", ErrNotAddress
	}
	if _, ok := parseIP(host); ok {
		return s, nil
	}
	if !plainHost(host) {
		return "", ErrNotAddress
	}
	return s, nil
}

// parseIP reads an IP address whose zone, if any, is the name of an interface.
func parseIP(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	return a, err == nil && (a.Zone() == "" || plainHost(a.Zone()))
}

func plainHost(host string) bool {
	if host == "" || strings.HasPrefix(host, "-") {
		return false
	}
	for _, c := range []byte(host) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}

// Lookup finds the device of the address book that s names: exactly, or by the
// unique beginning of a name or an id, or by its address. The error is a
// *NotFoundError or an *AmbiguousError, or says why the book cannot be read.
func (h *Home) Lookup(s string) (Device, error) {
	t, err := ParseTarget(s)
	if err != nil {
		return Device{}, err
	}
	devices, err := h.Devices()
	if err != nil {
		return Device{}, err
	}
	return lookup(devices, s, t)
}

// Only returns the one device of the address book. The error is a
// *NotFoundError when there is none and an *AmbiguousError when there are more.
func (h *Home) Only() (Device, error) {
	devices, err := h.Devices()
	if err != nil {
		return Device{}, err
	}
	return one("", devices)
}

func lookup(devices []Device, typed string, t Target) (Device, error) {
	pick := func(match func(Device) bool) []Device {
		var found []Device
		for _, d := range devices {
			if match(d) {
				found = append(found, d)
			}
		}
		return found
	}
	switch {
	case t.ID != "":
		return one(typed, pick(func(d Device) bool { return d.ID == t.ID }))
	case t.Address != "":
		return one(typed, pick(func(d Device) bool { return slices.Contains(d.Addresses, t.Address) }))
	}
	name := strings.ToLower(t.Name)
	if exact := pick(func(d Device) bool { return strings.ToLower(d.Name) == name }); len(exact) > 0 {
		return one(typed, exact)
	}
	return one(typed, pick(func(d Device) bool {
		return strings.HasPrefix(strings.ToLower(d.Name), name) || strings.HasPrefix(string(d.ID), name)
	}))
}

func one(typed string, found []Device) (Device, error) {
	switch len(found) {
	case 0:
		return Device{}, &NotFoundError{Typed: typed}
	case 1:
		return found[0], nil
	}
	return Device{}, &AmbiguousError{Typed: typed, Devices: found}
}
