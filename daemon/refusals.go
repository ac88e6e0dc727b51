package daemon

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
)

const (
	// refusalWindow is how often the log names the same refusal: at once, and then
	// with the number of times, after each window in which it happened again. Six
	// lines an hour of all strangers together are 25 kB a day.
	refusalWindow = 10 * time.Minute
	// maxRefusals bounds how many different ones are told apart: what one user may
	// not do is 13 actions and the services. Others are counted together.
	maxRefusals = 128
)

// whyStranger is why somebody is refused whom the device does not know.
const whyStranger = "not on the access list"

// A refusal is what is counted together. Strangers are all one, or they would fill
// the log with a key for each line.
type refusal struct {
	user    string
	kind    string
	peer    identity.Fingerprint // zero for strangers
	action  acl.Action
	service string
	why     string
}

// refusals folds the refusals that repeat. Use newRefusals.
type refusals struct {
	write func(acl.Event)

	mu     sync.Mutex
	open   map[refusal]*fold
	closed bool
}

// A fold is one refusal since it was written last. Guarded by refusals.mu.
type fold struct {
	event acl.Event // the last time
	times uint64    // since it was written
	timer *time.Timer
}

func newRefusals(write func(acl.Event)) *refusals {
	return &refusals{write: write, open: map[refusal]*fold{}}
}

// note counts one.
func (r *refusals) note(k refusal, ev acl.Event) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	f := r.open[k]
	if f == nil && len(r.open) >= maxRefusals {
		k = refusal{kind: "several", why: "too many different ones to tell apart"}
		f = r.open[k]
	}
	first := f == nil
	if first {
		f = &fold{}
		f.timer = time.AfterFunc(refusalWindow, func() { r.elapsed(k, f) })
		r.open[k] = f
	} else {
		f.times++
	}
	f.event = ev
	r.mu.Unlock()
	if first {
		r.write(ev)
	}
}

// elapsed writes what happened within a window, and forgets what did not.
func (r *refusals) elapsed(k refusal, f *fold) {
	r.mu.Lock()
	ev, again := f.event, f.times > 0
	ev.Times, f.times = f.times, 0
	switch {
	case r.closed:
		again = false
	case again:
		f.timer.Reset(refusalWindow)
	default:
		delete(r.open, k)
	}
	r.mu.Unlock()
	if again {
		r.write(ev)
	}
}

// close writes what is counted and counts no more.
func (r *refusals) close() error {
	r.mu.Lock()
	var left []acl.Event
	for _, f := range r.open {
		f.timer.Stop()
		if f.times > 0 {
			f.event.Times = f.times
			left = append(left, f.event)
		}
	}
	r.open, r.closed = nil, true
	r.mu.Unlock()
	for _, ev := range left {
		r.write(ev)
	}
	return nil
}

// refused keeps for the audit log that a caller was told no. Action "" is a request
// for something that is not there.
func (d *Daemon) refused(c caller, action acl.Action, service, why string) {
	if c.session == nil {
		return // asked by a test of what decides, for nobody
	}
	info := c.session.Info()
	ev := acl.Event{
		What: acl.WhatRefused, User: c.name(), Kind: c.kind(), Fingerprint: info.Peer, Session: info.Number,
		Action: action, Service: service, Path: string(info.Path), Way: wayOf(info.Via), Source: info.Remote.String(), Why: why,
	}
	key := refusal{user: ev.User, kind: ev.Kind, peer: info.Peer, action: action, service: service, why: why}
	if !c.known() {
		key = refusal{kind: ev.Kind}
	}
	d.refusals.note(key, ev)
}

// refusedLater is refused for a handler that let nothing happen after all: whoever
// asked may see himself there, or manage users, but not this one.
func (d *Daemon) refusedLater(c caller, r route, err error) {
	var p *api.Problem
	if errors.As(err, &p) && p.Code() == api.CodeForbidden {
		d.refused(c, r.beyond(), "", p.Detail)
	}
}

// beyond is the action that a route needs for all but what is the asker's own.
func (r route) beyond() acl.Action {
	switch {
	case strings.HasPrefix(r.Path, "/v1/users"), strings.HasPrefix(r.Path, "/v1/me/"):
		return acl.ActionUsers
	case strings.HasPrefix(r.Path, "/v1/sessions"):
		return acl.ActionSessions
	}
	return acl.Action(r.Action)
}
