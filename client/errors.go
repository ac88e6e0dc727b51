package client

import (
	"errors"
	"fmt"
	"strings"

	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// A NotFoundError means that the address book has no such device.
type NotFoundError struct{ Typed string } // "" when any would have done

func (e *NotFoundError) Error() string {
	if e.Typed == "" {
		return "no device is paired"
	}
	return fmt.Sprintf("no paired device is called %q", e.Typed)
}

// An AmbiguousError means that several devices could be meant.
type AmbiguousError struct {
	Typed   string // "" when none was named
	Devices []Device
}

func (e *AmbiguousError) Error() string {
	if e.Typed == "" {
		return fmt.Sprintf("%d devices are paired: say which", len(e.Devices))
	}
	return fmt.Sprintf("%q could be any of %d devices", e.Typed, len(e.Devices))
}

// An UnreachableError means that no session came about. Unwrap gives what was
// tried; an *identity.MismatchError among it says that somebody else answered,
// which callers should look for first.
type UnreachableError struct {
	Device string
	Err    error
}

func (e *UnreachableError) Error() string {
	var reasons []string
	for _, line := range strings.Split(e.Err.Error(), "\n") {
		if line != "" {
			reasons = append(reasons, line)
		}
	}
	return fmt.Sprintf("%s cannot be reached: %s", e.Device, strings.Join(reasons, "; "))
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// ErrNotAnswered means that no device of this id was heard on the network.
var ErrNotAnswered = errors.New("it does not answer on this network")

// ErrNoBasestation means that the way through a basestation was asked for, and the
// device has none, or has not told this client of it yet.
var ErrNoBasestation = errors.New("no basestation is known for it: it is learnt when the device is reached directly")

// problemOf turns a refused CONNECT into the device's own words.
func problemOf(err error) error {
	var refused *session.ConnectError
	if !errors.As(err, &refused) {
		return err
	}
	return api.ReadProblem(refused.Status, refused.ContentType, strings.NewReader(string(refused.Body)))
}
