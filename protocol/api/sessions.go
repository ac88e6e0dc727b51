package api

import "github.com/keyholed/keyhole/protocol/identity"

// Sessions is GET /v1/sessions: everybody's, or only the asker's own where that is
// all that he may see.
type Sessions struct {
	Sessions []Session `json:"sessions"`
	Tunnels  []Tunnel  `json:"tunnels"`
	Watching []string  `json:"watching,omitempty" doc:"who has a tunnel to a service of media open; absent where only one's own is shown"`
}

// Session is one live connection of a client.
type Session struct {
	Number      uint64               `json:"number"`
	User        string               `json:"user,omitempty" doc:"absent for a client that is not paired; a guest is named with what he is, such as alice@example.net (authority)"`
	Kind        string               `json:"kind,omitempty" doc:"authority, support, central, or stranger; absent for a paired key"`
	Fingerprint identity.Fingerprint `json:"fingerprint"`
	Path        string               `json:"path" doc:"tcp or quic"`
	Via         string               `json:"via" doc:"direct, punched or relay"`
	Remote      string               `json:"remote"`
	Seconds     int64                `json:"seconds" doc:"age"`
}

// Tunnel is one live connection to a service.
type Tunnel struct {
	Session uint64 `json:"session" doc:"number of the session that it goes through"`
	User    string `json:"user"`
	Kind    string `json:"kind,omitempty" doc:"as in sessions"`
	Service string `json:"service"`
	Media   bool   `json:"media" doc:"whether somebody may be watching or listening"`
	Path    string `json:"path"`
	Via     string `json:"via"`
	Up      int64  `json:"up" doc:"bytes from the client to the service"`
	Down    int64  `json:"down" doc:"bytes from the service to the client"`
	Seconds int64  `json:"seconds" doc:"age"`
}

// SessionEnded answers DELETE /v1/sessions/{number}.
type SessionEnded struct {
	Number uint64 `json:"number"`
	User   string `json:"user,omitempty"`
}
