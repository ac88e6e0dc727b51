package acl

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A What names a kind of line in the audit log.
type What string

// The kinds that change permission: such lines are signed, synced before the
// change is in force, and carry the user as it is after. The others are in
// happened.go.
const (
	WhatCreated      What = "created" // an empty list at first boot
	WhatReset        What = "reset"   // an empty list of a new epoch
	WhatPaired       What = "paired"
	WhatKeyAdded     What = "key added"
	WhatKeyRemoved   What = "key removed"
	WhatRoleChanged  What = "role changed"
	WhatLimited      What = "limited" // the user's end or hours were changed
	WhatGranted      What = "granted"
	WhatGrantRemoved What = "grant removed"
	WhatRenamed      What = "renamed"
	WhatRevoked      What = "revoked"
	WhatBlocked      What = "blocked" // a principal that is no user
	WhatUnblocked    What = "unblocked"
	WhatCentralList  What = "central list" // a version of the vendor's list came in
	WhatInvited      What = "invited"
	WhatUninvited    What = "invite withdrawn"
	WhatInviteEnded  What = "invite ended" // unused, by its time

	WhatRepaired What = "repaired" // a copy or the log was damaged and is in use again; signed

	whatSegment    What = "segment"    // begins each file; signed
	whatCheckpoint What = "checkpoint" // the whole list, in its own file; signed
	whatEnd        What = "end"        // ends an export and is not in the log: its number and hash are the last line's; signed
)

// By is who made a change, and how it reached the device.
type By struct {
	User        string               `json:"user,omitempty"`
	Fingerprint identity.Fingerprint `json:"fingerprint,omitzero"`
	Kind        string               `json:"kind,omitempty"`   // of principal, see Kind.String; "" for a paired key
	Via         string               `json:"via,omitempty"`    // "tcp", "quic", "control socket", "button", …
	Way         string               `json:"way,omitempty"`    // "punched", "relay"; "" for direct
	Source      string               `json:"source,omitempty"` // address of the peer
}

// An Event is what happened, to whom or what, and by whom. Texts are cut to 256
// bytes, words of closed lists to 64. User is "" for who has no name here.
type Event struct {
	What        What                 `json:"what"`
	By          By                   `json:"by,omitzero"`
	User        string               `json:"user,omitempty"`
	Fingerprint identity.Fingerprint `json:"fingerprint,omitzero"`
	Kind        string               `json:"kind,omitempty"` // of principal, see Kind.String; "" for a paired key
	Role        string               `json:"role,omitempty"`
	Action      Action               `json:"action,omitempty"` // that was asked for
	Service     string               `json:"service,omitempty"`
	Session     uint64               `json:"session,omitempty"`
	Path        string               `json:"path,omitempty"`   // "tcp", "quic"
	Way         string               `json:"way,omitempty"`    // "punched", "relay"; "" for direct
	Source      string               `json:"source,omitempty"` // address of the peer
	Up          uint64               `json:"up,omitempty"`     // bytes to the service
	Down        uint64               `json:"down,omitempty"`   // bytes to the client
	Millis      int64                `json:"ms,omitempty"`     // how long it took, milliseconds
	Result      string               `json:"result,omitempty"` // "done" or "failed", where What does not say it
	Why         string               `json:"why,omitempty"`
	Times       uint64               `json:"times,omitempty"` // so often since the line before of the same kind; 0 and 1 are once
	Detail      string               `json:"detail,omitempty"`
}

// An Entry is a line of the audit log.
//
// On disk it is one JSON object in exactly the form that Go's encoding/json gives
// this struct, and a newline. "prev" is the SHA-256 of the line before, without
// its newline. A signature is made with the device's key for purpose "audit" over
// the line as it is without the member "sig".
type Entry struct {
	Number   uint64    `json:"n"`
	Time     time.Time `json:"time"`
	Unset    bool      `json:"clock_unset,omitempty"` // the device's clock was not known to be right
	Event              // flattened
	position           // after this line: "epoch", "seq"
	Put      *User     `json:"put,omitempty"`     // the user as it is from here on
	Gone     uint64    `json:"gone,omitempty"`    // id of the user who is no more
	Block    *Block    `json:"block,omitempty"`   // who stays out from here on
	Unblock  []uint64  `json:"unblock,omitempty"` // ids of those who do no longer
	Invite   *Invite   `json:"invite,omitempty"`  // that is open from here on
	Ended    []string  `json:"ended,omitempty"`   // names of invites that are open no more
	Batch    *Batch    `json:"batch,omitempty"`   // many users at once
	Missed   uint64    `json:"missed,omitempty"`  // events before this one that came too fast to be written
	Device   []byte    `json:"device,omitempty"`  // SubjectPublicKeyInfo of the signing key, in segment heads
	First    uint64    `json:"first,omitempty"`   // in the end of an export: its first line
	List     []*User   `json:"list,omitempty"`    // in a checkpoint
	Blocked  []*Block  `json:"blocked,omitempty"` // in a checkpoint
	Invites  []*Invite `json:"invites,omitempty"` // in a checkpoint
	NextID   uint64    `json:"next,omitempty"`    // in a checkpoint
	Previous hash      `json:"prev"`
	Sig      []byte    `json:"sig,omitempty"`
}

// hash is 32 bytes, base64 in JSON.
type hash [sha256.Size]byte

// MarshalText gives unpadded base64.
func (h hash) MarshalText() ([]byte, error) {
	return []byte(base64.RawStdEncoding.EncodeToString(h[:])), nil
}

// UnmarshalText accepts what MarshalText gives.
func (h *hash) UnmarshalText(text []byte) error {
	if len(text) != base64.RawStdEncoding.EncodedLen(len(h)) {
		return errLine
	}
	b, err := base64.RawStdEncoding.Strict().DecodeString(string(text))
	if err != nil {
		return errLine
	}
	copy(h[:], b)
	return nil
}

const (
	maxText      = 256
	maxWord      = 64
	maxLineBytes = 24 << 10 // seven texts of 256 bytes and nine words of 64, each byte escaped to 6 at worst, and a user of 1,900
	// maxCheckpointBytes is above MaxListBytes in the form of a line.
	maxCheckpointBytes = 4 << 20
)

var (
	errLine      = errors.New("not a line of the audit log")
	errSignature = errors.New("a line that changes permission is not signed by this device")
)

// most is how long the line may be.
func (e *Entry) most() int {
	if e.Batch != nil {
		return maxBatchBytes
	}
	return maxLineBytes
}

// changes reports whether the line is one that replay must apply.
func (e *Entry) changes() bool {
	return e.Put != nil || e.Gone != 0 || e.Block != nil || len(e.Unblock) > 0 || e.Invite != nil || len(e.Ended) > 0 || e.Batch != nil || e.begins()
}

// begins reports whether the list is empty from here on.
func (e *Entry) begins() bool { return e.What == WhatCreated || e.What == WhatReset }

// signed reports whether a line of this kind must carry a signature. Signing
// every line would cost a TPM 30 to 150 ms for each session; the next signed
// line vouches for all before it through the chain.
func (e *Entry) signed() bool {
	return e.changes() || e.What == whatSegment || e.What == whatCheckpoint || e.What == WhatRepaired || e.What == whatEnd
}

// encode returns the line without its newline.
func (e *Entry) encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// parseEntry reads a line without its newline. What it accepts encodes to the
// same bytes again.
func parseEntry(line []byte, limit int) (*Entry, error) {
	if len(line) > limit {
		return nil, fmt.Errorf("%w: %d bytes", errLine, len(line))
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	e := new(Entry)
	if err := dec.Decode(e); err != nil {
		return nil, errLine
	}
	if e.Batch == nil && e.What != whatCheckpoint && len(line) > maxLineBytes {
		return nil, fmt.Errorf("%w: %d bytes", errLine, len(line))
	}
	again, err := e.encode()
	if err != nil || !bytes.Equal(again, line) {
		return nil, errLine
	}
	return e, nil
}

// sign signs the line and returns it encoded.
func (e *Entry) sign(key *identity.Key) ([]byte, error) {
	e.Sig = nil
	plain, err := e.encode()
	if err != nil {
		return nil, err
	}
	if e.Sig, err = key.Sign(identity.PurposeAudit, plain); err != nil {
		return nil, err
	}
	return e.encode()
}

// verify checks the signature; a line that needs none and has none is fine.
func (e *Entry) verify(key *identity.Key) error { return e.verifyBy(key.Public()) }

func (e *Entry) verifyBy(public crypto.PublicKey) error {
	if !e.signed() && e.Sig == nil {
		return nil
	}
	bare := *e
	bare.Sig = nil
	plain, err := bare.encode()
	if err != nil {
		return err
	}
	if identity.Verify(public, identity.PurposeAudit, plain, e.Sig) != nil {
		return errSignature
	}
	return nil
}

// trim cuts the texts of an event, so that no peer can make a long line.
func (e *Event) trim() {
	for _, s := range []*string{&e.By.User, &e.User, &e.Role, &e.Service, &e.Source, &e.Why, &e.Detail} {
		*s = cutText(*s, maxText)
	}
	for _, s := range []*string{&e.By.Kind, &e.By.Via, &e.By.Way, &e.By.Source, &e.Kind, &e.Path, &e.Way, &e.Result} {
		*s = cutText(*s, maxWord)
	}
	e.Action = Action(cutText(string(e.Action), maxWord))
}

func cutText(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
