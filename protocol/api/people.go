package api

import (
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// Limits say when somebody may do something. The zero value is always.
type Limits struct {
	Until *time.Time `json:"until,omitempty" doc:"the end, by the device's clock; absent: none"`
	Hours []Hours    `json:"hours,omitempty" doc:"weekly hours in the device's zone; one must hold; none: always"`
}

// Grant lets a user connect to one service, whatever the role says.
type Grant struct {
	Service string `json:"service"`
	Limits
}

// NewKey is a further key of the asker's own entry: POST /v1/users/{name}/keys.
type NewKey struct {
	Fingerprint identity.Fingerprint `json:"fingerprint" doc:"of the key, as that client shows it"`
	Name        string               `json:"name" doc:"name for the key, such as \"Alice's laptop\"; may be empty"`
}

// Blocked is somebody who stays out.
type Blocked struct {
	Name  string                 `json:"name" doc:"of a former user; or ca:NAME, central:NAME, support:NAME of who was never one"`
	Keys  []identity.Fingerprint `json:"keys,omitempty" doc:"of a former user; paired again, a key is let in again"`
	Since time.Time              `json:"since" doc:"by the device's clock, which may have been wrong"`
}

// Unblocked answers DELETE /v1/blocked/{name}.
type Unblocked struct {
	Name string `json:"name"`
}
