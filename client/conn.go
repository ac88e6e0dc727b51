package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
	"github.com/keyholed/keyhole/tunnel"
)

// A Conn is a session with a device. It is an http.RoundTripper for the device's
// API (scheme and host of a URL are ignored) and may be used by several
// goroutines. Close ends it.
type Conn struct {
	*session.Client
	home   *Home
	device Device
	trust  Trust
	log    *slog.Logger

	stands  winner // what the session stands on
	beside  besides
	closing sync.Once
}

// Device is what is known of the device: its entry in the address book, or just
// id, fingerprint and address.
func (c *Conn) Device() Device { return c.device }

// Trust says why the device's key was accepted.
func (c *Conn) Trust() Trust { return c.trust }

// Connect opens a tunnel to a service of the device, the way that suits its type
// when that is known ("" is not). A refusal is an *api.Problem. Ctx bounds the
// opening, not the stream.
func (c *Conn) Connect(ctx context.Context, service, typ string) (session.Stream, error) {
	t, known := tunnel.TypeOf(typ)
	stream, err := c.Client.Connect(ctx, service, !known || !t.Short)
	if err != nil {
		return nil, problemOf(err)
	}
	return stream, nil
}

// Hello asks what any stranger may: who the device is, and whether pairing is
// open to this client.
func (c *Conn) Hello(ctx context.Context) (api.Hello, error) {
	h, err := get[api.Hello](ctx, c, "/v1/hello")
	if err == nil && h.Protocol != api.Version {
		err = fmt.Errorf("the device speaks version %d of the protocol, this program version %d", h.Protocol, api.Version)
	}
	return h, err
}

// Description asks for the device's name, product and version.
func (c *Conn) Description(ctx context.Context) (api.Device, error) {
	return get[api.Device](ctx, c, "/v1/device")
}

// Services lists what the device offers.
func (c *Conn) Services(ctx context.Context) ([]api.Service, error) {
	list, err := get[api.Services](ctx, c, "/v1/services")
	return list.Services, err
}

// Me asks who this client is to the device. What the answer says of the device's
// basestation goes into the address book.
func (c *Conn) Me(ctx context.Context) (api.Me, error) {
	me, err := get[api.Me](ctx, c, "/v1/me")
	if err == nil {
		c.learn(me)
	}
	return me, err
}

// Users lists who may enter.
func (c *Conn) Users(ctx context.Context) ([]api.User, error) {
	list, err := get[api.Users](ctx, c, "/v1/users")
	return list.Users, err
}

// Sessions lists who is connected now, and what is open.
func (c *Conn) Sessions(ctx context.Context) (api.Sessions, error) {
	return get[api.Sessions](ctx, c, "/v1/sessions")
}

// Audit asks for the entries of the audit log behind number after, at most limit
// of them; 0 leaves that to the device.
func (c *Conn) Audit(ctx context.Context, after uint64, limit int) (api.Audit, error) {
	q := url.Values{"after": {strconv.FormatUint(after, 10)}}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return get[api.Audit](ctx, c, "/v1/audit?"+q.Encode())
}

// Revoke takes all rights from a user, or from one key named by its fingerprint.
func (c *Conn) Revoke(ctx context.Context, who string) (api.Revoked, error) {
	var out api.Revoked
	return out, c.Call(ctx, http.MethodDelete, "/v1/users/"+url.PathEscape(who), nil, &out)
}

// Everybody lists who may enter, and who stays out; the caller alone to who may not
// manage users.
func (c *Conn) Everybody(ctx context.Context) (api.Users, error) {
	return get[api.Users](ctx, c, "/v1/users")
}

// Limit says when a user may do anything; the zero Limits are always.
func (c *Conn) Limit(ctx context.Context, who string, limits api.Limits) (api.User, error) {
	var out api.User
	return out, c.Call(ctx, http.MethodPatch, "/v1/users/"+url.PathEscape(who), api.UserPatch{Limits: &limits}, &out)
}

// Rename gives a user another name.
func (c *Conn) Rename(ctx context.Context, who, name string) (api.User, error) {
	var out api.User
	return out, c.Call(ctx, http.MethodPatch, "/v1/users/"+url.PathEscape(who), api.UserPatch{Name: &name}, &out)
}

// Grant lets a user connect to one service, whatever the role says.
func (c *Conn) Grant(ctx context.Context, who, service string, limits api.Limits) (api.User, error) {
	var out api.User
	return out, c.Call(ctx, http.MethodPut, "/v1/users/"+url.PathEscape(who)+"/grants/"+url.PathEscape(service), limits, &out)
}

// RevokeGrant takes that back.
func (c *Conn) RevokeGrant(ctx context.Context, who, service string) (api.User, error) {
	var out api.User
	return out, c.Call(ctx, http.MethodDelete, "/v1/users/"+url.PathEscape(who)+"/grants/"+url.PathEscape(service), nil, &out)
}

// Unblock lets somebody in again who is no user of the list and was revoked.
func (c *Conn) Unblock(ctx context.Context, who string) error {
	return c.Call(ctx, http.MethodDelete, "/v1/blocked/"+url.PathEscape(who), nil, &api.Unblocked{})
}

// SetRole gives a user another role.
func (c *Conn) SetRole(ctx context.Context, who, role string) (api.User, error) {
	var out api.User
	return out, c.Call(ctx, http.MethodPatch, "/v1/users/"+url.PathEscape(who), api.UserPatch{Role: &role}, &out)
}

func get[T any](ctx context.Context, c *Conn, path string) (T, error) {
	var out T
	return out, c.Call(ctx, http.MethodGet, path, nil, &out)
}

// Call is one request: in as JSON unless it is nil, and the JSON answer into out
// unless that is nil. Whatever is no success is an *api.Problem.
func (c *Conn) Call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	response, err := c.Do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := Success(response); err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", method, path, err)
	case len(data) > maxAnswerBytes:
		return fmt.Errorf("%s %s: the answer is larger than %d bytes", method, path, maxAnswerBytes)
	case out == nil:
		return nil
	}
	// Fields that this version does not know are no error: devices are newer.
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s %s: the device's answer is not understood: %w", method, path, err)
	}
	return nil
}

// ErrBadPath means that a path does not begin with a slash or cannot be parsed.
var ErrBadPath = errors.New("not a path: it begins with a slash, such as /v1/device")

// Do sends a request to the device's API. A body is JSON. The caller closes the
// answer's body.
func (c *Conn) Do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	u, err := url.Parse(path)
	if err != nil || u.IsAbs() || u.Host != "" || len(path) == 0 || path[0] != '/' {
		return nil, ErrBadPath
	}
	u.Scheme, u.Host = "https", string(c.Peer().ID())+".local"
	r, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("User-Agent", "keyhole")
	return c.RoundTrip(r)
}

// Success returns nil for an answer of the 200s, else the device's *api.Problem.
func Success(r *http.Response) error {
	if r.StatusCode >= 200 && r.StatusCode < 300 {
		return nil
	}
	return api.ReadProblem(r.StatusCode, r.Header.Get("Content-Type"), r.Body)
}

// Fingerprint is the device's, as proven.
func (c *Conn) Fingerprint() identity.Fingerprint { return c.Peer() }

var _ http.RoundTripper = (*Conn)(nil)
