package daemon

import (
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
		if m == pairing.ModeCode {
			salt := d.window.Salt(asker)
			if salt == nil {
				continue // closed in between
			}
			o.Code = &api.CodeOffer{Salt: hex.EncodeToString(salt), KiB: pairing.StretchKiB, Passes: pairing.StretchPasses, Lanes: pairing.StretchLanes}
		}
		o.Modes = append(o.Modes, m)
	}
	if invite {
		o.Modes = append(o.Modes, pairing.ModeInvite)
	}
	o.Open = len(o.Modes) > 0
	return o
}

func (d *Daemon) codeBegin(w http.ResponseWriter, r *http.Request, c caller) error {
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
	reply, err := d.window.BeginCode(r.Context(), asker, pairing.CodeRequest{Name: body.Name, User: body.User, Share: share})
	if err != nil {
		return d.codeProblem(c, err)
	}
	api.WriteJSON(w, api.CodeChallenge{
		Exchange: reply.Exchange, Share: hex.EncodeToString(reply.Share), Confirm: hex.EncodeToString(reply.Confirm), Device: d.config().Device.Name,
	})
	return nil
}

func (d *Daemon) codeConfirm(w http.ResponseWriter, r *http.Request, c caller) error {
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
	granted, err := d.window.ConfirmCode(r.Context(), asker, pairing.ConfirmRequest{Exchange: body.Exchange, Confirm: confirm})
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
