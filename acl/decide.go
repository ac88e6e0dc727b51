package acl

// Reasons that are the same for everybody.
const (
	whyHello    = "anybody may"
	whyKind     = "this kind of principal is not accepted"
	whyStranger = "not paired"
	whyAction   = "no such action"
	whyGrant    = "granted by name"
	whyRoleGone = "the user's role is not configured"
	whyNoRole   = "no role that was given is configured"
	whyItself   = "the service authenticates by itself"
	whyRevoked  = "the owner has revoked this key"
	whyBlocked  = "the owner has blocked this name"
	whySupport  = "support never may"
	whyNotOwn   = "only for services that authenticate by themselves"
)

// decide is the whole policy: a pure function of list, roles, request and, only
// where somebody's permission is limited in time, the clock. Default is no.
func (l *list) decide(roles map[string]*role, clock func() Clock, p Principal, action Action, service Service) Decision {
	if action == ActionHello {
		return Decision{Allow: true, Why: whyHello}
	}
	if action.bit() == 0 {
		return Decision{Why: whyAction}
	}
	switch p.Kind {
	case KindKey:
		return l.decideKey(roles, clock, p, action, service)
	case KindAnonymous:
		if action == ActionTunnel && service.Application {
			return Decision{Allow: true, Why: whyItself}
		}
		return Decision{Why: whyNotOwn}
	case KindAuthority, KindCentral, KindSupport:
		return l.decideGuest(roles, p, action, service)
	}
	return Decision{Why: whyKind}
}

// supportNever is what no hotline does, whatever role it was given.
var supportNever = ActionUsers.bit() | ActionSettings.bit() | ActionFirmware.bit() | ActionReset.bit() | ActionProvision.bit()

// decideGuest is about who is no user of the list and brings roles. Whoever
// vouches for him has looked at the time.
func (l *list) decideGuest(roles map[string]*role, p Principal, action Action, service Service) Decision {
	switch key, name := l.blocked(&p); {
	case key:
		return Decision{Why: whyRevoked}
	case name:
		return Decision{Why: whyBlocked}
	}
	if p.Kind == KindSupport && action.bit()&supportNever != 0 {
		return Decision{Why: whySupport}
	}
	d := Decision{Why: whyNoRole}
	for _, name := range p.Roles {
		r := roles[name]
		if r == nil || name == RoleOwner {
			continue
		}
		d.Role = name
		if d.Allow, d.Why = r.decide(action, service); d.Allow {
			return d
		}
	}
	return d
}

// decideKey is about the keys of users.
func (l *list) decideKey(roles map[string]*role, clock func() Clock, p Principal, action Action, service Service) Decision {
	u := l.byKey[p.Fingerprint]
	if u == nil {
		return Decision{Why: whyStranger}
	}
	d := Decision{User: u.Name, Role: u.Role}
	if why := u.refusesBy(clock); why != "" {
		d.Why = why
		return d
	}
	granted, whyNot := u.granted(clock, action, service)
	if granted {
		d.Allow, d.Why = true, whyGrant
		return d
	}
	if r := roles[u.Role]; r != nil {
		d.Allow, d.Why = r.decide(action, service)
	} else {
		d.Why = whyRoleGone
	}
	if !d.Allow && whyNot != "" {
		d.Why = whyNot // "ended" says more than "a guest may not"
	}
	return d
}

// granted looks for a grant by name. Without one it is false and "".
func (u *User) granted(clock func() Clock, action Action, service Service) (bool, string) {
	if action != ActionTunnel {
		return false, ""
	}
	why := ""
	for i := range u.Grants {
		g := &u.Grants[i]
		if g.Service != service.Name {
			continue
		}
		if why = g.refusesBy(clock); why == "" {
			return true, ""
		}
	}
	return false, why
}

// refusesBy asks for the time only when it matters.
func (l *Limits) refusesBy(clock func() Clock) string {
	if l.Always() {
		return ""
	}
	return l.refuses(clock())
}
