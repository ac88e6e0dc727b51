package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/basestation/memstore"
	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// desk is an API over a real registry, and tokens for it.
type desk struct {
	*testing.T
	*Server
	url         string
	store       *memstore.Store
	records     *registry.Registry
	read, write string
	ready       error
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{T: t, store: memstore.New()}
	t.Cleanup(func() { d.store.Close() })
	d.records = registry.New(registry.Config{Store: d.store, Node: "n1"})
	server, err := New(Config{
		Records: d.records, Events: d.store, Pattern: "event.>", Version: "v0",
		About: func() About {
			return About{Node: "n1", Keys: []string{"k"}, Addresses: []string{"192.0.2.7:7443"}, Enrol: "open"}
		},
		Ready: func(context.Context) error { return d.ready },
	})
	if err != nil {
		t.Fatal(err)
	}
	d.Server = server
	web := httptest.NewServer(server.Handler())
	t.Cleanup(func() { server.stop(); web.Close() })
	d.url = web.URL
	d.read, d.write = d.token(registry.Token{Scope: ScopeRead}), d.token(registry.Token{Scope: ScopeWrite})
	return d
}

func (d *desk) token(t registry.Token) string {
	d.Helper()
	text, err := d.records.CreateToken(d.Context(), t)
	if err != nil {
		d.Fatal(err)
	}
	return text
}

// ask sends one request and returns status and body.
func (d *desk) ask(token, method, path string, body any) (int, []byte) {
	d.Helper()
	var data []byte
	switch b := body.(type) {
	case nil:
	case string:
		data = []byte(b)
	default:
		var err error
		if data, err = json.Marshal(b); err != nil {
			d.Fatal(err)
		}
	}
	r, err := http.NewRequestWithContext(d.Context(), method, d.url+path, bytes.NewReader(data))
	if err != nil {
		d.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		d.Fatal(err)
	}
	defer answer.Body.Close()
	all, err := io.ReadAll(answer.Body)
	if err != nil {
		d.Fatal(err)
	}
	return answer.StatusCode, all
}

// must asks with every right and decodes the answer into out.
func (d *desk) must(method, path string, body, out any) {
	d.Helper()
	status, data := d.ask(d.write, method, path, body)
	if status != 200 {
		d.Fatalf("%s %s: %d %s", method, path, status, data)
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			d.Fatal(err)
		}
	}
}

// is checks status and code of a refusal.
func (d *desk) is(status int, data []byte, want int, code api.Code) {
	d.Helper()
	var p api.Problem
	if err := json.Unmarshal(data, &p); err != nil || status != want || p.Status != want || p.Code() != code {
		d.Errorf("got %d %s, want %d and %s", status, data, want, code)
	}
}

func key(t testing.TB) identity.Fingerprint {
	t.Helper()
	var f identity.Fingerprint
	for i := range f {
		f[i] = byte(rand.Uint32())
	}
	return f
}

func (d *desk) attached(f identity.Fingerprint) {
	d.Helper()
	d.presence(registry.Presence{Fingerprint: attach.Hash(f), State: registry.Attached, Node: "n1", Since: 1_800_000_000, Firmware: "1.2", Boots: 7})
}

func (d *desk) presence(p registry.Presence) {
	d.Helper()
	data, err := attach.Encode(p)
	if err == nil {
		_, err = d.store.Put(d.Context(), "presence/"+string(p.ID()), data)
	}
	if err != nil {
		d.Fatal(err)
	}
}

func TestDevices(t *testing.T) {
	d := newDesk(t)
	f, gone := key(t), key(t)
	d.attached(f)
	d.presence(registry.Presence{Fingerprint: attach.Hash(gone), State: registry.Gone, Node: "n2", Since: 1_800_000_000, Reason: attach.CloseSilent, TCP: true})
	var got Device
	d.must("GET", "/v1/devices/"+string(f.ID()), nil, &got)
	if got.State != "attached" || got.Fingerprint != f.String() || got.Firmware != "1.2" || got.Boots != 7 || got.Node != "n1" || got.Transport != "udp" || got.Added != nil {
		t.Errorf("attached: %+v", got)
	}
	d.must("GET", "/v1/devices/"+string(gone.ID()), nil, &got)
	if got.State != "gone" || got.Reason == "" || got.Transport != "tcp" || got.Since.Unix() != 1_800_000_000 {
		t.Errorf("gone: %+v", got)
	}

	added := key(t)
	d.must("POST", "/v1/devices", DeviceAdd{Fingerprint: added.String(), Note: "spare"}, &got)
	if got.ID != added.ID() || got.State != "registered" || got.Note != "spare" || time.Since(*got.Added) > time.Minute {
		t.Errorf("added: %+v", got)
	}
	if listed, err := d.records.Listed(t.Context(), added); err != nil || !listed {
		t.Errorf("added and not listed: %v", err)
	}

	d.must("PUT", "/v1/devices/"+string(f.ID())+"/block", BlockAdd{Reason: "stolen"}, nil)
	got = Device{}
	d.must("GET", "/v1/devices/"+string(f.ID()), nil, &got)
	if got.Blocked == nil || got.Blocked.Reason != "stolen" {
		t.Errorf("blocked: %+v", got)
	}
	d.must("DELETE", "/v1/devices/"+string(f.ID())+"/block", nil, nil)
	d.must("DELETE", "/v1/devices/"+string(f.ID()), nil, nil)
	status, data := d.ask(d.write, "GET", "/v1/devices/"+string(f.ID()), nil)
	d.is(status, data, 404, api.CodeNotFound)

	other := key(t)
	for body, want := range map[string]string{
		`{"id": "x"}`:          "id:",
		`{"fingerprint": "x"}`: "fingerprint:",
		`{"fingerprint": "` + f.String() + `", "id": "` + string(other.ID()) + `"}`:        "not of one key",
		`{"id": "` + string(other.ID()) + `", "note": "` + strings.Repeat("x", 257) + `"}`: "note: 257 bytes, at most 256",
		`{"id": "` + string(other.ID()) + `", "nte": ""}`:                                  `"nte"`,
		`{"id": 5}`: `"id"`,
		`[]`:        "",
		`{`:         "",
		`{} {}`:     "",
	} {
		status, data := d.ask(d.write, "POST", "/v1/devices", body)
		d.is(status, data, 400, api.CodeMalformed)
		if !strings.Contains(strings.ReplaceAll(string(data), `\"`, `"`), want) {
			t.Errorf("%s: %s does not name %q", body, data, want)
		}
	}
	status, data = d.ask(d.write, "POST", "/v1/devices", strings.Repeat(" ", api.MaxBodyBytes+1))
	d.is(status, data, 413, api.CodeTooLarge)
	if status, data = d.ask(d.write, "GET", "/v1/devices/"+string(other.ID()), nil); status != 404 {
		t.Errorf("a refused request changed something: %s", data)
	}
}

// Every device is on exactly one page, in order, whatever the size of the pages.
func TestPaging(t *testing.T) {
	d := newDesk(t)
	var want []string
	for i := range 300 {
		f := key(t)
		want = append(want, string(f.ID()))
		switch i % 3 {
		case 0:
			d.attached(f)
		case 1:
			d.must("POST", "/v1/devices", DeviceAdd{Fingerprint: f.String()}, nil)
		default:
			d.attached(f)
			d.must("POST", "/v1/devices", DeviceAdd{Fingerprint: f.String()}, nil)
		}
	}
	slices.Sort(want)
	for _, limit := range []int{1, 7, 100, 299, 300, 301, 5000} {
		var got []string
		for after := ""; ; {
			var page Devices
			d.must("GET", fmt.Sprintf("/v1/devices?limit=%d&after=%s", limit, after), nil, &page)
			if len(page.Devices) > limit {
				t.Fatalf("%d devices on a page of %d", len(page.Devices), limit)
			}
			for _, device := range page.Devices {
				got = append(got, string(device.ID))
			}
			if after = page.Next; after == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %d devices, want %d, in order", limit, len(got), len(want))
		}
	}
	for state, n := range map[string]int{"attached": 200, "gone": 0, "registered": 100} {
		var page Devices
		d.must("GET", "/v1/devices?state="+state, nil, &page)
		if len(page.Devices) != n {
			t.Errorf("%s: %d devices, want %d", state, len(page.Devices), n)
		}
	}
	for _, query := range []string{"limit=0", "limit=x", "limit=100001", "after=x", "state=x"} {
		status, data := d.ask(d.read, "GET", "/v1/devices?"+query, nil)
		d.is(status, data, 400, api.CodeMalformed)
	}
}

func TestSerials(t *testing.T) {
	d := newDesk(t)
	var made SerialSecret
	d.must("PUT", "/v1/serials/A%2F1", SerialPut{}, &made)
	if made.Serial != "A/1" || len(made.Secret) != 64 {
		t.Errorf("made %+v", made)
	}
	stored, known, err := d.records.Secret(t.Context(), "A/1")
	if err != nil || !known || fmt.Sprintf("%x", stored[:]) != made.Secret {
		t.Errorf("stored: %v %v", known, err)
	}
	given := strings.Repeat("ab", 32)
	status, data := d.ask(d.write, "PUT", "/v1/serials/A%2F1", SerialPut{Secret: given})
	d.is(status, data, 409, api.CodeConflict)
	if again, _, err := d.records.Secret(t.Context(), "A/1"); err != nil || again != stored {
		t.Errorf("a refused secret replaced the stored one: %v", err)
	}
	d.must("PUT", "/v1/serials/A%2F1", SerialPut{Secret: given, Replace: true}, &made)
	d.must("PUT", "/v1/serials/B", SerialPut{Secret: given}, &made)
	if made.Secret != given {
		t.Errorf("given %s, got %s", given, made.Secret)
	}
	f := key(t)
	if _, err := d.records.Bind(t.Context(), "B", f); err != nil {
		t.Fatal(err)
	}
	var got Serial
	d.must("GET", "/v1/serials/B", nil, &got)
	if got != (Serial{Serial: "B", Secret: true, Bound: f.ID()}) {
		t.Errorf("got %+v", got)
	}
	d.must("DELETE", "/v1/serials/B/binding", nil, nil)
	got = Serial{}
	d.must("GET", "/v1/serials/B", nil, &got)
	if got.Bound != "" {
		t.Errorf("reopened: %+v", got)
	}
	d.must("DELETE", "/v1/serials/B", nil, nil)
	status, data = d.ask(d.read, "GET", "/v1/serials/B", nil)
	d.is(status, data, 404, api.CodeNotFound)
	for _, path := range []string{"/v1/serials/" + strings.Repeat("x", 65), "/v1/serials/C", "/v1/serials/C%1b%5b31m"} {
		status, data := d.ask(d.write, "PUT", path, SerialPut{Secret: "x"})
		d.is(status, data, 400, api.CodeMalformed)
	}
}

func TestTokens(t *testing.T) {
	d := newDesk(t)
	var made TokenMade
	d.must("POST", "/v1/tokens", TokenAdd{Name: "ci", Scope: ScopeRead, Uses: 2, Seconds: 60}, &made)
	var all Tokens
	d.must("GET", "/v1/tokens", nil, &all)
	i := slices.IndexFunc(all.Tokens, func(t Token) bool { return t.ID == made.ID })
	if len(all.Tokens) != 3 || i < 0 || all.Tokens[i].Name != "ci" || all.Tokens[i].Uses != 2 || time.Until(*all.Tokens[i].Expires) > time.Minute {
		t.Fatalf("got %+v", all)
	}
	if data, err := json.Marshal(all); err != nil || strings.Contains(string(data), made.Token) {
		t.Error("a list shows what the bearer shows")
	}
	for i := range 3 {
		status, data := d.ask(made.Token, "GET", "/v1/basestation", nil)
		if i < 2 && status != 200 {
			t.Errorf("use %d: %d %s", i+1, status, data)
		} else if i == 2 {
			d.is(status, data, 401, api.CodeToken)
		}
	}
	expired := d.token(registry.Token{Scope: ScopeWrite, Expires: time.Now().Add(-time.Second)})
	status, data := d.ask(expired, "GET", "/v1/basestation", nil)
	d.is(status, data, 401, api.CodeToken)

	d.must("POST", "/v1/tokens", TokenAdd{Scope: ScopeWrite}, &made) // sweeps what has expired
	d.must("DELETE", "/v1/tokens/"+made.ID, nil, nil)
	status, data = d.ask(made.Token, "GET", "/v1/basestation", nil)
	d.is(status, data, 401, api.CodeToken)
	d.must("GET", "/v1/tokens", nil, &all)
	if len(all.Tokens) != 2 {
		t.Errorf("%d tokens are left, want 2: %+v", len(all.Tokens), all)
	}
	for _, in := range []TokenAdd{{}, {Scope: "root"}, {Scope: ScopeRead, Uses: -1}, {Scope: ScopeRead, Seconds: -1}, {Scope: ScopeRead, Name: strings.Repeat("x", 65)}} {
		status, data := d.ask(d.write, "POST", "/v1/tokens", in)
		d.is(status, data, 400, api.CodeMalformed)
	}
	status, data = d.ask(d.write, "DELETE", "/v1/tokens/x", nil)
	d.is(status, data, 404, api.CodeNotFound)
}

// No route answers who has no token, and none that changes something answers who
// may only read.
func TestEveryRouteAsksForAToken(t *testing.T) {
	d := newDesk(t)
	open := 0
	for _, r := range routes {
		path := strings.NewReplacer("{id}", string(key(t).ID()), "{serial}", "S").Replace(r.Path)
		if r.Action == "" {
			open++
			if status, data := d.ask("", r.Method, path, nil); status != 200 {
				t.Errorf("%s %s: %d %s", r.Method, r.Path, status, data)
			}
			continue
		}
		for _, token := range []string{"", "x", strings.Repeat("x", 4096), d.read[:len(d.read)-1]} {
			status, data := d.ask(token, r.Method, path, nil)
			d.is(status, data, 401, api.CodeToken)
		}
		if r.Action == ScopeWrite {
			status, data := d.ask(d.read, r.Method, path, nil)
			d.is(status, data, 403, api.CodeForbidden)
		}
		if r.Method != "GET" && r.Action != ScopeWrite {
			t.Errorf("%s %s changes something and asks for %q", r.Method, r.Path, r.Action)
		}
	}
	if open != 3 {
		t.Errorf("%d routes are open to everybody, want /healthz, /readyz and the document", open)
	}
	status, data := d.ask("", "PATCH", "/v1/devices", nil)
	d.is(status, data, 405, api.CodeMethod)
	status, data = d.ask("", "GET", "/nothing", nil)
	d.is(status, data, 404, api.CodeNotFound)
}

func TestReadiness(t *testing.T) {
	d := newDesk(t)
	d.ready = errors.New("waiting for the store at a secret place")
	status, data := d.ask("", "GET", "/readyz", nil)
	d.is(status, data, 503, api.CodeUnavailable)
	if strings.Contains(string(data), "secret") {
		t.Errorf("a stranger is told %s", data)
	}
	if status, _ := d.ask("", "GET", "/healthz", nil); status != 200 {
		t.Errorf("a process that waits is not dead: %d", status)
	}
}

func TestBusyIsToldAtOnce(t *testing.T) {
	d := newDesk(t)
	for range maxAtOnce {
		d.slots <- struct{}{}
	}
	status, data := d.ask(d.read, "GET", "/v1/basestation", nil)
	d.is(status, data, 429, api.CodeLimit)
}

func TestStoreThatDoesNotAnswer(t *testing.T) {
	d := newDesk(t)
	d.store.Close()
	status, data := d.ask(d.read, "GET", "/v1/devices", nil)
	d.is(status, data, 503, api.CodeUnavailable)
}

func TestPageAgainstSorting(t *testing.T) {
	for range 200 {
		var all []identity.ID
		for range rand.IntN(60) {
			all = append(all, identity.ID(string(rune('a'+rand.IntN(26)))+string(rune('a'+rand.IntN(3)))))
		}
		p := page{most: 1 + rand.IntN(10)}
		if rand.IntN(2) == 0 {
			p.after = "m"
		}
		want := slices.Clone(all)
		slices.Sort(want)
		want = slices.DeleteFunc(slices.Compact(want), func(id identity.ID) bool { return id <= p.after })
		more := len(want) > p.most
		want = want[:min(len(want), p.most)]
		for _, id := range all {
			p.add(id)
		}
		if got := p.whole(); !slices.Equal(got, want) || p.more != more {
			t.Fatalf("%v after %q, %d a page: got %v, %v; want %v, %v", all, p.after, p.most, got, p.more, want, more)
		}
	}
}

// Whatever wants a token says that it may be refused for it, and for a store that
// does not answer.
func TestDocumentSaysWhatRefuses(t *testing.T) {
	data, err := describe("test")
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Paths map[string]map[string]struct {
			Security  []any
			Responses map[string]any
		}
	}
	if err := json.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	guarded := 0
	for path, operations := range document.Paths {
		for method, o := range operations {
			if o.Security == nil {
				continue
			}
			guarded++
			for _, status := range []string{"401", "403", "429", "500", "503"} {
				if o.Responses[status] == nil {
					t.Errorf("%s %s says nothing of status %s", method, path, status)
				}
			}
		}
	}
	if guarded < 10 {
		t.Errorf("%d operations want a token", guarded)
	}
}
