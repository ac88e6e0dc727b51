package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
)

// serving runs the desk's API on a real listener and a Unix socket.
func serving(t *testing.T) (d *desk, dir, url string, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "kh") // a Unix socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d = newDesk(t)
	config := d.Server.Config
	if config.TLS, err = OwnCertificate(dir, []string{"base.example.net", "192.0.2.7"}); err != nil {
		t.Fatal(err)
	}
	if config.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if config.Socket, err = ListenLocal(dir); err != nil {
		t.Fatal(err)
	}
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	<-s.Ready()
	done := false
	stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return d, dir, "https://" + config.Listener.Addr().String(), stop
}

// A foreign client that knows the certificate's file needs nothing else.
func TestCurlWithTheCertificate(t *testing.T) {
	curl := testnet.Program(t, "curl")
	d, dir, url, stop := serving(t)
	run := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), curl, append([]string{"-sS", "--max-time", "10", "--cacert", filepath.Join(dir, CertificateFile)}, args...)...).CombinedOutput()
		return string(out), err
	}
	port := url[strings.LastIndex(url, ":"):]
	for _, at := range []string{url, "https://localhost" + port} {
		out, err := run("-H", "Authorization: Bearer "+d.read, at+"/v1/basestation")
		if err != nil || !strings.Contains(out, `"node":"n1"`) {
			t.Errorf("%s: %v: %s", at, err, out)
		}
	}
	out, err := run("--resolve", "base.example.net"+port+":127.0.0.1", "https://base.example.net"+port+"/healthz")
	if err != nil || !strings.Contains(out, "true") {
		t.Errorf("a configured name: %v: %s", err, out)
	}
	out, err = run("-w", "%{http_code} %header{www-authenticate}", url+"/v1/devices")
	if err != nil || !strings.Contains(out, "401 Bearer") {
		t.Errorf("without a token: %v: %s", err, out)
	}
	if out, err := run("--tls-max", "1.2", url+"/healthz"); err == nil {
		t.Errorf("TLS 1.2 is spoken: %s", out)
	}
	if info, err := os.Stat(filepath.Join(dir, keyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v %v", info.Mode(), err)
	}
	again, err := OwnCertificate(dir, nil)
	if err != nil || string(again.Certificate[0]) != string(d.mustCertificate(dir)) {
		t.Errorf("the next start makes another certificate: %v", err)
	}
	stop()
}

func (d *desk) mustCertificate(dir string) []byte {
	d.Helper()
	c, err := LoadCertificate(filepath.Join(dir, CertificateFile), filepath.Join(dir, keyFile))
	if err != nil {
		d.Fatal(err)
	}
	return c.Certificate[0]
}

func TestLocalSocket(t *testing.T) {
	d, dir, _, stop := serving(t)
	path := filepath.Join(dir, SocketFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: want 0600", info.Mode(), err)
	}
	if _, err := ListenLocal(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("a second one: %v", err)
	}
	client := NewClient(dir)
	f := key(t)
	var got Device
	if err := client.Do(t.Context(), "POST", "/v1/devices", DeviceAdd{Fingerprint: f.String()}, &got); err != nil || got.ID != f.ID() {
		t.Errorf("%+v, %v", got, err)
	}
	if err := client.Do(t.Context(), "GET", "/v1/devices/x", nil, &got); !api.IsCode(err, api.CodeNotFound) {
		t.Errorf("not found: %v", err)
	}
	if listed, err := d.records.Listed(t.Context(), f); err != nil || !listed {
		t.Error("it is not in the records")
	}
	stop()
	var gone *NotRunningError
	if err := client.Do(t.Context(), "GET", "/v1/devices", nil, nil); !errors.As(err, &gone) {
		t.Errorf("stopped: %v", err)
	}
	// One that a killed process left behind is replaced; a file is not.
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	l, err := ListenLocal(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenLocal(dir); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file in the way: %v", err)
	}
	if _, err := ListenLocal(filepath.Join(dir, strings.Repeat("x", 100))); err == nil || !strings.Contains(err.Error(), "a Unix socket takes at most 107") {
		t.Errorf("a long path: %v", err)
	}
	if _, err := LoadCertificate(filepath.Join(dir, "no"), filepath.Join(dir, "no")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no certificate: %v", err)
	}
}

// stream reads events until stop.
func (d *desk) stream(query string) (*bufio.Reader, func()) {
	d.Helper()
	ctx, cancel := context.WithCancel(d.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", d.url+"/v1/events"+query, nil)
	if err != nil {
		d.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+d.read)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		d.Fatal(err)
	}
	if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/event-stream" {
		d.Fatalf("%d %v", answer.StatusCode, answer.Header)
	}
	reader := bufio.NewReader(answer.Body)
	d.line(reader, ": from now on")
	d.line(reader, "")
	return reader, func() { cancel(); answer.Body.Close() }
}

func (d *desk) line(r *bufio.Reader, want string) {
	d.Helper()
	got, err := r.ReadString('\n')
	if err != nil || strings.TrimSuffix(got, "\n") != want {
		d.Fatalf("got %q, %v; want %q", got, err, want)
	}
}

func TestEvents(t *testing.T) {
	d := newDesk(t)
	mine, other := string(key(t).ID()), string(key(t).ID())
	all, stopAll := d.stream("")
	defer stopAll()
	one, stopOne := d.stream("?device=" + mine)
	defer stopOne()
	for i, device := range []string{other, mine} {
		data := fmt.Sprintf("{\"id\": \"evt_%d\",\n \"kind\": \"presence.gone\", \"device\": %q}", i, device)
		if err := d.store.Publish("event.presence.gone."+device, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.store.Publish("event.x", []byte("{\n")); err != nil { // no JSON: nobody sees it
		t.Fatal(err)
	}
	for _, line := range []string{
		"id: evt_0", "event: presence.gone", `data: {"id":"evt_0","kind":"presence.gone","device":"` + other + `"}`, "",
		"id: evt_1", "event: presence.gone", `data: {"id":"evt_1","kind":"presence.gone","device":"` + mine + `"}`, "",
	} {
		d.line(all, line)
	}
	d.line(one, "id: evt_1")
	status, data := d.ask(d.read, "GET", "/v1/events?device=x", nil)
	d.is(status, data, 400, api.CodeMalformed)
}

// A reader that takes nothing is cut, and holds no memory beyond its queue.
func TestSlowReaderIsCut(t *testing.T) {
	d := newDesk(t)
	d.eventWrite = 50 * time.Millisecond
	_, stop := d.stream("")
	defer stop()
	data := []byte(`{"id": "x", "data": "` + strings.Repeat("x", 32<<10) + `"}`)
	testnet.Eventually(t, "the stream to end", func() error {
		for range 64 {
			if err := d.store.Publish("event.x", data); err != nil {
				return err
			}
		}
		if n := len(d.streams); n != 0 {
			return fmt.Errorf("%d streams are open", n)
		}
		return nil
	})
}

func TestFrameIsOneEvent(t *testing.T) {
	got := frame([]byte(`{"id": "a\nevent: forged\n\ndata: x", "kind": "k\r\n"}`))
	if strings.Count(got, "\n\n") != 1 || !strings.HasSuffix(got, "\n\n") || strings.Contains(got, "\nevent: forged") {
		t.Errorf("got %q", got)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte(`{"id": "a", "kind": "k", "data": {}}`))
	f.Add([]byte("{\"id\": \"\\n\\n\"}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got := frame(data)
		if got != "" && (strings.Count(got, "\n\n") != 1 || strings.Contains(got, "\r") || strings.Count(got, "\n") != 4) {
			t.Errorf("%q becomes %q", data, got)
		}
	})
}

func TestMetrics(t *testing.T) {
	d := newDesk(t)
	d.ask("", "GET", "/v1/devices", nil)
	d.must("GET", "/v1/devices", nil, nil)
	_, data := d.ask(d.read, "GET", "/metrics", nil)
	for _, want := range []string{
		"keyhole_api_unauthorized_total 1\n",
		`keyhole_api_request_seconds_count{method="GET",route="/v1/devices"} 1`,
		"# TYPE process_resident_memory_bytes gauge\n",
	} {
		if !strings.Contains(string(data), want) {
			t.Errorf("no %q in\n%s", want, data)
		}
	}
	sample := regexp.MustCompile(`^[a-z_]+(\{([a-z]+="[^"\\]*",?)+\})? [0-9eE.+-]+(Inf)?$`)
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") && !sample.MatchString(line) {
			t.Errorf("no sample: %q", line)
		}
	}
}

// What handlers answer is what the document says they answer.
func TestAnswersAreAsTheDocumentSays(t *testing.T) {
	d := newDesk(t)
	status, raw := d.ask("", "GET", "/v1/openapi.json", nil)
	var doc document
	if err := json.Unmarshal(raw, &doc); err != nil || status != 200 {
		t.Fatal(status, err)
	}
	attached, blocked := key(t), key(t)
	d.attached(attached)
	d.must("PUT", "/v1/devices/"+string(blocked.ID())+"/block", BlockAdd{Reason: "r"}, nil)
	bodies := map[string]any{
		"POST /v1/devices": DeviceAdd{Fingerprint: key(t).String(), Note: "n"}, "PUT /v1/devices/{id}/block": BlockAdd{},
		"PUT /v1/serials/{serial}": SerialPut{Replace: true}, "POST /v1/tokens": TokenAdd{Scope: ScopeRead, Seconds: 9, Uses: 9, Name: "n"},
	}
	d.must("PUT", "/v1/serials/S", SerialPut{}, nil)
	if _, err := d.records.Bind(t.Context(), "S", attached); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, last := range []string{"GET", "POST", "PUT", "DELETE"} { // what removes comes last
		for _, r := range routes {
			if r.Method != last || r.Answer == nil || r.stream {
				continue
			}
			seen++
			described := doc.Paths[r.Path][strings.ToLower(r.Method)]
			path := strings.NewReplacer("{id}", string(attached.ID()), "{serial}", "S").Replace(r.Path)
			if r.Path == "/v1/tokens/{id}" {
				path = "/v1/tokens/" + hashOf(d.read)
			}
			status, data := d.ask(d.write, r.Method, path, bodies[r.Method+" "+r.Path])
			if status != 200 {
				t.Errorf("%s %s: %d %s", r.Method, r.Path, status, data)
				continue
			}
			var value any
			if err := json.Unmarshal(data, &value); err != nil {
				t.Errorf("%s %s: %v", r.Method, r.Path, err)
				continue
			}
			schema := described.Responses["200"].Content["application/json"].Schema
			for _, wrong := range doc.check(schema, value, "") {
				t.Errorf("%s %s: %s: %s", r.Method, r.Path, wrong, data)
			}
			if r.Request != nil && described.RequestBody == nil {
				t.Errorf("%s %s: the document names no body", r.Method, r.Path)
			}
			if (r.Action != "") != (len(described.Security) == 1) {
				t.Errorf("%s %s: the document says %v of tokens", r.Method, r.Path, described.Security)
			}
		}
	}
	if seen < 15 {
		t.Errorf("only %d operations were tried", seen)
	}
}

// document is as much of OpenAPI as is needed to check answers.
type document struct {
	Paths map[string]map[string]struct {
		Responses map[string]struct {
			Content map[string]struct{ Schema schema }
		}
		RequestBody *struct{}
		Security    []any
	}
	Components struct{ Schemas map[string]schema }
}

type schema struct {
	Ref        string `json:"$ref"`
	Type       string
	Format     string
	Items      *schema
	Properties map[string]schema
	Required   []string
}

// check returns what of value is not as the schema says.
func (doc document) check(s schema, value any, at string) (wrong []string) {
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		s = doc.Components.Schemas[name]
	}
	fits := false
	switch v := value.(type) {
	case map[string]any:
		fits = s.Type == "object"
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				wrong = append(wrong, at+"."+name+" is missing")
			}
		}
		for name, member := range v {
			if of, ok := s.Properties[name]; ok {
				wrong = append(wrong, doc.check(of, member, at+"."+name)...)
			} else {
				wrong = append(wrong, at+"."+name+" is not in the document")
			}
		}
	case []any:
		fits = s.Type == "array"
		for _, member := range v {
			wrong = append(wrong, doc.check(*s.Items, member, at+"[]")...)
		}
	case string:
		fits = s.Type == "string"
		if _, err := time.Parse(time.RFC3339, v); s.Format == "date-time" && err != nil {
			wrong = append(wrong, at+" is no date")
		}
	case float64:
		fits = s.Type == "integer" && v == float64(int64(v))
	case bool:
		fits = s.Type == "boolean"
	}
	if !fits {
		wrong = append(wrong, fmt.Sprintf("%s is a %T, the document says %q", at, value, s.Type))
	}
	return wrong
}
