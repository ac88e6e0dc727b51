package sim_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/hal/sim"
)

const token = "a-token-of-the-test"

// faced is a board with its face on a real loopback port.
type faced struct {
	*sim.Board
	address string // 127.0.0.1:port
	port    string
	client  *http.Client
}

func serveFace(t *testing.T) *faced {
	t.Helper()
	l, err := sim.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &faced{Board: sim.New(sim.Options{}), address: l.Addr().String(), client: &http.Client{Transport: &http.Transport{}}}
	_, f.port, _ = net.SplitHostPort(f.address)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- sim.NewFace(f.Board, sim.FaceOptions{Title: "Front door", Token: token}).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		f.client.CloseIdleConnections()
		if err := f.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return f
}

func (f *faced) do(t *testing.T, method, path, body string, change func(*http.Request)) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+f.address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Keyhole-Token", token)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Origin", "http://"+f.address)
	}
	if change != nil {
		change(r)
	}
	answer, err := f.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	return answer
}

// page is an open stream, as a browser's tab holds one.
type page struct {
	id     string
	events *bufio.Scanner
	close  func() error
}

func (f *faced) open(t *testing.T) *page {
	t.Helper()
	answer := f.do(t, "GET", "/events", "", nil)
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("events: %s", answer.Status)
	}
	p := &page{events: bufio.NewScanner(answer.Body), close: answer.Body.Close}
	var hello struct{ Stream string }
	if err := json.Unmarshal([]byte(p.next(t, "hello")), &hello); err != nil || hello.Stream == "" {
		t.Fatalf("hello: %v %+v", err, hello)
	}
	p.id = hello.Stream
	return p
}

// next returns the data of the next event of a kind.
func (p *page) next(t *testing.T, kind string) string {
	t.Helper()
	found := false
	for p.events.Scan() {
		line := p.events.Text()
		if found {
			return strings.TrimPrefix(line, "data: ")
		}
		found = line == "event: "+kind
	}
	t.Fatalf("stream ended before %q: %v", kind, p.events.Err())
	return ""
}

type look struct {
	Bits    []byte
	Words   []string
	Pattern string
	Lit     bool
	Down    []string
}

// until reads looks until one fits.
func (p *page) until(t *testing.T, fits func(look) bool) look {
	t.Helper()
	for {
		var l look
		if err := json.Unmarshal([]byte(p.next(t, "look")), &l); err != nil {
			t.Fatal(err)
		}
		if fits(l) {
			return l
		}
	}
}

func edgeBody(stream, button string, down bool) string {
	body, _ := json.Marshal(map[string]any{"stream": stream, "button": button, "down": down})
	return string(body)
}

// untilDown waits until exactly these buttons are held.
func (f *faced) untilDown(t *testing.T, want ...string) {
	t.Helper()
	changed, stop := f.Changed()
	defer stop()
	for !slices.Equal(f.State().Down, want) {
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatalf("down = %v, want %v", f.State().Down, want)
		}
	}
}

func TestFaceRefusals(t *testing.T) {
	f := serveFace(t)
	p := f.open(t)
	header := func(key, value string) func(*http.Request) {
		return func(r *http.Request) {
			if value == "" {
				r.Header.Del(key)
			} else {
				r.Header.Set(key, value)
			}
		}
	}
	host := func(host string) func(*http.Request) { return func(r *http.Request) { r.Host = host } }
	press := edgeBody(p.id, "pair", true)
	for _, c := range []struct {
		name, method, path, body string
		change                   func(*http.Request)
		want                     int
	}{
		{"foreign host, page", "GET", "/", "", host("rebind.example.net:" + f.port), 403},
		{"foreign host, stream", "GET", "/events", "", host("rebind.example.net:" + f.port), 403},
		{"foreign host, edge", "POST", "/edge", press, host("rebind.example.net:" + f.port), 403},
		{"address of another machine", "GET", "/", "", host("192.0.2.1:" + f.port), 403},
		{"name below localhost", "GET", "/", "", host("x.localhost:" + f.port), 403},
		{"another port", "GET", "/", "", host("127.0.0.1:1"), 403},
		{"no port", "GET", "/", "", host("127.0.0.1"), 403},
		{"foreign origin, edge", "POST", "/edge", press, header("Origin", "http://example.net"), 403},
		{"opaque origin, edge", "POST", "/edge", press, header("Origin", "null"), 403},
		{"https origin", "POST", "/edge", press, header("Origin", "https://"+f.address), 403},
		{"origin of another local port", "POST", "/edge", press, header("Origin", "http://127.0.0.1:1"), 403},
		{"foreign origin, stream", "GET", "/events", "", header("Origin", "http://example.net"), 403},
		{"cross-site edge", "POST", "/edge", press, header("Sec-Fetch-Site", "cross-site"), 403},
		{"same-site edge", "POST", "/edge", press, header("Sec-Fetch-Site", "same-site"), 403},
		{"edge of no page", "POST", "/edge", press, header("Sec-Fetch-Site", "none"), 403},
		{"cross-site stream", "GET", "/events", "", header("Sec-Fetch-Site", "cross-site"), 403},
		{"cross-site script", "GET", "/face.js", "", header("Sec-Fetch-Site", "cross-site"), 403},
		{"unknown kind of site", "GET", "/", "", header("Sec-Fetch-Site", "odd"), 403},
		{"no token, edge", "POST", "/edge", press, header("Keyhole-Token", ""), 401},
		{"wrong token, edge", "POST", "/edge", press, header("Keyhole-Token", token+"x"), 401},
		{"no token, stream", "GET", "/events", "", header("Keyhole-Token", ""), 401},
		{"token in the query", "GET", "/events?token=" + token, "", header("Keyhole-Token", ""), 401},
		{"GET changes nothing", "GET", "/edge", "", nil, 405},
		{"form", "POST", "/edge", press, header("Content-Type", "text/plain"), 415},
		{"too long", "POST", "/edge", strings.Repeat(" ", 513) + press, nil, 413},
		{"not JSON", "POST", "/edge", "down", nil, 400},
		{"unknown field", "POST", "/edge", `{"stream":"x","button":"pair","down":true,"hold":9}`, nil, 400},
		{"two objects", "POST", "/edge", press + press, nil, 400},
		{"stream of nobody", "POST", "/edge", edgeBody("x", "pair", true), nil, 409},
		{"unknown button", "POST", "/edge", edgeBody(p.id, "power", true), nil, 404},
		{"unknown path", "GET", "/../face.go", "", nil, 404},
	} {
		answer := f.do(t, c.method, c.path, c.body, c.change)
		if answer.StatusCode != c.want {
			t.Errorf("%s: %s, want %d", c.name, answer.Status, c.want)
		}
		if answer.Header.Get("Content-Security-Policy") == "" || answer.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: without policies: %v", c.name, answer.Header)
		}
	}
	if got := f.State().Down; len(got) != 0 {
		t.Errorf("a refused request holds %v", got)
	}
	for _, name := range []string{"localhost:", "127.0.0.1:", "[::1]:"} {
		if answer := f.do(t, "GET", "/", "", host(name+f.port)); answer.StatusCode != 200 {
			t.Errorf("host %s: %s, want 200", name, answer.Status)
		}
	}
	follow := func(r *http.Request) {
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		r.Header.Set("Sec-Fetch-Mode", "navigate")
		r.Header.Del("Keyhole-Token")
	}
	if answer := f.do(t, "GET", "/", "", follow); answer.StatusCode != 200 {
		t.Errorf("a link from elsewhere: %s, want 200", answer.Status)
	}
}

func TestFaceShowsAndPresses(t *testing.T) {
	f := serveFace(t)
	p := f.open(t)
	picture := hal.Page(hal.Line{Text: "1234 5678", Scale: 2})
	if err := f.HAL().Display.Show(picture); err != nil {
		t.Fatal(err)
	}
	got := p.until(t, func(l look) bool { return len(l.Words) > 0 })
	if string(got.Bits) != string(picture.Bits[:]) || got.Words[0] != "1234 5678" {
		t.Errorf("shown %q, not the picture", got.Words)
	}
	if err := f.HAL().Light.Set(hal.FastBlink); err != nil {
		t.Fatal(err)
	}
	p.until(t, func(l look) bool { return l.Pattern == "fast" && l.Lit })
	p.until(t, func(l look) bool { return !l.Lit }) // it blinks
	p.until(t, func(l look) bool { return l.Lit })

	for _, down := range []bool{true, true, false, false} { // twice is harmless
		if answer := f.do(t, "POST", "/edge", edgeBody(p.id, "reset", down), nil); answer.StatusCode != 204 {
			t.Fatalf("down %v: %s", down, answer.Status)
		}
		want := []string{}
		if down {
			want = []string{"reset"}
		}
		f.untilDown(t, want...)
	}
}

func TestFaceLetsGoWhenThePageIsGone(t *testing.T) {
	f := serveFace(t)
	p, other := f.open(t), f.open(t)
	if answer := f.do(t, "POST", "/edge", edgeBody(p.id, "reset", true), nil); answer.StatusCode != 204 {
		t.Fatalf("press: %s", answer.Status)
	}
	if answer := f.do(t, "POST", "/edge", edgeBody(other.id, "reset", true), nil); answer.StatusCode != 409 {
		t.Errorf("second hand on one button: %s, want 409", answer.Status)
	}
	f.untilDown(t, "reset")
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	f.untilDown(t)
	if answer := f.do(t, "POST", "/edge", edgeBody(p.id, "reset", true), nil); answer.StatusCode != 409 {
		t.Errorf("press of a page that is gone: %s, want 409", answer.Status)
	}
}

func TestFaceHasRoomForEightPages(t *testing.T) {
	f := serveFace(t)
	for range 8 {
		f.open(t)
	}
	if answer := f.do(t, "GET", "/events", "", nil); answer.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("ninth page: %s, want 503", answer.Status)
	}
}

func TestStreamEndsWithTheBoard(t *testing.T) {
	f := serveFace(t)
	answer := f.do(t, "GET", "/events", "", nil)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Errorf("stream of a closed board: %v, want a clean end", err)
	}
}

func TestListenOnLoopbackOnly(t *testing.T) {
	for _, address := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.net:0", "localhost.example.net:0"} {
		if l, err := sim.Listen(address); !errors.Is(err, sim.ErrNotLoopback) {
			t.Errorf("listen %q: %v, want ErrNotLoopback", address, err)
			if err == nil {
				_ = l.Close()
			}
		}
	}
	for _, address := range []string{"localhost:0", "127.0.0.1:0"} {
		l, err := sim.Listen(address)
		if err != nil {
			t.Errorf("listen %q: %v", address, err)
			continue
		}
		_ = l.Close()
	}
	if _, err := sim.Listen("127.0.0.1"); err == nil {
		t.Error("an address without port was accepted")
	}
}

// The page is whole by itself, and the token is nowhere in it.
func TestAssetsAreOwn(t *testing.T) {
	f := serveFace(t)
	for path, kind := range map[string]string{"/": "text/html", "/face.css": "text/css", "/face.js": "text/javascript", "/icon.svg": "image/svg+xml"} {
		answer := f.do(t, "GET", path, "", nil)
		body, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != 200 || !strings.HasPrefix(answer.Header.Get("Content-Type"), kind) {
			t.Errorf("%s: %s %q %v, want %s", path, answer.Status, answer.Header.Get("Content-Type"), err, kind)
		}
		text := strings.ReplaceAll(string(body), "http://www.w3.org/2000/svg", "")
		for _, bad := range []string{"://", "style=\"", "onclick", "innerHTML", "eval(", token} {
			if strings.Contains(text, bad) {
				t.Errorf("%s contains %q", path, bad)
			}
		}
	}
}

func TestURLAndServeError(t *testing.T) {
	b := sim.New(sim.Options{})
	defer b.Close()
	f := sim.NewFace(b, sim.FaceOptions{})
	url := f.URL(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7480})
	if found, ok := strings.CutPrefix(url, "http://127.0.0.1:7480/#token="); !ok || len(found) < 26 {
		t.Errorf("URL = %q, want a random token in the fragment", url)
	}
	if again := sim.NewFace(b, sim.FaceOptions{}).URL(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7480}); again == url {
		t.Error("two faces have one token")
	}
	l, err := sim.Listen("localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := f.Serve(ctx, l); err == nil {
		t.Error("serving a closed listener succeeded")
	}
}
