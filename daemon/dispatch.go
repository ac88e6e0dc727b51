package daemon

import (
	"errors"
	"net/http"
	"strings"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// A caller is who asks: what the session proved and what the access list says
// about it. It is made anew for each request, so that a revocation counts at once.
type caller struct {
	session   *session.Session
	principal acl.Principal
	user      acl.User // zero for a stranger
	paired    bool
}

// stranger is the whole answer to a key that is not on the access list, whatever
// it asked for: it learns nothing about what exists.
var stranger = api.Problemf(api.CodeForbidden, "this key is not paired with this device: press its pair button and run `keyhole pair`")

// dispatch is the device's one http.Handler, whatever path a request came by. It
// is the only place where who (session) and may (acl) meet.
type dispatch struct {
	d      *Daemon
	mux    *http.ServeMux
	byName map[string]route // by ServeMux pattern
}

func newDispatch(d *Daemon) *dispatch {
	p := &dispatch{d: d, mux: http.NewServeMux(), byName: map[string]route{}}
	for _, r := range d.routes {
		pattern := r.Method + " " + r.Path
		p.byName[pattern] = r
		p.mux.Handle(pattern, http.NotFoundHandler()) // only matched, see ServeHTTP
	}
	return p
}

func (p *dispatch) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := session.FromRequest(r)
	c := caller{session: s, principal: acl.Principal{Fingerprint: s.Info().Peer}}
	c.user, c.paired = p.d.store.UserOf(c.principal.Fingerprint)
	if r.Method == http.MethodConnect {
		p.d.connect(w, r, c)
		return
	}
	_, pattern := p.mux.Handler(r)
	route, known := p.byName[pattern]
	if !known {
		p.refuseUnknown(w, r, c)
		return
	}
	if route.Action != "" {
		decision := p.d.decide(c, acl.Action(route.Action), acl.Service{})
		if !decision.Allow {
			p.d.refuse(w, c, decision)
			return
		}
	}
	r.Pattern = pattern
	p.setPathValues(r, route)
	if err := route.serve(p.d, w, r, c); err != nil {
		p.d.answerError(w, r, err)
	}
}

// setPathValues does what ServeMux would have done, had it called the handler.
func (p *dispatch) setPathValues(r *http.Request, route route) {
	want := strings.Split(route.Path, "/")
	have := strings.Split(r.URL.Path, "/")
	for i, part := range want {
		if name, ok := strings.CutPrefix(part, "{"); ok && i < len(have) {
			r.SetPathValue(strings.TrimSuffix(name, "}"), have[i])
		}
	}
}

func (p *dispatch) refuseUnknown(w http.ResponseWriter, r *http.Request, c caller) {
	if !c.paired {
		api.WriteProblem(w, stranger)
		return
	}
	var allow []string
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		try := r.Clone(r.Context())
		try.Method = method
		if _, pattern := p.mux.Handler(try); p.byName[pattern].serve != nil {
			allow = append(allow, method)
		}
	}
	if len(allow) > 0 {
		w.Header().Set("Allow", strings.Join(allow, ", "))
		api.WriteProblem(w, api.Problemf(api.CodeMethod, "%s answers %s only", r.URL.Path, strings.Join(allow, ", ")))
		return
	}
	api.WriteProblem(w, api.Problemf(api.CodeNotFound, "there is no such resource: /v1/openapi.json lists them"))
}

// decide asks the access list.
func (d *Daemon) decide(c caller, action acl.Action, service acl.Service) acl.Decision {
	return d.store.Decide(c.principal, action, service)
}

// refuse answers a no: to a stranger always the same, to a user with the reason.
func (d *Daemon) refuse(w http.ResponseWriter, c caller, decision acl.Decision) {
	if !c.paired {
		api.WriteProblem(w, stranger)
		return
	}
	d.log.Info("refused", "user", c.user.Name, "why", decision.Why)
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
	case errors.Is(err, acl.ErrAmbiguous), errors.Is(err, acl.ErrLastOwner), errors.Is(err, acl.ErrLastKey),
		errors.Is(err, acl.ErrKeyTaken), errors.Is(err, acl.ErrOwner), errors.Is(err, acl.ErrFull), errors.Is(err, acl.ErrTooMany):
		return api.Problemf(api.CodeConflict, "%s", rootText(err))
	case errors.Is(err, acl.ErrRole):
		return api.Problemf(api.CodeMalformed, "%s", rootText(err))
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
