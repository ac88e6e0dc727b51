package daemon

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// A snapshot is what must not change by a refused request.
func (d *device) snapshot(t testing.TB) string {
	t.Helper()
	epoch, sequence := d.store.Position()
	users := ""
	for _, u := range d.store.Users() {
		users += fmt.Sprintf("%s/%s/%d ", u.Name, u.Role, len(u.Keys))
	}
	return fmt.Sprintf("%d.%d %s open=%v tunnels=%d", epoch, sequence, users, d.Status().Pairing.Open, d.Status().Tunnels)
}

func TestBadBodies(t *testing.T) {
	d := startDevice(t, "")
	owner := d.owner(t)
	d.enter(t, "Bob", acl.RoleViewer)
	before := d.snapshot(t)
	big := `{"role":"` + strings.Repeat("x", api.MaxBodyBytes) + `"}`
	for _, path := range bothPaths {
		p := d.dial(t, owner.key, path)
		for _, target := range [][2]string{{"PATCH", "/v1/users/Bob"}, {"POST", "/v1/pair/button"}, {"POST", "/v1/pair/button/reveal"}, {"POST", "/v1/pair/code"}, {"POST", "/v1/pair/code/confirm"}} {
			for _, c := range []struct {
				media, body string
				code        api.Code
				names       string
			}{
				{"application/json", big, api.CodeTooLarge, "16384"},
				{"application/json", `{"colour":"red"}`, api.CodeMalformed, "colour"},
				{"application/json", `{"role":`, api.CodeMalformed, ""},
				{"application/json", ``, api.CodeMalformed, "empty"},
				{"application/json", `[]`, api.CodeMalformed, ""},
				{"application/json", `{} {}`, api.CodeMalformed, "more than one"},
				{"application/json", strings.Repeat(`{"a":`, 100), api.CodeMalformed, ""},
				{"application/json", strings.Repeat(`[`, 10_000), api.CodeMalformed, ""},
				{"application/json", "\xff\xfe", api.CodeMalformed, ""},
				{"text/plain", `{"role":"guest"}`, api.CodeMedia, "application/json"},
				{"", `{"role":"guest"}`, api.CodeMedia, "application/json"},
			} {
				r, err := http.NewRequest(target[0], "https://device"+target[1], strings.NewReader(c.body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", c.media)
				answer, err := p.RoundTrip(r)
				if err != nil {
					t.Fatalf("%s with %.40q: %v", target, c.body, err)
				}
				problem := api.ReadProblem(answer.StatusCode, answer.Header.Get("Content-Type"), answer.Body)
				_ = answer.Body.Close()
				if problem.Code() != c.code || !strings.Contains(problem.Detail, c.names) {
					t.Errorf("%s %s with %.40q: %v, want %s naming %q", path, target, c.body, problem, c.code, c.names)
				}
			}
		}
		wantCode(t, "a number for a role", p.tryCall("PATCH", "/v1/users/Bob", map[string]any{"role": 7}, nil), api.CodeMalformed)
		wantCode(t, "a page of letters", p.tryCall("GET", "/v1/audit?after=x", nil, nil), api.CodeMalformed)
		wantCode(t, "a page too long", p.tryCall("GET", "/v1/audit?limit=1001", nil, nil), api.CodeMalformed)
	}
	if after := d.snapshot(t); after != before {
		t.Errorf("bad bodies changed the state:\n%s\n%s", before, after)
	}
}

// rawTLS is a client that sends what it likes over HTTP/1.1.
func (d *device) rawTLS(t testing.TB, k *identity.Key) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", d.address(), identity.ClientTLS(k, identity.PinFingerprint(d.Fingerprint()), "http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil { // a hang fails
		t.Fatal(err)
	}
	return c
}

// status sends a raw request and returns the status of the answer, 0 for none.
func status(c net.Conn, request string) (int, []byte) {
	if _, err := io.WriteString(c, request); err != nil {
		return 0, nil
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, nil
	}
	if strings.HasPrefix(request, "CONNECT") && r.StatusCode == http.StatusOK {
		return r.StatusCode, nil // a tunnel has no end of its own
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	return r.StatusCode, body
}

func TestOddRequests(t *testing.T) {
	e := echo(t)
	d := startDevice(t, serviceTOML("echo", "tcp", e.address))
	owner := d.owner(t)
	before := d.snapshot(t)
	for _, c := range []struct {
		request string
		want    string // allowed statuses
	}{
		{"GET /v1/device HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", "431"},
		{"GET /v1/device HTTP/1.1\r\n\r\n", "400"},
		{"GET /v1/device HTTP/9.9\r\nHost: x\r\n\r\n", "505 400"},
		{"GET " + strings.Repeat("/a", 4000) + " HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		{"\x16\x03\x01\x00\x00 what is this\r\n\r\n", "400"},
		{"PATCH /v1/users/Alice HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}{}{}", "400"},
		{"CONNECT echo HTTP/1.1\r\nHost: echo\r\nContent-Length: 3\r\n\r\nabc", "400"},
		{"CONNECT echo/x HTTP/1.1\r\nHost: echo\r\n\r\n", "404 400"},
		{"CONNECT alice@echo HTTP/1.1\r\nHost: echo\r\n\r\n", "404 400"},
		{"CONNECT echo?x HTTP/1.1\r\nHost: echo\r\n\r\n", "404 400"},
		{"CONNECT echo#x HTTP/1.1\r\nHost: echo\r\n\r\n", "404 400"},
		{"CONNECT /echo HTTP/1.1\r\nHost: echo\r\n\r\n", "404 400"},
		{"CONNECT http://echo/ HTTP/1.1\r\nHost: echo\r\n\r\n", "404 400"},
		{"CONNECT  HTTP/1.1\r\nHost: echo\r\n\r\n", "404 400"},
		{"CONNECT e%63ho HTTP/1.1\r\nHost: echo\r\n\r\n", "404 400"},
		{"CONNECT ECHO HTTP/1.1\r\nHost: ECHO\r\n\r\n", "404"},
		{"CONNECT echo. HTTP/1.1\r\nHost: echo.\r\n\r\n", "404"},
		{"CONNECT echo:0 HTTP/1.1\r\nHost: echo:0\r\n\r\n", "404"},
		{"CONNECT echo:65536 HTTP/1.1\r\nHost: echo:65536\r\n\r\n", "404 400"},
		{"CONNECT " + e.address + " HTTP/1.1\r\nHost: echo\r\n\r\n", "404 400"},
		{"CONNECT " + e.address + " HTTP/1.1\r\nHost: " + e.address + "\r\n\r\n", "404"},
		{"CONNECT " + strings.Repeat("a", 10_000) + " HTTP/1.1\r\nHost: x\r\n\r\n", "404 400"},
	} {
		conn := d.rawTLS(t, owner.key)
		got, _ := status(conn, c.request)
		_ = conn.Close()
		if !slices.Contains(strings.Fields(c.want), fmt.Sprint(got)) {
			t.Errorf("%.60q: %d, want %s", c.request, got, c.want)
		}
	}
	if after := d.snapshot(t); after != before {
		t.Errorf("odd requests changed the state:\n%s\n%s", before, after)
	}
	var me api.Me
	owner.call("GET", "/v1/me", nil, &me)
	conn := d.rawTLS(t, owner.key)
	defer conn.Close()
	if got, _ := status(conn, "CONNECT echo:7 HTTP/1.1\r\nHost: echo:7\r\n\r\n"); got != http.StatusOK {
		t.Errorf("CONNECT echo:7: %d", got)
	}
}

// oddTarget makes up something that somebody might hope to be connected to.
func oddTarget(rng *rand.Rand, canary string) string {
	host, port, _ := net.SplitHostPort(canary)
	pieces := []string{
		host, port, canary, "localhost", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433", "127.1", "0", "cam", "CAM", "cam.", "%63am",
		"user@", "@", ":", ":" + port, ":0", ":99999", "/", "//", "?", "#", "..", "%2e", "%00", "\t", "é", "xn--", "http://", "unix:", "/run/x",
		"192.0.2.1", "[fe80::1%25lo]", "-", "_", " ", "\x7f", strings.Repeat("a", 300), "0.0.0.0", "[::]", "localhost.localdomain",
	}
	var out strings.Builder
	for range 1 + rng.IntN(4) {
		out.WriteString(pieces[rng.IntN(len(pieces))])
	}
	if out.String() == "cam"+":"+port || out.String() == "cam" {
		return canary // this one exists
	}
	return out.String()
}

// A canary beside the device must never see a connection. A target goes over the
// wire where that is quick, and else, as net/http reads it, to what decides.
func TestOddTargetsReachNothing(t *testing.T) {
	const trials = 10_000
	every := 20 // over HTTP/1.1, where most refusals cost a handshake
	if full() {
		every = 1
	}
	canary := listen(t, func(net.Conn) {})
	service := listen(t, func(net.Conn) {})
	d := startDevice(t, serviceTOML("cam", "rtsp", service.address))
	owner := d.owner(t)
	quic := d.dial(t, owner.key, session.PathQUIC)
	before := d.snapshot(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range trials {
		target := oddTarget(rng, canary.address)
		request := "CONNECT " + target + " HTTP/1.1\r\nHost: " + strings.Map(printable, target) + "\r\n\r\n"
		switch {
		case i%every == 0:
			d.wantRefusedRaw(t, owner.key, request)
		case i%5 == 1 && sendable(target):
			owner.wantRefused(target)
		case i%5 == 2 && sendable(target):
			quic.wantRefused(target)
		default:
			d.wantNotAdmitted(t, owner.key, request)
		}
	}
	if n := len(canary.conns); n != 0 {
		t.Errorf("the canary saw %d connections", n)
	}
	if n := len(service.conns); n != 0 {
		t.Errorf("the service saw %d connections of targets that do not name it", n)
	}
	if after := d.snapshot(t); after != before {
		t.Errorf("odd targets changed the state:\n%s\n%s", before, after)
	}
}

func (d *device) wantRefusedRaw(t *testing.T, k *identity.Key, request string) {
	t.Helper()
	conn := d.rawTLS(t, k)
	defer conn.Close()
	if got, _ := status(conn, request); got == http.StatusOK {
		t.Errorf("%q is answered with 200", request)
	}
}

func (p *peer) wantRefused(target string) {
	p.t.Helper()
	switch got := p.refusedRaw(target); got {
	case http.StatusNotFound, http.StatusForbidden, http.StatusBadRequest:
	default:
		p.t.Errorf("CONNECT %q over %s: %d", target, p.Path(), got)
	}
}

// wantNotAdmitted asks what decides about a CONNECT.
func (d *device) wantNotAdmitted(t *testing.T, k *identity.Key, request string) {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
	if err != nil {
		return // net/http answers 400
	}
	user, paired := d.store.UserOf(k.Fingerprint())
	c := caller{peer: k.Fingerprint(), principals: d.principalsOf(k.Fingerprint()), user: user, paired: paired}
	if s, problem := d.admit(authorityOf(r), c); problem == nil {
		t.Errorf("%q is admitted to %q", request, s.Name)
	}
}

// sendable says whether the HTTP/2 client puts a target on the wire at all.
func sendable(target string) bool {
	for _, c := range []byte(target) {
		if c <= ' ' || c >= 0x7f || c == '/' || c == '?' || c == '#' || c == '%' || c == '@' {
			return false
		}
	}
	return true
}

func printable(r rune) rune {
	if r <= ' ' || r >= 0x7f {
		return '.'
	}
	return r
}

// refusedRaw is the status of a CONNECT as Connect sends it, without Connect's
// own look at the name.
func (p *peer) refusedRaw(target string) int {
	p.t.Helper()
	s, err := p.Connect(context.Background(), target, false)
	if err == nil {
		_ = s.Close()
		return http.StatusOK
	}
	var no *session.ConnectError
	if errors.As(err, &no) {
		return no.Status
	}
	return http.StatusBadRequest // not sent: the client would not
}

// Whoever asks and does not finish holds a place for bodyTimeout and not longer:
// the place is an unpaired session's, and there are few.
func TestUnfinishedBodyEnds(t *testing.T) {
	t.Parallel() // it waits
	if bodyTimeout != 10*time.Second || answerTimeout != 60*time.Second || eventTimeout != 20*time.Second {
		t.Error("bodies have 10 s, answers 60 s, a reader of events 20 s for each")
	}
	d := startDevice(t, "")
	conn := d.rawTLS(t, newKey(t))
	defer conn.Close()
	begin := time.Now()
	got, body := status(conn, "POST /v1/pair/button HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	if got != http.StatusBadRequest && got != 0 {
		t.Errorf("%d %s", got, body)
	}
	if waited := time.Since(begin); waited < bodyTimeout/2 || waited > 4*bodyTimeout {
		t.Errorf("it took %v", waited)
	}
}

// FuzzDispatch sends raw HTTP/1.1 requests of a paired user to a real device.
func FuzzDispatch(f *testing.F) {
	canary := listen(f, func(net.Conn) {})
	d := startDevice(f, serviceTOML("cam", "tcp", closedPort(f)))
	key := d.enter(f, "Alice", acl.RoleOwner)
	guest := d.enter(f, "Gus", acl.RoleGuest)
	before := d.snapshot(f)
	for _, seed := range []string{
		"GET /v1/hello HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/users/%2e%2e HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT " + canary.address + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT cam:22 HTTP/1.1\r\nHost: cam:22\r\n\r\n",
		"PATCH /v1/users/Gus HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"role\":\"owner\"}",
		"DELETE /v1/users/Alice HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /v1/pair/button HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		conn := d.rawTLS(t, guest)
		defer conn.Close()
		if _, err := conn.Write(request); err != nil {
			return
		}
		_ = conn.CloseWrite()
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return
		}
		defer r.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		if r.StatusCode >= http.StatusInternalServerError && r.StatusCode != http.StatusHTTPVersionNotSupported && r.StatusCode != http.StatusNotImplemented {
			t.Errorf("%q: %d %s", request, r.StatusCode, body)
		}
		if bytes.Contains(body, []byte(key.Fingerprint().String())) {
			t.Errorf("%q: a guest learns of the owner: %s", request, body)
		}
		if after := d.snapshot(t); after != before || len(canary.conns) != 0 {
			t.Errorf("%q changed the state:\n%s\n%s", request, before, after)
		}
	})
}
