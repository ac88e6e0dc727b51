package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"syscall"
	"testing"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

var bothPaths = []session.Path{session.PathTCP, session.PathQUIC}

// Whatever a stranger asks for, there or not, the answer is the same to the byte.
func TestStrangersLearnNothing(t *testing.T) {
	d := startDevice(t, simulated+serviceTOML("cam", "rtsp", "127.0.0.1:1"))
	owner := d.owner(t)
	for _, path := range bothPaths {
		p := d.dial(t, newKey(t), path)
		var hello api.Hello
		p.call("GET", "/v1/hello", nil, &hello)
		if hello.ID != d.ID() || hello.Pairing.Open {
			t.Errorf("%s: hello: %+v", path, hello)
		}
		requests := [][2]string{
			{"GET", "/v1/nothing"}, {"GET", "/"}, {"GET", "/v1"}, {"GET", "/v1/hello/"}, {"HEAD", "/v1/device"}, {"DELETE", "/v1/hello"},
			{"GET", "/v1//device"}, {"GET", "/v1/../v1/device"}, {"GET", "/v1/users/Alice"}, {"GET", "/v1/users/Nobody"},
			{"GET", "/v1/users/" + owner.key.Fingerprint().String()}, {"DELETE", "/v1/users/Alice"}, {"PATCH", "/v1/users/Alice"},
			{"OPTIONS", "/v1/users"}, {"GET", "/v1/audit?after=x"}, {"GET", "/debug/pprof/"},
		}
		for _, r := range d.routes {
			if r.Action != public {
				requests = append(requests, [2]string{r.Method, r.Path})
			}
		}
		for _, r := range requests {
			p.wantStranger(r[0], r[1])
		}
		for _, service := range []string{"cam", "cam:554", "none", "127.0.0.1:22", "x"} {
			p.wantStrangerConnect(service)
		}
	}
	if n := d.Status().Users; n != 1 {
		t.Errorf("%d users after that", n)
	}
}

const strangerBody = `{"type":"keyhole:problem/forbidden","title":`

func (p *peer) wantStranger(method, path string) {
	p.t.Helper()
	r, body := p.ask(method, path, nil)
	if r.StatusCode != http.StatusForbidden || r.Header.Get("Content-Type") != api.ProblemMediaType {
		p.t.Errorf("%s %s: %d %s", method, path, r.StatusCode, r.Header.Get("Content-Type"))
	}
	_, first := p.ask("GET", "/v1/device", nil)
	if method == "HEAD" {
		return
	}
	if !bytes.Equal(body, first) || !bytes.HasPrefix(body, []byte(strangerBody)) {
		p.t.Errorf("%s %s: %q, elsewhere %q", method, path, body, first)
	}
	if r.Header.Get("Allow") != "" {
		p.t.Errorf("%s %s: a stranger learns Allow: %s", method, path, r.Header.Get("Allow"))
	}
}

func (p *peer) wantStrangerConnect(service string) {
	p.t.Helper()
	_, first := p.ask("GET", "/v1/device", nil)
	_, err := p.Connect(context.Background(), service, false)
	var refused *session.ConnectError
	if !errors.As(err, &refused) || refused.Status != http.StatusForbidden || !bytes.Equal(refused.Body, first) {
		p.t.Errorf("CONNECT %s: %v, want 403 with %q", service, err, first)
	}
}

// Roles reach what they may and nothing else; a user is told why.
func TestRolesAtTheRoutes(t *testing.T) {
	d := startDevice(t, "")
	d.owner(t)
	everybody := []string{"/v1/hello", "/v1/device", "/v1/services", "/v1/me", "/v1/users", "/v1/me/invites", "/v1/sessions", "/v1/openapi.json", "/v1/support"}
	for role, more := range map[string][]string{
		acl.RoleViewer:  nil,
		acl.RoleGuest:   nil,
		acl.RoleAdmin:   {"/v1/users/Alice", "/v1/roles", "/v1/audit", "/v1/settings", "/v1/invites"},
		acl.RoleSupport: {"/v1/audit"},
	} {
		p := d.member(t, "the "+role, role, session.PathTCP)
		for _, r := range d.routes {
			if r.Method != "GET" || r.Stream != "" {
				continue
			}
			path := r.Path
			if path == "/v1/users/{user}" {
				path = "/v1/users/Alice"
			}
			err := p.tryCall("GET", path, nil, nil)
			if may := slices.Contains(everybody, path) || slices.Contains(more, path); may != (err == nil) {
				t.Errorf("%s GET %s: %v", role, path, err)
			} else if !may {
				wantCode(t, role+" GET "+path, err, api.CodeForbidden)
				contains(t, "the reason", err.Error(), role)
			}
		}
	}
}

func TestAdminsDoNotTouchOwners(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	admin := d.member(t, "Adam", acl.RoleAdmin, session.PathTCP)
	bob := d.member(t, "Bob", acl.RoleViewer, session.PathTCP)
	patch := func(p *peer, who, field, value string) error {
		return p.tryCall("PATCH", "/v1/users/"+who, map[string]string{field: value}, nil)
	}
	wantCode(t, "an admin demotes the owner", patch(admin, "Alice", "role", "viewer"), api.CodeForbidden)
	wantCode(t, "an admin renames the owner", patch(admin, "Alice", "name", "Al"), api.CodeForbidden)
	wantCode(t, "an admin makes an owner", patch(admin, "Adam", "role", "owner"), api.CodeForbidden)
	wantCode(t, "an admin revokes the owner", admin.tryCall("DELETE", "/v1/users/Alice", nil, nil), api.CodeForbidden)
	wantCode(t, "by her key", admin.tryCall("DELETE", "/v1/users/"+owner.key.Fingerprint().Short(), nil, nil), api.CodeForbidden)
	wantCode(t, "a viewer renames the owner", patch(bob, "Alice", "name", "Al"), api.CodeForbidden)
	wantCode(t, "the last owner leaves", owner.tryCall("DELETE", "/v1/users/Alice", nil, nil), api.CodeConflict)
	wantCode(t, "the last owner steps down", patch(owner, "Alice", "role", "admin"), api.CodeConflict)
	wantCode(t, "an unknown role", patch(owner, "Bob", "role", "king"), api.CodeMalformed)
	wantCode(t, "a taken name", patch(owner, "Bob", "name", "adam"), api.CodeNameTaken)
	wantCode(t, "a bad name", patch(owner, "Bob", "name", "a\u202eb"), api.CodeMalformed)
	wantCode(t, "nobody", patch(owner, "Nobody", "role", "viewer"), api.CodeNotFound)
	wantCode(t, "nothing", owner.tryCall("PATCH", "/v1/users/Bob", map[string]string{}, nil), api.CodeMalformed)
	wantCode(t, "both", owner.tryCall("PATCH", "/v1/users/Bob", map[string]string{"role": "guest", "name": "B"}, nil), api.CodeMalformed)

	var u api.User
	admin.call("PATCH", "/v1/users/Bob", map[string]string{"name": "Bob / 100%25 ok"}, &u)
	if u.Name != "Bob / 100%25 ok" || u.Role != "viewer" {
		t.Errorf("renamed: %+v", u)
	}
	// A name is one part of the path, unescaped once.
	owner.call("GET", "/v1/users/Bob%20%2F%20100%2525%20ok", nil, &u)
	owner.call("PATCH", "/v1/users/Bob%20%2F%20100%2525%20ok", map[string]string{"role": "guest"}, &u)
	if u.Role != "guest" {
		t.Errorf("patched: %+v", u)
	}
	wantCode(t, "another name", owner.tryCall("GET", "/v1/users/Bob%20/%20100%2525%20ok", nil, nil), api.CodeNotFound)
}

// What would have hit the wrong person when a path was unescaped twice, or split
// after unescaping.
func TestPathsNameOneUser(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	for _, name := range []string{"a", "a/b", "aA", "a%41", ".."} {
		d.enter(t, name, acl.RoleGuest)
	}
	for escaped, want := range map[string]string{"a%2Fb": "a/b", "a%2541": "a%41", "..": "..", "aA": "aA", "a": "a"} {
		var gone api.Revoked
		owner.call("DELETE", "/v1/users/"+escaped, nil, &gone)
		if gone.User != want {
			t.Errorf("DELETE %s revoked %q, want %q", escaped, gone.User, want)
		}
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	byPath := map[string][]string{}
	for _, r := range d.routes {
		byPath[r.Path] = append(byPath[r.Path], r.Method)
	}
	for path, methods := range byPath {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
			if slices.Contains(methods, method) {
				continue
			}
			r, _ := owner.ask(method, path, nil)
			slices.Sort(methods)
			if allow := r.Header.Get("Allow"); r.StatusCode != http.StatusMethodNotAllowed || allow != join(methods) {
				t.Errorf("%s %s: %d, Allow %q, want 405, %q", method, path, r.StatusCode, allow, join(methods))
			}
		}
	}
	for _, path := range []string{"/", "/v1", "/v1/", "/v1/device/", "/v1//device", "/v1/./device", "/V1/device", "/v1/users/", "/v1/users/a/b", "/v2/device", "/v1/%64evice"} {
		wantCode(t, path, owner.tryCall("GET", path, nil, nil), api.CodeNotFound)
	}
}

func join(words []string) string {
	out := ""
	for i, w := range words {
		if i > 0 {
			out += ", "
		}
		out += w
	}
	return out
}

// The document is made from the table and says what the device does.
func TestOpenAPIDescribesTheRoutes(t *testing.T) {
	d := startDevice(t, serviceTOML("cam", "rtsp", "127.0.0.1:1"))
	owner := d.owner(t)
	d.enter(t, "Bob", acl.RoleViewer)
	type operation struct {
		Action    string         `json:"x-keyhole-action"`
		Responses map[string]any `json:"responses"`
	}
	var document struct {
		OpenAPI string
		Paths   map[string]map[string]operation
	}
	r, data := owner.ask("GET", "/v1/openapi.json", nil)
	if r.StatusCode != http.StatusOK {
		t.Fatalf("openapi.json: %d", r.StatusCode)
	}
	decodeLoose(t, data, &document)
	described := 0
	for path, methods := range document.Paths {
		described += len(methods)
		for method := range methods {
			if !slices.ContainsFunc(d.routes, func(r route) bool { return r.Path == path && lower(r.Method) == method }) {
				t.Errorf("the document has %s %s, the device has not", method, path)
			}
		}
	}
	if described != len(d.routes) {
		t.Errorf("%d operations are described, there are %d", described, len(d.routes))
	}
	for _, r := range d.routes {
		op, ok := document.Paths[r.Path][lower(r.Method)]
		if !ok || op.Action != r.Action || op.Responses["200"] == nil {
			t.Errorf("%s %s: %+v", r.Method, r.Path, op)
		}
		if r.Action != public && !slices.Contains(acl.Actions, acl.Action(r.Action)) {
			t.Errorf("%s %s needs %q, which the access list does not know", r.Method, r.Path, r.Action)
		}
	}
	everyAnswer(t, d, owner)
}

// everyAnswer decodes a real answer of each operation into its documented type,
// strictly.
func everyAnswer(t *testing.T, d *device, owner *peer) {
	bodies := map[string]any{"PATCH /v1/users/{user}": map[string]string{"role": "guest"}}
	elsewhere := []string{"/v1/pair/button", "/v1/pair/button/reveal", "/v1/pair/code", "/v1/pair/code/confirm", "/v1/events", "/v1/reset", "/v1/settings", "/v1/openapi.json",
		"/v1/pair/invite", "/v1/pair/label", "/v1/pair/label/confirm", "/v1/invites", "/v1/invites/{invite}", "/v1/me/invites", "/v1/me/invites/{invite}",
		"/v1/support", "/v1/support/confirm", "/v1/support/control",
		"/v1/users/{user}/keys", "/v1/users/{user}/grants/{service}", "/v1/blocked/{who}", "/v1/sessions/{number}"} // people_test.go, pair_test.go, pair_code_test.go, invites_test.go, label_test.go, events_test.go, reset_test.go, central_test.go, above
	for _, r := range d.routes {
		if slices.Contains(elsewhere, r.Path) {
			continue
		}
		path := r.Path
		if path == "/v1/users/{user}" {
			path = "/v1/users/Bob"
		}
		out := newOf(r.Answer)
		if err := owner.tryCall(r.Method, path, bodies[r.Method+" "+r.Path], out); err != nil {
			t.Errorf("%s %s: %v", r.Method, path, err)
		}
	}
	for _, code := range []api.Code{api.CodeClosed, api.CodeAborted, api.CodeTimeout, api.CodeBusy} {
		if !slices.Contains(mapped(), code) {
			t.Errorf("no refusal of pairing is told as %s", code)
		}
	}
}

func mapped() []api.Code {
	var out []api.Code
	for _, code := range pairingCodes {
		out = append(out, code)
	}
	return out
}

// Each refusal of the window has a code of the interface.
func TestPairingCodesAreComplete(t *testing.T) {
	for _, code := range []pairing.Code{
		pairing.CodeRefused, pairing.CodeBusy, pairing.CodeOverlap, pairing.CodeTries, pairing.CodeTimeout, pairing.CodeClosed, pairing.CodeReplaced, pairing.CodeProof,
	} {
		if pairingCodes[code] == "" {
			t.Errorf("%s has no code", code)
		}
	}
}

func TestEveryErrorHasAnAnswer(t *testing.T) {
	d := startDevice(t, "")
	for err, want := range map[error]api.Code{
		&acl.NameTakenError{Name: "a", Suggestion: "b"}: api.CodeNameTaken,
		acl.ErrNoUser:                      api.CodeNotFound,
		acl.ErrLastOwner:                   api.CodeConflict,
		acl.ErrFull:                        api.CodeConflict,
		acl.ErrRole:                        api.CodeMalformed,
		&acl.ReadOnlyError{Cause: errTest}: api.CodeUnavailable,
		acl.ErrBroken:                      api.CodeUnavailable,
		syscall.ENOSPC:                     api.CodeUnavailable,
		session.ErrNotTunnel:               api.CodeMalformed,
		errTest:                            api.CodeInternal,
	} {
		p := d.problemOf(fmt.Errorf("wrapped: %w", err))
		if p.Code() != want {
			t.Errorf("%v becomes %s, want %s", err, p.Code(), want)
		}
		if bytes.Contains([]byte(p.Detail), []byte("secret path")) {
			t.Errorf("%v tells %q", err, p.Detail)
		}
	}
}

var errTest = errors.New("open /secret path: disk on fire")
