package daemon

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// A caller is who asks: what the session proved and what the access list says
// about it. It is made anew for each request, so that a revocation counts at once.
type caller struct {
	session    *session.Session
	peer       identity.Fingerprint
	principals []acl.Principal // what he may act as, the entry on the list first; none: a stranger
	user       acl.User        // zero for who is not on the list
	paired     bool            // his key is on the list
}

// newCaller asks the list and the guests who a session belongs to.
func (d *Daemon) newCaller(s *session.Session) caller {
	c := caller{session: s, peer: s.Peer(), principals: append(d.principalsOf(s.Peer()), d.nobody(s.Peer())...)}
	c.user, c.paired = d.store.UserOf(s.Peer())
	return c
}

// known reports whether the caller is more than a stranger. Who may act as nobody
// in particular is one.
func (c caller) known() bool {
	return slices.ContainsFunc(c.principals, func(p acl.Principal) bool { return p.Kind != acl.KindAnonymous })
}

// name is that of the user, else what the caller is as a guest, else "".
func (c caller) name() string {
	if c.paired || !c.known() {
		return c.user.Name
	}
	return c.principals[0].String()
}

// stranger is the whole answer to a key that is not on the access list, whatever
// it asked for: it learns nothing about what exists.
var stranger = api.Problemf(api.CodeForbidden, "this key is not paired with this device: press its pair button and run `keyhole pair`")

// dispatch is the device's one http.Handler, whatever path a request came by. It
// is the only place where who (session) and may (acl) meet.
type dispatch struct{ d *Daemon }

func (p dispatch) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := session.FromRequest(r)
	c := p.d.newCaller(s)
	if r.Method == http.MethodConnect {
		p.d.connect(w, r, c)
		return
	}
	// Session and connection outlive the answer, so a deadline that has passed by
	// then harms nothing: the next request sets its own.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
	route, ok, allow := p.d.routes.find(r)
	if !ok {
		if !c.known() {
			p.d.refused(c, "", "", whyStranger)
		}
		refuseUnknown(w, r, c, allow)
		return
	}
	if route.Action != public {
		decision := p.d.decide(c, acl.Action(route.Action), acl.Service{})
		if problem := p.d.recordSupport(c, r, decision); problem != nil {
			api.WriteProblem(w, problem)
			return
		}
		if !decision.Allow && !p.d.mayList(c, route) && !p.d.mayForHimself(c, route) {
			p.d.refused(c, acl.Action(route.Action), "", decision.Why)
			p.d.refuse(w, c, decision)
			return
		}
	}
	if err := route.serve(p.d, w, r, c); err != nil {
		p.d.refusedLater(c, route, err)
		p.d.answerError(w, r, err)
	}
}

// refuseUnknown answers what is not in the table: a stranger as always, a user
// with what there is instead.
func refuseUnknown(w http.ResponseWriter, r *http.Request, c caller, allow []string) {
	switch {
	case !c.known():
		api.WriteProblem(w, stranger)
	case len(allow) > 0:
		w.Header().Set("Allow", strings.Join(allow, ", "))
		api.WriteProblem(w, api.Problemf(api.CodeMethod, "this resource answers %s only", strings.Join(allow, ", ")))
	default:
		api.WriteProblem(w, api.Problemf(api.CodeNotFound, "there is no such resource: /v1/openapi.json lists them"))
	}
}

// decide asks the access list about everything that the caller may act as: the
// first yes counts, else the reason of the first no.
func (d *Daemon) decide(c caller, action acl.Action, service acl.Service) acl.Decision {
	if len(c.principals) == 0 {
		return d.store.Decide(acl.Principal{Fingerprint: c.peer}, action, service)
	}
	var first acl.Decision
	for i, p := range c.principals {
		decision := d.store.Decide(p, action, service)
		if decision.Allow {
			return decision
		}
		if i == 0 {
			first = decision
		}
	}
	return first
}

// refuse answers a no: to a stranger always the same, to a user with the reason.
func (d *Daemon) refuse(w http.ResponseWriter, c caller, decision acl.Decision) {
	if !c.known() {
		api.WriteProblem(w, stranger)
		return
	}
	d.log.Info("refused", "user", c.name(), "why", decision.Why)
	api.WriteProblem(w, api.Problemf(api.CodeForbidden, "%s", decision.Why))
}

// answerError makes a problem document of a handler's error. What the peer may
// not know goes to the log alone.
func (d *Daemon) answerError(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errAnswered) {
		return
	}
	var p *api.Problem
	if !errors.As(err, &p) {
		if r.Context().Err() != nil {
			d.log.Debug("the peer has gone", "method", r.Method, "path", r.URL.Path, "error", err)
			return
		}
		p = d.problemOf(err)
	}
	if p.Status >= http.StatusInternalServerError {
		d.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	api.WriteProblem(w, p)
}

// errAnswered is returned by a handler that has sent its answer itself and
// found only then that something was wrong.
var errAnswered = errors.New("already answered")

// problemOf translates the errors of the rooms.
func (d *Daemon) problemOf(err error) *api.Problem {
	var taken *acl.NameTakenError
	var name *acl.NameError
	switch {
	case errors.As(err, &taken):
		p := api.Problemf(api.CodeNameTaken, "the name %q is taken: try %q", taken.Name, taken.Suggestion)
		p.Suggestion = taken.Suggestion
		return p
	case errors.As(err, &name):
		return api.Problemf(api.CodeMalformed, "%s", name.Error())
	case errors.Is(err, acl.ErrNoUser):
		return api.Problemf(api.CodeNotFound, "there is no such user")
	case errors.Is(err, acl.ErrNoGrant), errors.Is(err, acl.ErrNotBlocked):
		return api.Problemf(api.CodeNotFound, "%s", rootText(err))
	case errors.Is(err, acl.ErrExceeds):
		return api.Problemf(api.CodeForbidden, "%s", rootText(err))
	case errors.Is(err, acl.ErrLimits), errors.Is(err, acl.ErrService), errors.Is(err, acl.ErrBlockName):
		return api.Problemf(api.CodeMalformed, "%s", rootText(err))
	case errors.Is(err, acl.ErrAmbiguous), errors.Is(err, acl.ErrLastOwner), errors.Is(err, acl.ErrLastKey),
		errors.Is(err, acl.ErrKeyTaken), errors.Is(err, acl.ErrCentral), errors.Is(err, acl.ErrNoOwner), errors.Is(err, acl.ErrOwner), errors.Is(err, acl.ErrOwnerLimits), errors.Is(err, acl.ErrFull), errors.Is(err, acl.ErrTooMany):
		return api.Problemf(api.CodeConflict, "%s", rootText(err))
	case errors.Is(err, session.ErrNotTunnel):
		return api.Problemf(api.CodeMalformed, "a CONNECT has no body of its own")
	case errors.Is(err, acl.ErrRole):
		return api.Problemf(api.CodeMalformed, "%s: want one of %s", rootText(err), d.roleNames())
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return api.Problemf(api.CodeUnavailable, "the device's disk is full: nothing was changed; to take somebody's permission away there is room")
	case errors.Is(err, acl.ErrReadOnly), errors.Is(err, acl.ErrBroken), errors.Is(err, acl.ErrClosed):
		return api.Problemf(api.CodeUnavailable, "the device cannot store changes now: nothing was changed")
	}
	return api.Problemf(api.CodeInternal, "the device could not do it: its log says why")
}

func rootText(err error) string {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}
