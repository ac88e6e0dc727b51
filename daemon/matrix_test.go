package daemon

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// Who may ask for what, as it is meant and not as it is written: a route that is not
// here fails the test. "own" is whoever is on the list, about himself; the rows are
// asked about somebody else.
const (
	anybody   = "owner admin viewer guest support steward reader"
	managers  = "owner admin steward"
	elsewhere = "?" // decided by who one is and not by a role alone: its own tests
)

var matrix = map[string]string{
	"GET /v1/device": anybody, "GET /v1/services": anybody, "GET /v1/me": anybody, "GET /v1/openapi.json": anybody,
	"GET /v1/users": anybody, "GET /v1/users/{user}": managers, "PATCH /v1/users/{user}": managers, "DELETE /v1/users/{user}": managers,
	"POST /v1/users/{user}/keys":            managers, // and then only the own ones
	"PUT /v1/users/{user}/grants/{service}": managers, "DELETE /v1/users/{user}/grants/{service}": managers,
	"DELETE /v1/blocked/{who}": managers, "GET /v1/roles": managers,
	"GET /v1/invites": managers, "POST /v1/invites": managers, "DELETE /v1/invites/{invite}": managers,
	"GET /v1/me/invites": anybody, "POST /v1/me/invites": anybody, "DELETE /v1/me/invites/{invite}": anybody,
	"GET /v1/sessions": anybody, "DELETE /v1/sessions/{number}": elsewhere,
	"GET /v1/audit": "owner admin support reader", "GET /v1/events": "owner admin support",
	"GET /v1/settings": "owner admin", "PATCH /v1/settings": "owner admin",
	"POST /v1/reset":  "owner",
	"GET /v1/support": anybody, "POST /v1/support/control": elsewhere, "DELETE /v1/support": elsewhere,
}

// TestMatrix asks every route in every role, built in and the vendor's, as users and
// as guests, and as a stranger, over the real API.
func TestMatrix(t *testing.T) {
	d := startDevice(t, roleTOML("steward", `"users"`, "")+roleTOML("reader", `"audit"`, ""))
	d.owner(t)
	type one struct {
		what, role string
		*peer
	}
	var all []one
	for _, role := range strings.Fields(anybody) {
		key := d.enter(t, "the "+role, map[bool]string{true: acl.RoleViewer, false: role}[role == acl.RoleOwner])
		if role == acl.RoleOwner {
			if _, err := d.store.SetRole("the owner", role, acl.By{}); err != nil {
				t.Fatal(err)
			}
			all = append(all, one{role, role, d.dial(t, key, session.PathTCP)})
			continue
		}
		all = append(all, one{role, role, d.dial(t, key, session.PathTCP)})
		if role == acl.RoleSupport {
			continue
		}
		visitor := newKey(t)
		mustEnter(t, d.guests, guestOfKey(visitor.Fingerprint(), acl.KindCentral, "the "+role, role))
		all = append(all, one{role + " as a guest", role, d.dial(t, visitor, session.PathTCP)})
	}
	pretender := newKey(t)
	mustEnter(t, d.guests, guestOfKey(pretender.Fingerprint(), acl.KindAuthority, "boss", acl.RoleOwner, "unheard-of"))
	all = append(all, one{"a guest who says owner", "none", d.dial(t, pretender, session.PathTCP)}, one{"a stranger", "none", d.dial(t, newKey(t), session.PathTCP)})
	tried := 0
	for _, r := range d.routes {
		name := r.Method + " " + r.Path
		may, meant := matrix[name]
		switch {
		case r.Action == public || may == elsewhere:
			continue
		case !meant:
			t.Errorf("%s is in no row: who may ask for it?", name)
			continue
		}
		for _, who := range all {
			tried++
			want := slices.Contains(strings.Fields(may), who.role)
			if name == "GET /v1/users" && strings.Contains(who.what, "guest") && who.what != acl.RoleGuest {
				want = slices.Contains(strings.Fields(managers), who.role) // a guest has no entry of his own
			}
			if name == "DELETE /v1/blocked/{who}" && strings.HasSuffix(who.what, "as a guest") {
				want = false // guests do not decide about each other
			}
			if got := who.status(t, r.Method, r.Path) != http.StatusForbidden; got != want {
				t.Errorf("%s as %s: let through: %v, want %v", name, who.what, got, want)
			}
		}
	}
	if tried < len(matrix)*len(all)/2 {
		t.Errorf("only %d tried", tried)
	}
	if u, err := d.store.User("the guest"); err != nil || u.Role != acl.RoleGuest {
		t.Errorf("the guest is %+v, %v", u, err)
	}
}

// status asks for a route about nobody, with a body that orders nothing.
func (p *peer) status(t *testing.T, method, path string) int {
	t.Helper()
	path = strings.NewReplacer("{user}", "Nobody", "{service}", "none", "{who}", "central:none", "{invite}", "none", "{number}", "0").Replace(path)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel() // ends the stream of events
	var body *strings.Reader
	if method != "GET" && method != "DELETE" {
		body = strings.NewReader(`{"nonsense":1}`)
		switch {
		case method == "PATCH" && strings.HasPrefix(path, "/v1/users"):
			body = strings.NewReader(`{"name":"Somebody"}`)
		case strings.HasSuffix(path, "/keys"):
			body = strings.NewReader(`{"fingerprint":"` + strings.Repeat("ab", 32) + `","name":""}`)
		}
	} else {
		body = strings.NewReader("")
	}
	r, err := http.NewRequestWithContext(ctx, method, "https://device"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if body.Len() == 0 {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	answer, err := p.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode == http.StatusForbidden && answer.Header.Get("Content-Type") != api.ProblemMediaType {
		t.Errorf("%s %s: refused with %s", method, path, answer.Header.Get("Content-Type"))
	}
	return answer.StatusCode
}
