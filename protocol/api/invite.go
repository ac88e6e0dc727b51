package api

import "time"

// InviteRequest asks for an invite: POST /v1/invites.
type InviteRequest struct {
	Role    string     `json:"role" doc:"role of whom it lets in: at most the asker's own, never owner"`
	For     string     `json:"for,omitempty" doc:"name of the user it makes; absent: as the invited says"`
	Until   *time.Time `json:"until,omitempty" doc:"end of that user's permission; absent: none, or the asker's own"`
	Hours   []Hours    `json:"hours,omitempty" doc:"weekly hours of that user; absent: always, or the asker's own"`
	Seconds int64      `json:"seconds,omitempty" doc:"how long the invite is good, 60 to 604800; absent: 86400"`
}

// OwnInviteRequest asks for an invite that adds a key to the asker's own user: POST
// /v1/me/invites.
type OwnInviteRequest struct {
	Seconds int64 `json:"seconds,omitempty" doc:"how long the invite is good, 60 to 604800; absent: 86400"`
}

// Hours are a span of the week, in the device's zone. From later than To goes over
// midnight into the day after each of Days.
type Hours struct {
	Days []int `json:"days" doc:"0 is Sunday"`
	From int   `json:"from" doc:"minutes from midnight, 0 to 1440"`
	To   int   `json:"to" doc:"minutes from midnight, exclusive; 1440 is the end of the day"`
}

// Invite is one that is open.
type Invite struct {
	Name    string     `json:"name" doc:"16 hexadecimal digits; not the secret"`
	Role    string     `json:"role,omitempty" doc:"absent when it is for another key of its maker"`
	Myself  bool       `json:"myself,omitempty" doc:"it adds a key to its maker's user"`
	For     string     `json:"for,omitempty" doc:"name of the user it makes"`
	Until   *time.Time `json:"until,omitempty" doc:"end of that user's permission"`
	Hours   []Hours    `json:"hours,omitempty" doc:"weekly hours of that user"`
	By      string     `json:"by" doc:"user who made it"`
	Since   time.Time  `json:"since" doc:"when, by the device's clock"`
	Ends    *time.Time `json:"ends,omitempty" doc:"when it ends if nobody uses it; absent: the device's clock was unknown, and it counts by itself"`
	Refused string     `json:"refused,omitempty" doc:"why it lets nobody in at the moment"`
}

// NewInvite is an invite that was made just now. The link is told this once.
type NewInvite struct {
	Invite
	Link string `json:"link" doc:"keyhole: link with the secret; the device does not keep it"`
}

// Invites lists those that are open: GET /v1/invites and /v1/me/invites.
type Invites struct {
	Invites []Invite `json:"invites"`
}

// Uninvited answers DELETE /v1/invites/{invite}.
type Uninvited struct {
	Name string `json:"name"`
}

// InviteProof redeems an invite: POST /v1/pair/invite. See package pairing.
type InviteProof struct {
	Invite string `json:"invite" doc:"name of the invite, 16 hexadecimal digits"`
	Proof  string `json:"proof" doc:"hex of the 64 byte signature that proves its token, for this session"`
	Name   string `json:"name" doc:"name for this key, such as \"Alice's laptop\""`
	User   string `json:"user" doc:"name of the person; the invite may say another"`
}
