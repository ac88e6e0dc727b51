package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/protocol/api"
)

// kindLocal is who commands the daemon on its own machine.
const kindLocal = "local"

// localUser names the local user behind a request, as the kernel knows it.
func localUser(r *http.Request) string {
	if peer, ok := control.PeerFrom(r.Context()); ok {
		return peer.String()
	}
	return "unknown"
}

// localBy is localUser as the one who makes a change.
func localBy(r *http.Request) acl.By {
	return acl.By{User: localUser(r), Kind: kindLocal, Via: "control socket"}
}

// A command is what somebody ordered over the control socket, for the audit log.
type command struct{ words string }

type commandKey struct{}

// commanded prepares for the log what a request of the control socket orders; done
// is called with how it ended. Requests that only look are not kept: whoever may
// ask them can read the disk.
func (d *Daemon) commanded(r *http.Request) (with *http.Request, done func(error)) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return r, func(error) {}
	}
	c := &command{words: strings.TrimPrefix(r.URL.Path, "/v1/")}
	return r.WithContext(context.WithValue(r.Context(), commandKey{}, c)), func(err error) {
		ev := acl.Event{What: acl.WhatCommand, By: localBy(r), Result: "done", Detail: c.words}
		if err != nil {
			ev.Result, ev.Why = "failed", err.Error()
			if p := (*api.Problem)(nil); !errors.As(err, &p) {
				ev.Why = d.problemOf(err).Detail
			}
		}
		d.record(ev)
	}
}

// describe says in words what a request of the control socket orders. They must
// hold no secret: the log is read by others.
func describe(r *http.Request, format string, args ...any) {
	if c, ok := r.Context().Value(commandKey{}).(*command); ok {
		c.words = fmt.Sprintf(format, args...)
	}
}
