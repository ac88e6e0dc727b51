package acl

import "github.com/keyholed/keyhole/protocol/identity"

// A Kind says by what a principal is known.
type Kind uint8

// The kinds of principal. Only paired keys are users of the list; who is of
// another kind brings the roles with him and owns nothing.
const (
	KindKey       Kind = iota // a key that may be paired
	KindAnonymous             // nobody: an introduced client of a service that authenticates by itself
	KindAuthority             // a user id certified by an authority the device trusts
	KindSupport               // the holder of a live support code
	KindCentral               // a grant signed by the vendor
)

// String names the kind as it stands in the log.
func (k Kind) String() string {
	switch k {
	case KindKey:
		return "key"
	case KindAnonymous:
		return "anonymous"
	case KindAuthority:
		return "authority"
	case KindSupport:
		return "support"
	case KindCentral:
		return "central"
	}
	return "unknown"
}

// A Principal is who asks: what the session has proven. The zero value is a key
// that nobody can have.
type Principal struct {
	Kind        Kind
	Fingerprint identity.Fingerprint // of the key that the session proved

	// Name is that of who is no user of the list: the certified user id, the subject
	// of a central grant. Empty for KindKey and KindAnonymous.
	Name string
	// Roles were given in place of a user's role. RoleOwner among them is ignored,
	// and one that is not configured gives nothing. Nil for KindKey and KindAnonymous.
	Roles []string
}

// String names the principal for logs: "alice@example.net (authority)",
// "support", and a key by the beginning of its fingerprint.
func (p Principal) String() string {
	switch p.Kind {
	case KindKey:
		return p.Fingerprint.Short()
	case KindAuthority, KindCentral:
		return p.Name + " (" + p.Kind.String() + ")"
	case KindSupport:
		if p.Name != "" && p.Name != p.Kind.String() {
			return p.Name + " (support)"
		}
	}
	return p.Kind.String()
}

// A Service is what a tunnel would lead to; zero for actions without one.
type Service struct {
	Name        string // as configured
	Type        string // rtsp, http, ssh, tcp
	Application bool   // it authenticates by itself: access = "application"
}
