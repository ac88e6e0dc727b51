package tunnel

import (
	"errors"
	"strings"
)

// ErrAuthority is what ParseAuthority says to everything that is not the name
// of a service with, perhaps, a port. It is one error for all: the asker learns
// nothing from it.
var ErrAuthority = errors.New("not a service name")

// maxAuthorityBytes is a name, a colon and five digits.
const maxAuthorityBytes = maxNameBytes + 1 + 5

// ParseAuthority takes the authority of a CONNECT request, "name" or
// "name:port", and returns the name. The port must be one (1 to 65535, no
// leading zero) and means nothing. It is strict: no case folding, no
// percent-encoding, no user info, no brackets, no trailing dot, so nothing that
// could be taken for an address by somebody else passes for a name.
func ParseAuthority(authority string) (name string, err error) {
	if len(authority) > maxAuthorityBytes {
		return "", ErrAuthority
	}
	name, port, found := strings.Cut(authority, ":")
	if !validName(name) {
		return "", ErrAuthority
	}
	if found {
		if _, err := parsePort(port); err != nil {
			return "", ErrAuthority
		}
	}
	return name, nil
}
