package api

import (
	"encoding/json"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// Version is the version of the protocol, the 1 of /v1 and of "keyhole/1".
const Version = 1

// Hello is all that a stranger is told: GET /v1/hello.
type Hello struct {
	Protocol int         `json:"protocol" doc:"version of the protocol: 1"`
	ID       identity.ID `json:"id" doc:"id of the device, proven by its key in this session"`
	Pairing  Offer       `json:"pairing"`

	Support *SupportOffer `json:"support,omitempty" doc:"while a support code is shown"`
}

// Offer says how the asker could pair now.
type Offer struct {
	Open  bool     `json:"open" doc:"whether this caller could pair now"`
	Modes []string `json:"modes" doc:"the modes this caller could use now; empty when closed"`

	Code  *CodeOffer `json:"code,omitempty" doc:"with the mode code: how to stretch what is typed"`
	Label *CodeOffer `json:"label,omitempty" doc:"with the mode label: how to stretch what is typed"`
}

// CodeOffer says how to stretch the code on the display or the label. The numbers are those
// of this version of the protocol; a client refuses others.
type CodeOffer struct {
	Salt   string `json:"salt" doc:"hex of the 16 byte salt of the code that is shown now, or of the label"`
	KiB    int    `json:"kib" doc:"memory for argon2id: 8192"`
	Passes int    `json:"passes" doc:"passes over it: 2"`
	Lanes  int    `json:"lanes" doc:"lanes: 1"`
}

// CodeBegin starts pairing by the code on the display: POST /v1/pair/code. The
// exchange is SPAKE2+ (RFC 9383) with the client as prover; see package pairing.
type CodeBegin struct {
	Share string `json:"share" doc:"hex of the client's share, an uncompressed point of P-256"`
	Name  string `json:"name" doc:"name for this key, such as \"Alice's laptop\""`
	User  string `json:"user" doc:"name of the person"`
}

// CodeChallenge answers CodeBegin. A client that finds the proof wrong ends the
// exchange and sends none of its own.
type CodeChallenge struct {
	Exchange string `json:"exchange" doc:"names this exchange in the next step"`
	Share    string `json:"share" doc:"hex of the device's share"`
	Confirm  string `json:"confirm" doc:"hex of the device's 32 byte proof that it knows the code"`
	Device   string `json:"device" doc:"name of the device, for the person to recognise"`
}

// CodeConfirm finishes pairing by code: POST /v1/pair/code/confirm.
type CodeConfirm struct {
	Exchange string `json:"exchange"`
	Confirm  string `json:"confirm" doc:"hex of the client's 32 byte proof"`
}

// ButtonBegin starts pairing in button mode: POST /v1/pair/button. The
// exchange is drawn in package pairing.
type ButtonBegin struct {
	Commitment string `json:"commitment" doc:"hex of the 32 byte commitment to the client's nonce"`
	Name       string `json:"name" doc:"name for this key, such as \"Alice's laptop\""`
	User       string `json:"user" doc:"name of the person"`
}

// ButtonChallenge answers ButtonBegin. From here both sides can compute the
// six digits as soon as the client reveals its nonce.
type ButtonChallenge struct {
	Exchange string `json:"exchange" doc:"names this exchange in the next step"`
	Nonce    string `json:"nonce" doc:"hex of the device's 32 byte nonce"`
	Device   string `json:"device" doc:"name of the device, for the person to recognise"`
}

// ButtonReveal finishes pairing in button mode: POST /v1/pair/button/reveal. The
// answer comes when the button is pressed, or within 30 seconds.
type ButtonReveal struct {
	Exchange string `json:"exchange"`
	Nonce    string `json:"nonce" doc:"hex of the client's 32 byte nonce"`
}

// Paired tells a client who it has become.
type Paired struct {
	User   string `json:"user"`
	Role   string `json:"role"`
	Device Device `json:"device"`
}

// Device describes the device to a paired user: GET /v1/device.
type Device struct {
	ID          identity.ID          `json:"id"`
	Fingerprint identity.Fingerprint `json:"fingerprint"`
	Name        string               `json:"name"`
	Product     string               `json:"product"`
	Version     string               `json:"version" doc:"version of keyholed"`
	Uptime      int64                `json:"uptime" doc:"seconds since the daemon started, monotonic"`
}

// Services lists what the asker may reach: GET /v1/services.
type Services struct {
	Services []Service `json:"services"`
}

// Service is one entry of the device's service table. Its address stays on the device.
type Service struct {
	Name string `json:"name"`
	Type string `json:"type" doc:"rtsp, http, ssh or tcp"`
	Port int    `json:"port" doc:"the usual port of that type, a wish for the local one"`

	// Allowed tells before trying what CONNECT would say.
	Allowed bool `json:"allowed" doc:"whether the asker may connect"`
}

// Me tells who the asker is to the device: GET /v1/me.
type Me struct {
	User        string               `json:"user"`
	Role        string               `json:"role"`
	Kind        string               `json:"kind,omitempty" doc:"authority, central or support: let in without being on the list"`
	Fingerprint identity.Fingerprint `json:"fingerprint"`
	KeyName     string               `json:"key_name"`
	Path        string               `json:"path" doc:"how this session came: tcp or quic"`
	Via         string               `json:"via" doc:"how the two came together: direct, punched or relay"`
	Remote      string               `json:"remote" doc:"address the device sees"`
	Basestation *Basestation         `json:"basestation,omitempty" doc:"how to reach the device from beyond its network; absent where it is attached nowhere"`
}

// Basestation tells a paired client where its device can be asked for from beyond
// the LAN, and by which keys that place is known.
type Basestation struct {
	Addresses []string `json:"addresses" doc:"host:port, at most 8"`
	Keys      []string `json:"keys" doc:"root keys of the basestation, one or two, as in the device's configuration"`
	Presence  []byte   `json:"presence,omitempty" doc:"pass for this client, base64: with it the basestation tells when the device was last seen"`
}

// Users is GET /v1/users.
type Users struct {
	Users []User `json:"users" doc:"everybody, for who may manage users; else the asker alone"`

	Blocked []Blocked `json:"blocked,omitempty" doc:"who stays out, whoever vouches for them; for who may manage users"`
}

// User is one person with one or more keys.
type User struct {
	Name   string    `json:"name"`
	Role   string    `json:"role"`
	Keys   []UserKey `json:"keys"`
	Kind   string    `json:"kind,omitempty" doc:"authority: named by a certificate, without keys of the list"`
	Online bool      `json:"online" doc:"whether one of the keys has a session now"`

	Limits
	Grants  []Grant `json:"grants,omitempty" doc:"services that the user may use beyond what the role allows"`
	Refused string  `json:"refused,omitempty" doc:"why the user may do nothing now: ended, clock not set, outside its hours"`
	Central bool    `json:"central,omitempty" doc:"the entry comes from the vendor's list: it can be revoked here, and is changed there"`
}

// UserKey is one key of a person.
type UserKey struct {
	Fingerprint identity.Fingerprint `json:"fingerprint"`
	Name        string               `json:"name"`
	Added       *time.Time           `json:"added,omitempty" doc:"by the device's clock, which may have been wrong"`
}

// UserPatch changes a user: PATCH /v1/users/{name}. It has one of the fields.
type UserPatch struct {
	Role   *string `json:"role,omitempty"`
	Name   *string `json:"name,omitempty"`
	Limits *Limits `json:"limits,omitempty" doc:"when the user may do anything; an empty object is always"`
}

// Revoked answers DELETE /v1/users/{name}.
type Revoked struct {
	User           string                 `json:"user"`
	Keys           []identity.Fingerprint `json:"keys" doc:"the keys that may no longer enter"`
	SessionsClosed int                    `json:"sessions_closed"`
}

// Audit is a page of GET /v1/audit?after=N&limit=M.
type Audit struct {
	Entries []json.RawMessage `json:"entries" doc:"lines of the log as they are signed, oldest first"`
	Next    uint64            `json:"next,omitempty" doc:"after for the next page; absent at the end"`
}

// Event is one server-sent event of GET /v1/events: the data line.
type Event struct {
	Kind    string `json:"kind" doc:"session, tunnel, user, pairing, support, service, or security for what is pushed to the absent as well"`
	What    string `json:"what" doc:"what happened in words that scripts may compare, such as opened"`
	User    string `json:"user,omitempty"`
	Service string `json:"service,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

// Reset orders a factory reset: POST /v1/reset.
type Reset struct {
	Erase string `json:"erase" doc:"the word everything, so that nobody sends this by mistake"`
}

// EraseEverything is what Reset must say.
const EraseEverything = "everything"

// ResetBegun answers Reset: the order is on disk and will be carried out even
// if the power fails now. Every session ends right after it.
type ResetBegun struct {
	Reset uint64 `json:"reset" doc:"number of this reset, which the display shows when it is done"`
}
