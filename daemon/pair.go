package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/netstate"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// asker describes a caller to the pairing window: who, over which session, and
// whether it is in the same network.
func (d *Daemon) asker(c caller) (pairing.Caller, error) {
	info := c.session.Info()
	exporter, err := c.session.Exporter(pairing.ExporterLabel, nil, pairing.ExporterBytes)
	if err != nil {
		return pairing.Caller{}, err
	}
	return pairing.Caller{
		Fingerprint: info.Peer, Exporter: exporter, Local: d.local(c), TCP: info.Path == session.PathTCP, Source: info.Remote.Addr().Unmap(),
	}, nil
}

// local asks the kernel whether a caller is a neighbour (SECURITY: *local*).
// While neither window nor invite is open nobody can use the answer, and strangers shall not
// make us read the routing table.
//
// Who came by a basestation is not local, wherever the connection seems to come
// from: a relay may stand in the owner's network, and a punched hole may lead to
// it.
func (d *Daemon) local(c caller) bool {
	tcp := c.session.NetConn()
	if tcp == nil || c.session.Info().Via != session.ViaDirect || !d.window.Listens() && !d.store.HasInvites() {
		return false
	}
	local, why := netstate.LocalConn(tcp, d.config().Pairing.Interfaces)
	if !local {
		d.log.Debug("caller is not local", "remote", c.session.Info().Remote, "why", why)
	}
	return local
}

func (d *Daemon) pairBegin(w http.ResponseWriter, r *http.Request, c caller) error {
	var body api.ButtonBegin
	if err := decode(w, r, &body); err != nil {
		return err
	}
	commitment, err := hex.DecodeString(body.Commitment)
	if err != nil {
		return api.Problemf(api.CodeMalformed, "the field \"commitment\" is not hexadecimal")
	}
	asker, err := d.asker(c)
	if err != nil {
		return err
	}
	if c.paired {
		return api.Problemf(api.CodeConflict, "this key is paired already, as %s", c.user.Name)
	}
	reply, err := d.window.Begin(r.Context(), asker, pairing.BeginRequest{Name: body.Name, User: body.User, Commitment: commitment})
	if err != nil {
		return d.pairingProblem(c, err)
	}
	api.WriteJSON(w, api.ButtonChallenge{Exchange: reply.Exchange, Nonce: hex.EncodeToString(reply.Nonce), Device: d.config().Device.Name})
	return nil
}

func (d *Daemon) pairReveal(w http.ResponseWriter, r *http.Request, c caller) error {
	var body api.ButtonReveal
	if err := decode(w, r, &body); err != nil {
		return err
	}
	nonce, err := hex.DecodeString(body.Nonce)
	if err != nil {
		return api.Problemf(api.CodeMalformed, "the field \"nonce\" is not hexadecimal")
	}
	asker, err := d.asker(c)
	if err != nil {
		return err
	}
	granted, err := d.window.Reveal(r.Context(), asker, pairing.RevealRequest{Exchange: body.Exchange, Nonce: nonce})
	if err != nil {
		return d.pairingProblem(c, err)
	}
	c.session.MarkPaired()
	api.WriteJSON(w, api.Paired{User: granted.User, Role: granted.Role, Device: d.describe()})
	return nil
}

// pairingCodes says which problem a refusal of the window becomes.
var pairingCodes = map[pairing.Code]api.Code{
	pairing.CodeRefused:  api.CodeClosed,
	pairing.CodeProof:    api.CodeClosed,
	pairing.CodeTries:    api.CodeClosed,
	pairing.CodeClosed:   api.CodeAborted,
	pairing.CodeOverlap:  api.CodeAborted,
	pairing.CodeReplaced: api.CodeAborted,
	pairing.CodeBusy:     api.CodeBusy,
	pairing.CodeTimeout:  api.CodeTimeout,
}

func (d *Daemon) pairingProblem(c caller, err error) error {
	var refused *pairing.Error
	var request *pairing.RequestError
	switch {
	case errors.As(err, &request):
		return api.Problemf(api.CodeMalformed, "the field %q: %s", request.Field, request.Why)
	case errors.As(err, &refused):
		d.recordFailedPairing(c, refused.Code)
		return api.Problemf(pairingCodes[refused.Code], "%s", refused.Error())
	}
	return err
}

// granter enters whom the person at the device accepted into the access list.
type granter struct{ d *Daemon }

func (g granter) Grant(_ context.Context, r pairing.Request) (pairing.Granted, error) {
	d := g.d
	u, err := d.store.Enter(acl.Newcomer{
		Fingerprint: r.Fingerprint, User: r.User, KeyName: r.Name, Role: d.config().Pairing.Role,
	}, acl.By{Via: r.Mode})
	if err != nil {
		d.log.Warn("pairing not entered", "peer", r.Fingerprint.Short(), "error", err)
		d.panel.tell("Not paired", "see the client")
		return pairing.Granted{}, err
	}
	d.log.Info("paired", "user", u.Name, "role", u.Role, "peer", r.Fingerprint.Short(), "from", r.Source)
	d.events.publish(api.Event{Kind: "user", What: "paired", User: u.Name, Detail: u.Role})
	d.panel.tell("Paired", u.Name, "is "+u.Role)
	return pairing.Granted{User: u.Name, Role: u.Role}, nil
}
