package daemon

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
)

// maxWhoBytes bounds what is asked about: a principal's name and its prefix.
const maxWhoBytes = 300

// localWhy explains a decision over the control socket.
func (d *Daemon) localWhy(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	out, err := d.why(q.Get("who"), acl.Action(q.Get("action")), q.Get("service"))
	if err != nil {
		return err
	}
	api.WriteJSON(w, out)
	return nil
}

// why decides as for a request that comes now, about a user by name, a key by its
// fingerprint, or a principal that is no user by its name.
func (d *Daemon) why(who string, action acl.Action, service string) (control.Why, error) {
	out := control.Why{Who: who, Action: string(action), Service: service}
	if who == "" || len(who) > maxWhoBytes {
		return out, api.Problemf(api.CodeMalformed, "who? want the name of a user, a fingerprint, ca:NAME or central:NAME")
	}
	if !slices.Contains(acl.Actions, action) {
		return out, api.Problemf(api.CodeMalformed, "%.40q is no action: want one of %v", string(action), acl.Actions)
	}
	if (action == acl.ActionTunnel) != (service != "") {
		return out, api.Problemf(api.CodeMalformed, "the action tunnel goes with the name of a service, and no other does")
	}
	target := acl.Service{}
	if service != "" {
		s, configured := d.bridge.Services().Lookup(service)
		if !configured {
			return out, api.Problemf(api.CodeNotFound, "there is no service %.40q in the configuration", service)
		}
		target = aclService(s)
	}
	asked, err := d.whoIs(who, &out)
	if err != nil {
		return out, err
	}
	for i, p := range asked {
		decision := d.store.Decide(p, action, target)
		if i == 0 || decision.Allow {
			out.Kind, out.Role, out.Allow, out.Reason = p.Kind.String(), decision.Role, decision.Allow, decision.Why
		}
		if decision.Allow {
			break
		}
	}
	if target.Application {
		out.Notes = append(out.Notes, "the service authenticates by itself: whoever is introduced may connect and is asked for its password")
	}
	return out, nil
}

// whoIs says as what somebody would be decided about, and notes what there is to
// know of him.
func (d *Daemon) whoIs(who string, out *control.Why) ([]acl.Principal, error) {
	u, err := d.store.User(who)
	if err == nil {
		out.User = u.Name
		d.noteLimits(u, out)
		return d.principalsOf(u.Keys[0].Fingerprint), nil
	}
	if !errors.Is(err, acl.ErrNoUser) {
		return nil, err
	}
	if f, err := identity.ParseFingerprint(who); err == nil {
		if d.store.IsBlocked(acl.Principal{Kind: acl.KindCentral, Fingerprint: f}) {
			out.Notes = append(out.Notes, "the key was a user's and is revoked: nobody can vouch for it before it is paired again")
		}
		if guests := d.guests.principals(f); len(guests) > 0 {
			return guests, nil
		}
		out.Notes = append(out.Notes, "no user has this key, and nobody who is here now")
		return []acl.Principal{{Fingerprint: f}}, nil
	}
	kind, name, ok := d.guestNamed(who)
	if id, certified := certifiedNamed(who, acl.ErrNoUser); certified {
		kind, name, ok = acl.KindAuthority, id, true
	}
	if !ok {
		return nil, acl.ErrNoUser
	}
	return []acl.Principal{d.absent(kind, name, out)}, nil
}

// absent is a principal who is no user: as he is here, or as he would come.
func (d *Daemon) absent(kind acl.Kind, name string, out *control.Why) acl.Principal {
	for _, g := range d.guests.list() {
		if g.principal.Kind == kind && g.principal.Name == name {
			return g.principal
		}
	}
	p := acl.Principal{Kind: kind, Name: name}
	if kind == acl.KindAuthority {
		if role := d.asUser(name).Role; role != "" {
			p.Roles = []string{role}
		}
	}
	out.Notes = append(out.Notes, "nobody of that name is here now")
	return p
}

// noteLimits tells of what is limited in time, and whether the time is known.
func (d *Daemon) noteLimits(u acl.User, out *control.Why) {
	clock := d.clock()
	limited := false
	note := func(what string, l acl.Limits) {
		if l.Always() {
			return
		}
		limited = true
		if !l.Until.IsZero() {
			what += " until " + l.Until.UTC().Format(time.RFC3339)
		}
		if len(l.Hours) > 0 {
			what += " in weekly hours"
		}
		if why := l.Refuses(clock); why != "" {
			what += ": " + why
		}
		out.Notes = append(out.Notes, what)
	}
	note("the user may enter", u.Limits)
	for _, g := range u.Grants {
		if out.Service != "" && g.Service == out.Service {
			note("granted this service", g.Limits)
		}
	}
	if limited && !clock.Known {
		out.Notes = append(out.Notes, "the device's clock is not set: what has an end or hours is refused")
	}
	if !slices.ContainsFunc(d.store.Roles(), func(r acl.Role) bool { return r.Name == u.Role }) {
		out.Notes = append(out.Notes, "the role "+u.Role+" is not in the configuration any more")
	}
}
