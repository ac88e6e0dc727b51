package control

// WhyRoute explains a decision: GET ?who=W&action=A&service=S, answers Why.
const WhyRoute = "/v1/why"

// Why is a decision as the device would make it now, and what it rests on.
type Why struct {
	Who     string   `json:"who"`            // as was asked
	User    string   `json:"user,omitempty"` // on the list
	Kind    string   `json:"kind"`           // key, authority, support, central; "key" for a stranger too
	Role    string   `json:"role,omitempty"` // that decided
	Action  string   `json:"action"`
	Service string   `json:"service,omitempty"`
	Allow   bool     `json:"allow"`
	Reason  string   `json:"reason"`
	Notes   []string `json:"notes,omitempty"` // what else there is to know about it
}
