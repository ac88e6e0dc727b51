package control

import "time"

// An Authority is a certificate authority of the configuration that is in force.
type Authority struct {
	Name     string    `json:"name"`
	State    string    `json:"state"` // "in force", "clock not set"
	Domains  []string  `json:"domains,omitempty"`
	Sessions int       `json:"sessions"`       // by its certificates, now
	Ends     time.Time `json:"ends,omitzero"`  // when What ends, and with it what hangs on it
	What     string    `json:"what,omitempty"` // the first of its certificates and lists to end
}

// Refused is somebody whom an authority vouches for and who was not let in.
type Refused struct {
	ID        string `json:"id"`
	Authority string `json:"authority"`
	Why       string `json:"why"`
}
