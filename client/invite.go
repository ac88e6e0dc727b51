package client

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/attach"
)

var (
	// ErrNotLink means that a text is no keyhole: link, or not the whole of one.
	ErrNotLink = pairing.ErrNotLink

	// ErrInvite means that the device does not take the invite. Why, it does not say.
	ErrInvite = errors.New("the device does not take this invite: it was used, was withdrawn, or has ended")
)

// IsLink tells whether a text means to be a keyhole: link.
func IsLink(s string) bool { return pairing.IsLink(s) }

// pairLink pairs by a link, which may have an address of the device behind it:
// LINK@HOST:PORT.
func (h *Home) pairLink(ctx context.Context, text string, o PairOptions) (Paired, error) {
	text, at, given := strings.Cut(text, "@")
	link, err := pairing.ParseLink(text)
	if err != nil {
		return Paired{}, err
	}
	t := Target{ID: link.Device}
	if given {
		if t.Address, err = parseAddress(withPort(at)); err != nil {
			return Paired{}, err
		}
	}
	switch link.Kind {
	case pairing.LinkInvite:
		return h.pairInvite(ctx, t, link, o)
	case pairing.LinkLabel:
		o.Code = func(context.Context, Wanted) (string, error) { return link.Label.Grouped(), nil }
	default:
		o.Code = func(context.Context, Wanted) (string, error) { return link.Code.Grouped(), nil }
	}
	o.codeOnly = true
	return h.pair(ctx, h.first(t), o)
}

// pairInvite reaches the device by any way there is, by its basestation with a pass
// that proves the invite, and proves it once more in the session. The link names the
// device, so nobody else is ever spoken to.
func (h *Home) pairInvite(ctx context.Context, t Target, link pairing.Link, o PairOptions) (Paired, error) {
	if err := o.complete(); err != nil {
		return Paired{}, err
	}
	c := h.first(t)
	if c.device.Basestation.IsZero() {
		c.device.Basestation = linkBase(link.Base)
	}
	c.prove = func(handshake [32]byte) ([]byte, error) {
		return link.Token.Pass(link.Device, h.key.Fingerprint(), handshake)
	}
	conn, err := h.dial(ctx, c, o.Dial)
	if err != nil {
		return Paired{}, err
	}
	defer conn.Close()
	if paired, err := h.again(ctx, conn, c); !errors.Is(err, ErrWindowClosed) {
		return paired, err
	}
	granted, err := conn.redeem(ctx, link.Token, o)
	if err != nil {
		return Paired{}, err
	}
	return h.enter(ctx, conn, c, granted.Device, granted.User, granted.Role, false)
}

// linkBase is the basestation that a link names, as far as it may be asked: whoever
// made the link must not send us to ports of this machine.
func linkBase(l pairing.LinkBase) (b Basestation) {
	for _, a := range l.Addresses {
		if usableBasestation(a, false) {
			b.Addresses = append(b.Addresses, a)
		}
	}
	for _, r := range l.Roots {
		b.Keys = append(b.Keys, attach.FormatRootKey(r[:]))
	}
	if b.check() != nil {
		return Basestation{}
	}
	return b
}

func (c *Conn) redeem(ctx context.Context, token pairing.Token, o PairOptions) (granted api.Paired, err error) {
	exporter, err := c.Exporter(pairing.ExporterLabel, nil, pairing.ExporterBytes)
	if err != nil {
		return granted, err
	}
	name, proof, err := pairing.ProveInvite(c.home.key.Fingerprint(), c.Peer(), exporter, token)
	if err != nil {
		return granted, err
	}
	err = c.Call(ctx, http.MethodPost, "/v1/pair/invite", api.InviteProof{
		Invite: name.String(), Proof: hex.EncodeToString(proof), Name: o.Name, User: o.User,
	}, &granted)
	if api.IsCode(err, api.CodeClosed) {
		return granted, ErrInvite
	}
	return granted, err
}

// Invite asks for an invite for somebody else.
func (c *Conn) Invite(ctx context.Context, r api.InviteRequest) (api.NewInvite, error) {
	var out api.NewInvite
	return out, c.Call(ctx, http.MethodPost, "/v1/invites", r, &out)
}

// InviteMyself asks for an invite for another device of one's own.
func (c *Conn) InviteMyself(ctx context.Context, r api.OwnInviteRequest) (api.NewInvite, error) {
	var out api.NewInvite
	return out, c.Call(ctx, http.MethodPost, "/v1/me/invites", r, &out)
}

// Invites lists the open invites: all of them for who manages users, else one's own.
func (c *Conn) Invites(ctx context.Context) ([]api.Invite, error) {
	list, err := get[api.Invites](ctx, c, "/v1/invites")
	if api.IsCode(err, api.CodeForbidden) {
		list, err = get[api.Invites](ctx, c, "/v1/me/invites")
	}
	return list.Invites, err
}

// Uninvite withdraws an invite: anybody's for who manages users, else one's own.
func (c *Conn) Uninvite(ctx context.Context, name string) error {
	err := c.Call(ctx, http.MethodDelete, "/v1/invites/"+url.PathEscape(name), nil, nil)
	if api.IsCode(err, api.CodeForbidden) {
		err = c.Call(ctx, http.MethodDelete, "/v1/me/invites/"+url.PathEscape(name), nil, nil)
	}
	return err
}
