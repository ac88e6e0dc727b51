// Package control is the local way to command a running keyholed: HTTP over a
// Unix socket that only root, the daemon's own user and the group keyhole may
// use.
//
// The daemon serves it with its own handlers; `keyholed status`, `press` and the
// others, and `keyhole demo`, are its clients. The package knows who asks (see
// PeerFrom) and what the documents look like, not what is done about them. It
// never listens on the network: a web page can reach a loopback port, and
// nothing that a browser runs can reach a Unix socket.
package control

import (
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// Routes of the control socket. Both ends use these names.
const (
	StatusRoute   = "/v1/status"   // GET Status
	PairingRoute  = "/v1/pairing"  // POST PairingOrder, answers Pairing
	PressRoute    = "/v1/press"    // POST Press, answers Pressed
	DisplayRoute  = "/v1/display"  // GET a PNG image
	UsersRoute    = "/v1/users"    // GET api.Users
	RevokeRoute   = "/v1/revoke"   // POST Revoke, answers api.Revoked
	AuditRoute    = "/v1/audit"    // GET ?after=N&limit=M api.Audit; &format=jsonl an export
	SessionsRoute = "/v1/sessions" // GET api.Sessions
	VerifyRoute   = "/v1/verify"   // GET AuditVerdict
	ResetRoute    = "/v1/reset"    // POST api.Reset, answers api.ResetBegun
)

// Status is what `keyholed status --json` prints. Scripts rely on it: fields are
// added, never renamed.
type Status struct {
	ID          identity.ID          `json:"id"`
	Fingerprint identity.Fingerprint `json:"fingerprint"`
	Name        string               `json:"name"`
	Product     string               `json:"product"`
	Version     string               `json:"version"`
	Uptime      int64                `json:"uptime"` // seconds, monotonic
	Listen      []string             `json:"listen"` // addresses as bound, each on TCP and UDP
	Pairing     Pairing              `json:"pairing"`
	Support     Support              `json:"support"`
	Basestation Basestation          `json:"basestation"`
	Board       *Board               `json:"board,omitempty"` // absent without a board
	Users       int                  `json:"users"`
	Sessions    int                  `json:"sessions"`
	Tunnels     int                  `json:"tunnels"`
	Watching    []string             `json:"watching"` // who has a camera's tunnel open, each once; never null
	Clock       Clock                `json:"clock"`
	Central     *Central             `json:"central,omitempty"` // absent where the vendor has no word
	Authorities []Authority          `json:"authorities,omitempty"`
	Refused     []Refused            `json:"refused,omitempty"`  // certified, and not let in; the last ones
	Warnings    []string             `json:"warnings,omitempty"` // what the owner should look at, in words
}

// Pairing is the pairing window.
type Pairing struct {
	Open        bool     `json:"open"`
	Modes       []string `json:"modes"`        // offered while open; never null
	SecondsLeft int      `json:"seconds_left"` // 0 when closed
	Asking      *Asking  `json:"asking"`       // null when nobody asks
}

// Asking is a client that waits for the confirming press.
type Asking struct {
	Name        string               `json:"name"`
	Fingerprint identity.Fingerprint `json:"fingerprint"`
	Check       string               `json:"check"` // the six digits, as the client shows them
}

// States of Basestation.
const (
	BasestationOff        = "off"        // none is configured: this device serves the local network only
	BasestationConnecting = "connecting" // it has not answered, or not yet
	BasestationAttached   = "attached"   // the device can be asked for from beyond the local network
)

// Basestation is the way to the world beyond the LAN.
type Basestation struct {
	State   string `json:"state"`
	Address string `json:"address"` // as configured: the one that answered last
	Path    string `json:"path"`    // "udp" or "tcp"; "" while not attached
	// Observed is where the basestation sees this device over UDP; "" over TCP.
	Observed      string `json:"observed,omitempty"`
	Since         int64  `json:"since"`           // seconds in this state
	Error         string `json:"error,omitempty"` // why not attached
	Introductions int    `json:"introductions"`   // clients that may come now
	Relayed       int    `json:"relayed"`         // connections through the basestation
}

// Board is the hardware as far as a person sees it.
type Board struct {
	Profile string `json:"profile"`
	Light   string `json:"light"` // the light's pattern in words
	// Watching says whether the light for those who watch is on; absent where the
	// board has none.
	Watching *bool  `json:"watching,omitempty"`
	Web      string `json:"web,omitempty"` // URL of the simulated board's page
}

// Clock says whether grants with an end can be judged.
type Clock struct {
	State string    `json:"state"` // "known" or "unknown"
	Now   time.Time `json:"now"`
}

// PairingOrder is `keyholed pair open|accept|close`.
type PairingOrder struct {
	Do string `json:"do"` // "open", "accept" or "close"
	// Fingerprint names the one who asks, for accept; zero is whoever asks.
	Fingerprint identity.Fingerprint `json:"fingerprint,omitzero"`
}

// Press is `keyholed press`.
type Press struct {
	Button string `json:"button"` // "pair", "support" or "reset"
	// HoldMillis is how long the button is held. 0 is the button's nominal
	// gesture.
	HoldMillis int64 `json:"hold_ms,omitempty"`
}

// Pressed tells what the press did.
type Pressed struct {
	Did string `json:"did"` // in words, such as "the pairing window is open for 180 s"
}

// Revoke is `keyholed revoke USER|FINGERPRINT`.
type Revoke struct {
	Who string `json:"who"`
}

// AuditVerdict is `keyholed audit --verify`.
type AuditVerdict struct {
	Whole   bool   `json:"whole"`         // chain and signatures hold, and nothing is missing that is known of
	Entries uint64 `json:"entries"`       // how many were checked
	First   uint64 `json:"first"`         // number of the first; above 1 where older ones were dropped
	Last    uint64 `json:"last"`          // number of the last
	Why     string `json:"why,omitempty"` // where it breaks

	// Witnessed is the last entry that a signature behind it, or the access list,
	// vouches for. Entries behind it could have been cut off unseen while the
	// device was without power.
	Witnessed uint64 `json:"witnessed"`
}
