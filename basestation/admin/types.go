package admin

import (
	"encoding/json"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// About is GET /v1/basestation.
type About struct {
	Node      string   `json:"node" doc:"id of the node that answers"`
	Name      string   `json:"name,omitempty" doc:"its name, as configured"`
	Version   string   `json:"version"`
	Keys      []string `json:"keys" doc:"root keys, for the configuration of devices"`
	Addresses []string `json:"addresses" doc:"where devices and clients reach this node"`
	Enrol     string   `json:"enrol" doc:"open, listed or secret"`
	Devices   int      `json:"devices" doc:"attached to this node now"`
	Tunnels   int      `json:"tunnels" doc:"relayed by this node now"`
	Uptime    int64    `json:"uptime" doc:"seconds"`
}

// Device is what is known of one device.
type Device struct {
	ID          identity.ID `json:"id"`
	Fingerprint string      `json:"fingerprint,omitempty" doc:"64 hexadecimal digits; absent until it has attached, when only its id was added"`
	State       string      `json:"state" doc:"attached, gone, or registered: it never attached"`
	Blocked     *Block      `json:"blocked,omitempty" doc:"it may not attach"`
	Since       *time.Time  `json:"since,omitempty" doc:"of the state attached or gone"`
	Reason      string      `json:"reason,omitempty" doc:"why it is gone"`
	Node        string      `json:"node,omitempty" doc:"where it is attached, or was last"`
	Address     string      `json:"address,omitempty" doc:"where it is seen at, or was last"`
	Transport   string      `json:"transport,omitempty" doc:"udp or tcp"`
	Firmware    string      `json:"firmware,omitempty"`
	Boots       uint32      `json:"boots,omitempty"`
	Serial      string      `json:"serial,omitempty"`
	Vendor      string      `json:"vendor,omitempty" doc:"on whose account it relays"`
	Note        string      `json:"note,omitempty"`
	Added       *time.Time  `json:"added,omitempty" doc:"when it was registered"`
}

// Block says why and since when a device may not attach.
type Block struct {
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
}

// Devices is one page of them, in the order of their ids.
type Devices struct {
	Devices []Device `json:"devices"`
	Next    string   `json:"next,omitempty" doc:"give it as after for the next page; absent on the last"`
}

// DeviceAdd registers a device: POST /v1/devices.
type DeviceAdd struct {
	ID          string `json:"id,omitempty" doc:"26 characters; or the fingerprint"`
	Fingerprint string `json:"fingerprint,omitempty" doc:"64 hexadecimal digits"`
	Serial      string `json:"serial,omitempty" doc:"at most 64 bytes"`
	Vendor      string `json:"vendor,omitempty" doc:"at most 64 bytes"`
	Note        string `json:"note,omitempty" doc:"at most 256 bytes"`
}

// BlockAdd blocks a device: PUT /v1/devices/{id}/block.
type BlockAdd struct {
	Reason string `json:"reason,omitempty" doc:"at most 256 bytes; for you, the device is not told"`
}

// Serial is what is known of a serial number.
type Serial struct {
	Serial string      `json:"serial"`
	Secret bool        `json:"secret" doc:"an explicit factory secret is stored; without, it may still be a derived one"`
	Bound  identity.ID `json:"bound,omitempty" doc:"id of the device whose key is bound to it"`
}

// SerialPut stores a factory secret: PUT /v1/serials/{serial}.
type SerialPut struct {
	Secret  string `json:"secret,omitempty" doc:"64 hexadecimal digits; absent: one is made"`
	Replace bool   `json:"replace,omitempty" doc:"the secret that is stored is given up"`
}

// SerialSecret is told once.
type SerialSecret struct {
	Serial string `json:"serial"`
	Secret string `json:"secret" doc:"64 hexadecimal digits"`
}

// Scopes of a token.
const (
	ScopeRead  = "read"
	ScopeWrite = "write"
)

// Token is one that lets its bearer in, without what the bearer shows.
type Token struct {
	ID      string     `json:"id" doc:"names the token: the SHA-256 of it"`
	Name    string     `json:"name,omitempty"`
	Scope   string     `json:"scope" doc:"read, or write, which may read too"`
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires,omitempty"`
	Uses    int        `json:"uses,omitempty" doc:"requests that are left; absent: any number"`
}

// Tokens are all of them.
type Tokens struct {
	Tokens []Token `json:"tokens"`
}

// TokenAdd makes a token: POST /v1/tokens.
type TokenAdd struct {
	Name    string `json:"name,omitempty" doc:"at most 64 bytes"`
	Scope   string `json:"scope" doc:"read or write"`
	Uses    int    `json:"uses,omitempty" doc:"requests it is good for; 0: any number"`
	Seconds int    `json:"seconds,omitempty" doc:"how long it is good; 0: until it is removed"`
}

// TokenMade is told once.
type TokenMade struct {
	ID    string `json:"id"`
	Token string `json:"token" doc:"for Authorization: Bearer; it is stored nowhere"`
}

// Node is one of the fleet.
type Node struct {
	ID        string   `json:"id"`
	Addresses []string `json:"addresses"`
	Self      bool     `json:"self" doc:"it is the one that answers"`
}

// Nodes are the live ones.
type Nodes struct {
	Nodes []Node `json:"nodes"`
}

// Event is what happened to a device, one data line of GET /v1/events.
type Event struct {
	ID     string          `json:"id"`
	Kind   string          `json:"kind" doc:"presence.attached, presence.gone, alarm.duplicate or device"`
	Time   time.Time       `json:"time"`
	Device identity.ID     `json:"device"`
	Node   string          `json:"node,omitempty"`
	Data   json.RawMessage `json:"data,omitempty"`
}

// Done is the answer of what has nothing to tell.
type Done struct {
	Done bool `json:"done"`
}
