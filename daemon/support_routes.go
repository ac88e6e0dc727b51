package daemon

import (
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
)

// supportRoutes are the remote operations of support.
func supportRoutes() routes {
	return routes{
		{api.Operation{Method: "POST", Path: "/v1/support", Summary: "Begin to prove a support code.",
			Action: public, Request: api.SupportBegin{}, Answer: api.SupportChallenge{},
			Refuses: []api.Code{api.CodeClosed, api.CodeBusy}}, (*Daemon).supportBegin},
		{api.Operation{Method: "POST", Path: "/v1/support/confirm", Summary: "Prove the code, and be let in for half an hour.",
			Action: public, Request: api.SupportConfirm{}, Answer: api.Support{},
			Refuses: []api.Code{api.CodeClosed, api.CodeUnavailable}}, (*Daemon).supportConfirm},
		{api.Operation{Method: "GET", Path: "/v1/support", Summary: "Whether a support code is shown, or a hotline is here.",
			Action: string(acl.ActionMe), Answer: api.Support{}}, (*Daemon).supportState},
		{api.Operation{Method: "POST", Path: "/v1/support/control", Summary: "Have the display ask whether the hotline may use services, and wait for the answer.",
			Action: string(acl.ActionMe), Answer: api.Support{},
			Refuses: []api.Code{api.CodeConflict, api.CodeTimeout, api.CodeLimit}}, (*Daemon).supportControl},
		{api.Operation{Method: "DELETE", Path: "/v1/support", Summary: "End the support session: one's own, or any by who may end sessions.",
			Action: string(acl.ActionMe), Answer: api.Support{}, Refuses: []api.Code{api.CodeConflict}}, (*Daemon).supportEnd},
	}
}

// supportOffer is what hello says while a code is shown; nil else.
func (d *Daemon) supportOffer() *api.SupportOffer {
	if d.support == nil {
		return nil
	}
	salt, digits := d.support.Offer()
	if salt == nil {
		return nil
	}
	return &api.SupportOffer{
		Salt: hex.EncodeToString(salt), KiB: pairing.StretchKiB, Passes: pairing.StretchPasses, Lanes: pairing.StretchLanes,
		Digits: digits, Vendor: d.support.WantsVendor(),
	}
}

func (d *Daemon) supportBegin(w http.ResponseWriter, r *http.Request, c caller) error {
	var body api.SupportBegin
	if err := decode(w, r, &body); err != nil {
		return err
	}
	var request pairing.SupportRequest
	for _, f := range []struct {
		name, text string
		to         *[]byte
	}{{"share", body.Share, &request.Share}, {"vendor_key", body.VendorKey, &request.Vendor.PublicKey}, {"vendor_signature", body.Signature, &request.Vendor.Signature}} {
		b, err := hex.DecodeString(f.text)
		if err != nil {
			return api.Problemf(api.CodeMalformed, "the field %q is not hexadecimal", f.name)
		}
		*f.to = b
	}
	asker, err := d.supportAsker(c)
	if err != nil {
		return err
	}
	reply, err := d.support.Begin(r.Context(), asker, request)
	if err != nil {
		return d.supportProblem(c, err)
	}
	api.WriteJSON(w, api.SupportChallenge{Exchange: reply.Exchange, Share: hex.EncodeToString(reply.Share), Confirm: hex.EncodeToString(reply.Confirm)})
	return nil
}

func (d *Daemon) supportConfirm(w http.ResponseWriter, r *http.Request, c caller) error {
	var body api.SupportConfirm
	if err := decode(w, r, &body); err != nil {
		return err
	}
	confirm, err := hex.DecodeString(body.Confirm)
	if err != nil {
		return api.Problemf(api.CodeMalformed, "the field \"confirm\" is not hexadecimal")
	}
	asker, err := d.supportAsker(c)
	if err != nil {
		return err
	}
	if _, err = d.support.Confirm(r.Context(), asker, pairing.ConfirmRequest{Exchange: body.Exchange, Confirm: confirm}); err != nil {
		return d.supportProblem(c, err)
	}
	c.session.MarkPaired()
	state := d.supportNow(c)
	state.Device = d.config().Device.Name
	api.WriteJSON(w, state)
	return nil
}

// supportAsker describes a caller; where he comes from matters for the log alone, since
// whoever has the code may be anywhere.
func (d *Daemon) supportAsker(c caller) (pairing.Caller, error) {
	info := c.session.Info()
	exporter, err := c.session.Exporter(pairing.ExporterLabel, nil, pairing.ExporterBytes)
	if err != nil {
		return pairing.Caller{}, err
	}
	return pairing.Caller{Fingerprint: info.Peer, Exporter: exporter, Source: info.Remote.Addr().Unmap()}, nil
}

// supportProblem gives one answer for every reason that a guesser could learn from: no code,
// a wrong one, no tries left, no vendor's key, an unknown exchange. The audit log keeps
// which it was, where a try was made.
func (d *Daemon) supportProblem(c caller, err error) error {
	var request *pairing.RequestError
	var refused *pairing.Error
	switch {
	case errors.As(err, &request):
		return api.Problemf(api.CodeMalformed, "the field %q: %s", request.Field, request.Why)
	case errors.Is(err, pairing.ErrBusy):
		return api.Problemf(api.CodeBusy, "somebody else is proving the code at this moment: try again")
	case errors.As(err, &refused):
		if refused.Code == pairing.CodeRefused {
			d.refused(c, "support", "", string(refused.Code))
		} else {
			info := c.session.Info()
			d.record(acl.Event{What: acl.WhatSupportFailed, Fingerprint: info.Peer, Path: string(info.Path), Source: info.Remote.Addr().String(), Why: string(refused.Code)})
			d.events.publish(api.Event{Kind: "support", What: "failed", Detail: info.Remote.Addr().String()})
		}
		return api.Problemf(api.CodeClosed, "support is not possible with this code: ask for a new one")
	}
	d.log.Warn("a hotline was not let in", "peer", c.peer.Short(), "error", err)
	return api.Problemf(api.CodeUnavailable, "the device cannot let anybody in now")
}

// supportNow is how support is, as a caller may see it.
func (d *Daemon) supportNow(c caller) api.Support {
	state := d.support.State()
	return api.Support{
		State: state.Phase.String(), SecondsLeft: state.SecondsLeft, Control: state.Control.String(), AskedLeft: state.AskedLeft,
		Mine: state.Phase == pairing.SupportSession && state.Guest == c.peer,
	}
}

func (d *Daemon) supportState(w http.ResponseWriter, _ *http.Request, c caller) error {
	api.WriteJSON(w, d.supportNow(c))
	return nil
}

// supportControl waits for a person; the answer takes longer than others.
func (d *Daemon) supportControl(w http.ResponseWriter, r *http.Request, c caller) error {
	if d.window.State().Open {
		return api.Problemf(api.CodeConflict, "somebody at the device is pairing: ask again when that is over")
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(pairing.ControlDuration + answerTimeout))
	switch err := d.support.Ask(r.Context(), c.peer); {
	case errors.Is(err, pairing.ErrNoSupport):
		return api.Problemf(api.CodeConflict, "%v", err)
	case errors.Is(err, pairing.ErrControlTooOften):
		return api.Problemf(api.CodeLimit, "%v", err)
	case errors.Is(err, pairing.ErrControlRefused):
		return api.Problemf(api.CodeTimeout, "%v", err)
	case err != nil:
		return err
	}
	api.WriteJSON(w, d.supportNow(c))
	return nil
}

func (d *Daemon) supportEnd(w http.ResponseWriter, r *http.Request, c caller) error {
	if !d.support.Leave(c.peer) {
		if !c.paired || !d.decide(c, acl.ActionSessions, acl.Service{}).Allow || d.support.Hang(pairing.SupportTaken) == 0 {
			return api.Problemf(api.CodeConflict, "%v", pairing.ErrNoSupport)
		}
		d.log.Info("support was ended", "by", c.name())
	}
	api.WriteJSON(w, d.supportNow(c))
	return nil
}

// errUnrecorded is told to a hotline whose actions are more than the audit log takes:
// none is to be missing there.
var errUnrecorded = api.Problemf(api.CodeLimit, "too much was asked for in this support session: go on in a moment")

// recordSupport writes down what a hotline asks for, whatever the answer: all of it but
// looking at its own clock. A problem is the answer in place of what was asked for.
func (d *Daemon) recordSupport(c caller, r *http.Request, decision acl.Decision) *api.Problem {
	if r.Method == http.MethodGet && r.URL.Path == "/v1/support" {
		return nil
	}
	return d.recordHotline(c, r.Method+" "+r.URL.Path, decision.Allow, decision.Why)
}

func (d *Daemon) recordHotline(c caller, asked string, allowed bool, why string) *api.Problem {
	// Also of who is something else besides: he could not be told from the hotline.
	if !slices.ContainsFunc(c.principals, func(p acl.Principal) bool { return p.Kind == acl.KindSupport }) {
		return nil
	}
	info := c.session.Info()
	e := acl.Event{
		What: acl.WhatSupportAction, User: supportName, Fingerprint: c.peer, Path: string(info.Path), Source: info.Remote.Addr().String(), Detail: asked,
	}
	if !allowed {
		e.Why = why
	}
	if !d.record(e) && !c.paired {
		return errUnrecorded
	}
	return nil
}

// recordSupportTunnel is recordSupport for CONNECT.
func (d *Daemon) recordSupportTunnel(c caller, authority string, problem *api.Problem) *api.Problem {
	why := ""
	if problem != nil {
		why = problem.Detail
	}
	return d.recordHotline(c, "CONNECT "+authority, problem == nil, why)
}
