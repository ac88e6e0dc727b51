package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// inviteRoutes are making, listing and withdrawing invites. What is under /v1/me is for
// one's own devices and asked from one's own session.
func inviteRoutes() routes {
	users, me := string(acl.ActionUsers), string(acl.ActionMe)
	refuses := []api.Code{api.CodeMalformed, api.CodeConflict, api.CodeUnavailable}
	gone := []api.Code{api.CodeNotFound, api.CodeUnavailable}
	return routes{
		{api.Operation{Method: "GET", Path: "/v1/invites", Summary: "The invites that are open.",
			Action: users, Answer: api.Invites{}}, (*Daemon).invites},
		{api.Operation{Method: "POST", Path: "/v1/invites", Summary: "Invite somebody: the answer has the link, once.",
			Action: users, Request: api.InviteRequest{}, Answer: api.NewInvite{}, Refuses: refuses}, (*Daemon).invite},
		{api.Operation{Method: "DELETE", Path: "/v1/invites/{invite}", Summary: "Withdraw an invite, by its name.",
			Action: users, Answer: api.Uninvited{}, Refuses: gone}, (*Daemon).uninvite},
		{api.Operation{Method: "GET", Path: "/v1/me/invites", Summary: "The asker's own open invites.",
			Action: me, Answer: api.Invites{}}, (*Daemon).ownInvites},
		{api.Operation{Method: "POST", Path: "/v1/me/invites", Summary: "Make an invite for another device of the asker's own.",
			Action: me, Request: api.OwnInviteRequest{}, Answer: api.NewInvite{}, Refuses: refuses}, (*Daemon).inviteMyself},
		{api.Operation{Method: "DELETE", Path: "/v1/me/invites/{invite}", Summary: "Withdraw one of the asker's own invites.",
			Action: me, Answer: api.Uninvited{}, Refuses: gone}, (*Daemon).uninviteOwn},
		{api.Operation{Method: "POST", Path: "/v1/pair/invite", Summary: "Prove an invite, and be let in.",
			Action: public, Request: api.InviteProof{}, Answer: api.Paired{},
			Refuses: []api.Code{api.CodeClosed, api.CodeConflict, api.CodeNameTaken, api.CodeUnavailable}}, (*Daemon).pairInvite},
	}
}

// byInvite reports whether this device pairs by invite.
func (d *Daemon) byInvite() bool { return d.pairsBy(pairing.ModeInvite) }

// pairsBy reports whether a mode is configured.
func (d *Daemon) pairsBy(mode string) bool { return slices.Contains(d.config().Pairing.Modes, mode) }

func (d *Daemon) invite(w http.ResponseWriter, r *http.Request, c caller) error {
	var body api.InviteRequest
	if err := decode(w, r, &body); err != nil {
		return err
	}
	limits, err := aclLimits(api.Limits{Until: body.Until, Hours: body.Hours})
	if err != nil {
		return err
	}
	limits.Until = limits.Until.Truncate(time.Second)
	if clock := d.clock(); body.Until != nil && (limits.Until.IsZero() || clock.Known && !limits.Until.After(clock.Now)) {
		return api.Problemf(api.CodeMalformed, "the field \"until\" has passed already")
	}
	return d.makeInvite(w, c, acl.Invite{Role: body.Role, For: body.For, Limits: limits}, body.Seconds, acl.ActionUsers)
}

func (d *Daemon) inviteMyself(w http.ResponseWriter, r *http.Request, c caller) error {
	var body api.OwnInviteRequest
	if err := decode(w, r, &body); err != nil {
		return err
	}
	return d.makeInvite(w, c, acl.Invite{Myself: true}, body.Seconds, acl.ActionMe)
}

// makeInvite draws the token, keeps its verifier, and tells the link.
func (d *Daemon) makeInvite(w http.ResponseWriter, c caller, i acl.Invite, seconds int64, action acl.Action) error {
	life := pairing.InviteLife
	if seconds != 0 {
		life = time.Duration(seconds) * time.Second
		if seconds < 0 || seconds > int64(pairing.InviteLifeMost/time.Second) || life < pairing.InviteLifeLeast {
			return api.Problemf(api.CodeMalformed, "the field \"seconds\": want %.0f to %.0f", pairing.InviteLifeLeast.Seconds(), pairing.InviteLifeMost.Seconds())
		}
	}
	switch {
	case !d.byInvite():
		return api.Problemf(api.CodeConflict, "this device does not pair by invite: add \"invite\" to the modes of [pairing] in its configuration")
	case !c.paired:
		return api.Problemf(api.CodeConflict, "only who is on the list can invite: this session is %s's", c.name())
	}
	token := pairing.NewToken()
	link, err := d.linkOf(token).Text()
	if err != nil {
		return err
	}
	verifier := token.Verifier(d.key.ID())
	i.Name, i.Verifier = verifier.Name().String(), verifier[:]
	made, err := d.keepInvite(c, i, life, action)
	if err != nil {
		return err
	}
	d.log.Info("invited", "invite", made.Name, "role", made.Role, "by", c.user.Name)
	d.events.publish(api.Event{Kind: "user", What: "invited", User: c.user.Name, Detail: made.Role})
	api.WriteJSON(w, api.NewInvite{Invite: apiInvite(acl.OpenInvite{Invite: made, Maker: c.user.Name}), Link: link})
	return nil
}

func (d *Daemon) keepInvite(c caller, i acl.Invite, life time.Duration, action acl.Action) (acl.Invite, error) {
	d.changing.Lock()
	defer d.changing.Unlock()
	if err := d.stillMay(c, action); err != nil {
		return acl.Invite{}, err
	}
	made, err := d.store.Invite(i, life, c.by())
	return made, inviteProblem(err)
}

// inviteProblem translates what the list says of invites.
func inviteProblem(err error) error {
	switch {
	case errors.Is(err, acl.ErrNoInvite):
		return api.Problemf(api.CodeNotFound, "there is no such invite")
	case errors.Is(err, acl.ErrInvites):
		return api.Problemf(api.CodeConflict, "%s", rootText(err))
	case errors.Is(err, acl.ErrExceeds), errors.Is(err, acl.ErrOwner):
		return api.Problemf(api.CodeForbidden, "%s", rootText(err))
	case errors.Is(err, acl.ErrLimits):
		return api.Problemf(api.CodeMalformed, "%s", rootText(err))
	}
	return err
}

// linkBases is how many addresses of the basestation go into a link: each makes its
// QR code larger, and a paired client is told all of them.
const linkBases = 2

// linkOf is the link of an invite of this device.
func (d *Daemon) linkOf(token pairing.Token) pairing.Link {
	l := pairing.Link{Kind: pairing.LinkInvite, Device: d.key.ID(), Token: token}
	if d.station == nil {
		return l
	}
	base := d.config().Basestation
	for _, text := range base.Keys {
		if k, err := attach.ParseRootKey(text); err == nil { // else the station would not have opened
			l.Base.Roots = append(l.Base.Roots, [32]byte(k))
		}
	}
	l.Base.Addresses = goodFirst(base.Addresses, d.station.link.Status().Address)
	l.Base.Addresses = l.Base.Addresses[:min(len(l.Base.Addresses), linkBases)]
	return l
}

func apiInvite(i acl.OpenInvite) api.Invite {
	limits := apiLimits(i.Limits)
	out := api.Invite{Name: i.Name, Role: i.Role, Myself: i.Myself, For: i.For, By: i.Maker, Since: i.Since, Refused: i.Void, Until: limits.Until, Hours: limits.Hours}
	if !i.End.IsZero() {
		out.Ends = &i.End
	}
	return out
}

func (d *Daemon) invites(w http.ResponseWriter, _ *http.Request, _ caller) error {
	return d.listInvites(w, func(acl.OpenInvite) bool { return true })
}

func (d *Daemon) ownInvites(w http.ResponseWriter, _ *http.Request, c caller) error {
	return d.listInvites(w, func(i acl.OpenInvite) bool { return c.paired && i.By == c.user.ID })
}

func (d *Daemon) listInvites(w http.ResponseWriter, which func(acl.OpenInvite) bool) error {
	list := api.Invites{Invites: []api.Invite{}}
	for _, i := range d.store.Invites() {
		if which(i) {
			list.Invites = append(list.Invites, apiInvite(i))
		}
	}
	api.WriteJSON(w, list)
	return nil
}

// uninvite withdraws an invite of anybody, but an owner's only for an owner.
func (d *Daemon) uninvite(w http.ResponseWriter, r *http.Request, c caller) error {
	return d.withdraw(w, r, c, acl.ActionUsers, func(i acl.OpenInvite) error {
		if maker, err := d.store.User(i.Maker); err == nil && i.By != c.user.ID {
			return d.mayChange(c, maker, nil)
		}
		return nil
	})
}

func (d *Daemon) uninviteOwn(w http.ResponseWriter, r *http.Request, c caller) error {
	return d.withdraw(w, r, c, acl.ActionMe, func(i acl.OpenInvite) error {
		if !c.paired || i.By != c.user.ID {
			return acl.ErrNoInvite
		}
		return nil
	})
}

func (d *Daemon) withdraw(w http.ResponseWriter, r *http.Request, c caller, action acl.Action, may func(acl.OpenInvite) error) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	if err := d.stillMay(c, action); err != nil {
		return err
	}
	name := r.PathValue("invite")
	open := d.store.Invites()
	at := slices.IndexFunc(open, func(i acl.OpenInvite) bool { return i.Name == name })
	if at < 0 {
		return inviteProblem(acl.ErrNoInvite)
	}
	if err := may(open[at]); err != nil {
		return inviteProblem(err)
	}
	if err := d.store.Uninvite(name, c.by()); err != nil {
		return inviteProblem(err)
	}
	d.log.Info("invite withdrawn", "invite", name, "by", c.name())
	api.WriteJSON(w, api.Uninvited{Name: name})
	return nil
}

// inviteBook is the access list as pairing sees it.
type inviteBook struct{ d *Daemon }

// Invite is part of pairing.InviteBook.
func (b inviteBook) Invite(n pairing.InviteName) (pairing.Verifier, bool) {
	i, good := b.d.store.GoodInvite(n.String())
	if !good || !b.d.byInvite() || len(i.Verifier) != len(pairing.Verifier{}) {
		return pairing.Verifier{}, false
	}
	return pairing.Verifier(i.Verifier), true
}

// Redeem is part of pairing.InviteBook.
func (b inviteBook) Redeem(_ context.Context, n pairing.InviteName, r pairing.Request) (pairing.Granted, error) {
	d := b.d
	i, good := d.store.GoodInvite(n.String())
	if !good {
		return pairing.Granted{}, pairing.ErrRefused
	}
	maker, _ := d.store.UserOf(i.Key)
	u, err := d.store.Redeem(i.Name, acl.Newcomer{Fingerprint: r.Fingerprint, User: r.User, KeyName: r.Name},
		acl.By{User: maker.Name, Fingerprint: i.Key, Via: pairing.ModeInvite, Source: r.Source.String()})
	if errors.Is(err, acl.ErrNoInvite) {
		return pairing.Granted{}, pairing.ErrRefused
	}
	if err != nil {
		d.log.Warn("pairing not entered", "peer", r.Fingerprint.Short(), "error", err)
		return pairing.Granted{}, err
	}
	d.log.Info("paired", "user", u.Name, "role", u.Role, "peer", r.Fingerprint.Short(), "from", r.Source, "invite", i.Name, "by", maker.Name)
	d.events.publish(api.Event{Kind: "user", What: "paired", User: u.Name, Detail: u.Role})
	d.panel.tell("Paired", u.Name, fmt.Sprintf("by %s", maker.Name))
	return pairing.Granted{User: u.Name, Role: u.Role}, nil
}

// inviteCheck lets who holds an invite be introduced. The pass is good for this
// client and this handshake only, so that admit has nothing to add but to remember
// who came by which.
var inviteCheck = askCheck{name: "invite", may: (*Daemon).mayAskByInvite, admit: (*Daemon).admitInvited, glance: (*Daemon).namesInvite}

// namesInvite tells whether a pass names an open invite. Whoever carries passes knows
// those names, but not strangers.
func (d *Daemon) namesInvite(in *attach.Introduction, _ identity.Fingerprint) bool {
	name, ok := pairing.PassName(in.Introduce.Pass)
	if ok {
		_, ok = inviteBook{d}.Invite(name)
	}
	return ok
}

func (d *Daemon) mayAskByInvite(in *attach.Introduction, peer identity.Fingerprint) (why string, ok bool) {
	name, ok := pairing.PassName(in.Introduce.Pass)
	if !ok {
		return "", false
	}
	verifier, open := inviteBook{d}.Invite(name)
	if !open || !verifier.CheckPass(in.Introduce.Pass, peer, in.Hash) {
		return "", false
	}
	return "invite " + name.String(), true
}

func (d *Daemon) admitInvited(in *attach.Introduction, peer identity.Fingerprint) error {
	name, _ := pairing.PassName(in.Introduce.Pass) // mayAskByInvite has read it
	d.invited.note(peer, name.String())
	return nil
}
