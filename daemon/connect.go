package daemon

import (
	"context"
	"errors"
	"net/http"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
	"github.com/keyholed/keyhole/tunnel"
	"github.com/keyholed/keyhole/tunnel/tries"
)

// connect answers CONNECT: may, then is there such a service, then does it
// answer, and only then 200. The client's bytes never become an address: the
// authority is looked up in the table and is nothing if it is not there.
func (d *Daemon) connect(w http.ResponseWriter, r *http.Request, c caller) {
	if len(c.principals) == 0 {
		d.refused(c, acl.ActionTunnel, "", whyStranger)
		api.WriteProblem(w, stranger)
		return
	}
	service, problem := d.admit(authorityOf(r), c)
	if unrecorded := d.recordSupportTunnel(c, authorityOf(r), problem); problem == nil {
		problem = unrecorded
	}
	if problem != nil {
		api.WriteProblem(w, problem)
		return
	}
	meta := c.meta()
	asker, problem := d.watched(c, service, &meta)
	if problem != nil {
		api.WriteProblem(w, problem)
		return
	}
	if err := d.tunnel(w, r, meta, service, asker); err != nil {
		d.answerError(w, r, err)
	}
}

// authorityOf is what CONNECT asks for, or "" where the request says it in two
// ways: net/http takes "alice@cam", "cam/x" and "/x" with a Host header for "cam".
func authorityOf(r *http.Request) string {
	if r.RequestURI != r.Host {
		return ""
	}
	return r.Host
}

// admit finds the service that a caller names and may use.
func (d *Daemon) admit(authority string, c caller) (tunnel.Service, *api.Problem) {
	mayList := d.decide(c, acl.ActionServices, acl.Service{}).Allow
	name, err := tunnel.ParseAuthority(authority)
	service, known := tunnel.Service{}, false
	if err == nil {
		service, known = d.bridge.Services().Lookup(name)
	}
	switch {
	case !known && !c.known():
		d.refused(c, acl.ActionTunnel, "", whyStranger)
		return tunnel.Service{}, stranger
	case !mayList && !known:
		d.refused(c, acl.ActionTunnel, "", "there is no such service")
		return tunnel.Service{}, api.Problemf(api.CodeForbidden, "not permitted")
	case err != nil:
		return tunnel.Service{}, api.Problemf(api.CodeNotFound, "CONNECT takes the name of a service: %v", err)
	case !known:
		return tunnel.Service{}, api.Problemf(api.CodeNotFound, "there is no service %q: `keyhole services` lists them", name)
	}
	decision := d.decide(c, acl.ActionTunnel, aclService(service))
	if !decision.Allow {
		d.refused(c, acl.ActionTunnel, service.Name, decision.Why)
		d.log.Info("tunnel refused", "user", c.name(), "service", service.Name, "why", decision.Why)
		if !c.known() {
			return tunnel.Service{}, stranger
		}
		if !mayList {
			return tunnel.Service{}, api.Problemf(api.CodeForbidden, "not permitted")
		}
		return tunnel.Service{}, api.Problemf(api.CodeForbidden, "%s", decision.Why)
	}
	return service, nil
}

// tunnel carries one connection from its 200 to its log line. It returns an
// error only while there is still an answer to give.
func (d *Daemon) tunnel(w http.ResponseWriter, r *http.Request, meta tunnel.Meta, service tunnel.Service, asker *tries.Asker) error {
	t, err := d.bridge.Open(r.Context(), meta, service)
	if err != nil {
		return d.openProblem(meta, service, err)
	}
	defer t.Close() // after Run nothing; before it, whatever happens, its place is given back
	if asker != nil {
		t.Watch(asker)
	}
	stream, err := session.Accept(w, r)
	if err != nil {
		return err
	}
	d.tunnelOpened(meta, service)
	// Not the request's context: a stream that took over the connection ends with
	// the session, and the daemon's own end cuts it through the bridge.
	report := t.Run(context.WithoutCancel(r.Context()), stream)
	d.tunnelClosed(meta, service, report)
	return nil
}

func (d *Daemon) openProblem(meta tunnel.Meta, service tunnel.Service, err error) error {
	var down *tunnel.DownError
	switch {
	case errors.As(err, &down):
		d.log.Warn("service does not answer", "service", service.Name, "user", meta.User, "error", err)
		return api.Problemf(api.CodeServiceDown, "the device is there, but its service %q does not answer: %s", service.Name, down.Reason)
	case errors.Is(err, tunnel.ErrPeerLimit), errors.Is(err, tunnel.ErrTotalLimit):
		return api.Problemf(api.CodeLimit, "%v are open: close one first", err)
	}
	return api.Problemf(api.CodeUnavailable, "the device is stopping")
}

func aclService(s tunnel.Service) acl.Service {
	return acl.Service{Name: s.Name, Type: s.Type.Name, Application: s.Access == tunnel.AccessApplication}
}
