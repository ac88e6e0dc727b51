package api

// Roles is GET /v1/roles.
type Roles struct {
	Roles []Role `json:"roles" doc:"the built-in ones first, then the vendor's"`
}

// Role is a named set of permissions.
type Role struct {
	Name    string   `json:"name"`
	Actions []string `json:"actions" doc:"what it may do"`
	Types   []string `json:"types,omitempty" doc:"the service types that it may tunnel to; * is every type"`
	MayGive bool     `json:"may_give" doc:"whether the asker may give it to others: nobody gives more than he has, and owner only an owner"`
}
