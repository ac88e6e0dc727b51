package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"

	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
)

// offer is what a caller is told of the window.
func (d *Daemon) offer(asker pairing.Caller, invite bool) api.Offer {
	o := api.Offer{Modes: []string{}}
	for _, m := range d.window.Offers(asker) {
		switch m {
		case pairing.ModeCode:
			if o.Code = codeOffer(d.window.Salt(asker)); o.Code == nil {
				continue // closed in between
			}
		case pairing.ModeLabel:
			if o.Label = codeOffer(d.window.LabelSalt(asker)); o.Label == nil {
				continue
			}
		}
		o.Modes = append(o.Modes, m)
	}
	if invite {
		o.Modes = append(o.Modes, pairing.ModeInvite)
	}
	o.Open = len(o.Modes) > 0
	return o
}

func codeOffer(salt []byte) *api.CodeOffer {
	if salt == nil {
		return nil
	}
	return &api.CodeOffer{Salt: hex.EncodeToString(salt), KiB: pairing.StretchKiB, Passes: pairing.StretchPasses, Lanes: pairing.StretchLanes}
}

func (d *Daemon) codeBegin(w http.ResponseWriter, r *http.Request, c caller) error {
	return d.secretBegin(w, r, c, d.window.BeginCode)
}

func (d *Daemon) codeConfirm(w http.ResponseWriter, r *http.Request, c caller) error {
	return d.secretConfirm(w, r, c, d.window.ConfirmCode)
}

func (d *Daemon) labelBegin(w http.ResponseWriter, r *http.Request, c caller) error {
	return d.secretBegin(w, r, c, d.window.BeginLabel)
}

func (d *Daemon) labelConfirm(w http.ResponseWriter, r *http.Request, c caller) error {
	return d.secretConfirm(w, r, c, d.window.ConfirmLabel)
}

type beginSecret func(context.Context, pairing.Caller, pairing.CodeRequest) (pairing.CodeReply, error)

// secretBegin is the first step of the modes with a short secret.
func (d *Daemon) secretBegin(w http.ResponseWriter, r *http.Request, c caller, begin beginSecret) error {
	var body api.CodeBegin
	if err := decode(w, r, &body); err != nil {
		return err
	}
	share, err := hex.DecodeString(body.Share)
	if err != nil {
		return api.Problemf(api.CodeMalformed, "the field \"share\" is not hexadecimal")
	}
	asker, err := d.asker(c)
	if err != nil {
		return err
	}
	if c.paired {
		return api.Problemf(api.CodeConflict, "this key is paired already, as %s", c.user.Name)
	}
	reply, err := begin(r.Context(), asker, pairing.CodeRequest{Name: body.Name, User: body.User, Share: share})
	if err != nil {
		return d.codeProblem(c, err)
	}
	api.WriteJSON(w, api.CodeChallenge{
		Exchange: reply.Exchange, Share: hex.EncodeToString(reply.Share), Confirm: hex.EncodeToString(reply.Confirm), Device: d.config().Device.Name,
	})
	return nil
}

type confirmSecret func(context.Context, pairing.Caller, pairing.ConfirmRequest) (pairing.Granted, error)

// secretConfirm is the second.
func (d *Daemon) secretConfirm(w http.ResponseWriter, r *http.Request, c caller, prove confirmSecret) error {
	var body api.CodeConfirm
	if err := decode(w, r, &body); err != nil {
		return err
	}
	confirm, err := hex.DecodeString(body.Confirm)
	if err != nil {
		return api.Problemf(api.CodeMalformed, "the field \"confirm\" is not hexadecimal")
	}
	asker, err := d.asker(c)
	if err != nil {
		return err
	}
	granted, err := prove(r.Context(), asker, pairing.ConfirmRequest{Exchange: body.Exchange, Confirm: confirm})
	if err != nil {
		return d.codeProblem(c, err)
	}
	c.session.MarkPaired()
	api.WriteJSON(w, api.Paired{User: granted.User, Role: granted.Role, Device: d.describe()})
	return nil
}

// codeProblem gives one answer for every reason that a guesser could learn from:
// a wrong code, a closed window, no tries left, an unknown exchange. The audit
// log keeps which it was.
func (d *Daemon) codeProblem(c caller, err error) error {
	problem := d.pairingProblem(c, err)
	var refused *pairing.Error
	if errors.As(err, &refused) && refused.Code != pairing.CodeBusy {
		return api.Problemf(api.CodeClosed, "%s", pairing.ErrRefused.Error())
	}
	return problem
}
