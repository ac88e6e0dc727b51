package client

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/protocol/api"
)

// camera is a web page: it says what it was asked, takes uploads, sends noise,
// streams, and echoes on what becomes a WebSocket.
func camera(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/", asked)
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		_, _ = io.Copy(h, r.Body)
		_, _ = w.Write(h.Sum(nil))
	})
	mux.HandleFunc("/noise", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(noise) })
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		out := http.NewResponseController(w)
		for _, part := range []string{"one\n", "two\n"} {
			_, _ = io.WriteString(w, part)
			_ = out.Flush()
		}
		<-r.Context().Done()
	})
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.Copy(c, buffered)
	})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern == "/" || strings.Contains(r.URL.Path, "//") {
			asked(w, r) // ServeMux would tidy the path
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func asked(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s\nHost: %s\n", r.Method, r.URL.RequestURI(), r.Host)
	_ = r.Header.Write(w)
}

func webForward(t *testing.T) *Forward {
	t.Helper()
	d := newTestDevice(t, service(t, "web", "http", strings.TrimPrefix(camera(t).URL, "http://")))
	return forward(t, d.dial(d.paired()), api.Service{Name: "web", Type: "http", Port: 80}, ForwardOptions{})
}

// raw sends one request as a browser would write it and returns the connection.
func raw(t *testing.T, address, request string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

func status(t *testing.T, r *bufio.Reader) (int, string) {
	t.Helper()
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestWebGuard(t *testing.T) {
	f := webForward(t)
	port := fmt.Sprint(f.Port())
	get := func(headers ...string) string {
		return "GET /a?b=%zz;c HTTP/1.1\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n"
	}
	ours := "Host: 127.0.0.1:" + port
	for _, c := range []struct {
		name, request string
		want          int
	}{
		{"a person types the address", get(ours, "Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"), 200},
		{"localhost", get("Host: localhost:" + port), 200},
		{"LOCALHOST", get("Host: LocalHost:" + port), 200},
		{"name of the service", get("Host: web.localhost:" + port), 200},
		{"IPv6 loopback", get("Host: [::1]:" + port), 200},
		{"another loopback address", get("Host: 127.1.2.3:" + port), 200},
		{"the page itself", get(ours, "Origin: http://127.0.0.1:"+port, "Sec-Fetch-Site: same-origin"), 200},
		{"curl", get(ours, "User-Agent: curl/8"), 200},

		{"DNS rebinding", get("Host: evil.example:" + port), 421},
		{"rebinding with a likely name", get("Host: localhost.evil.example:" + port), 421},
		{"another service's name", get("Host: rtsp.localhost:" + port), 421},
		{"the port of another", get("Host: localhost:1"), 421},
		{"no port", get("Host: localhost"), 421},
		{"a LAN address", get("Host: 192.0.2.7:" + port), 421},
		{"any address", get("Host: 0.0.0.0:" + port), 421},
		{"an IPv6 address without brackets", get("Host: ::1"), 421},
		{"a zone", get("Host: [::1%25lo]:" + port), 421},
		{"an address in other digits", get("Host: 0x7f000001:" + port), 421},
		{"user info", get("Host: a@localhost:" + port), 400},
		{"an absolute URL of another", "GET http://evil.example/ HTTP/1.1\r\n" + ours + "\r\n\r\n", 421},
		{"HTTP/1.0 without a host", "GET / HTTP/1.0\r\n\r\n", 421},
		{"CONNECT", "CONNECT 127.0.0.1:" + port + " HTTP/1.1\r\n" + ours + "\r\n\r\n", 405},
		{"two hosts", get(ours, "Host: evil.example"), 400},

		{"a form elsewhere", "POST / HTTP/1.1\r\n" + ours + "\r\nOrigin: https://evil.example\r\nContent-Length: 0\r\n\r\n", 403},
		{"a sandboxed frame", get(ours, "Origin: null"), 403},
		{"another local page", get(ours, "Origin: http://localhost:3000"), 403},
		{"a secure page of the same name", get(ours, "Origin: https://localhost:"+port), 403},
		{"an origin with a path", get(ours, "Origin: http://localhost:"+port+"/x"), 403},
		{"two origins", get(ours, "Origin: http://localhost:"+port, "Origin: http://localhost:"+port), 403},
		{"an origin list", get(ours, "Origin: http://localhost:"+port+" http://evil.example"), 403},
		{"an image elsewhere", get(ours, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Dest: image"), 403},
		{"another port of localhost", get(ours, "Sec-Fetch-Site: same-site"), 403},
		{"two answers", get(ours, "Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"), 403},
		{"a preflight", "OPTIONS / HTTP/1.1\r\n" + ours + "\r\nOrigin: http://evil.example\r\nAccess-Control-Request-Method: PUT\r\n\r\n", 403},
		{"a foreign WebSocket", websocket(ours, "Origin: http://evil.example"), 403},
		{"a rebound WebSocket", websocket("Host: evil.example:"+port, "Origin: http://evil.example:"+port), 421},
	} {
		_, r := raw(t, f.Address(), c.request)
		if got, body := status(t, r); got != c.want {
			t.Errorf("%s: %d, want %d: %s", c.name, got, c.want, body)
		}
	}
}

func websocket(headers ...string) string {
	return "GET /ws HTTP/1.1\r\n" + strings.Join(headers, "\r\n") +
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n"
}

func TestEveryRequestOfAConnectionIsChecked(t *testing.T) {
	f := webForward(t)
	good := "GET / HTTP/1.1\r\nHost: " + f.Address() + "\r\n"
	_, r := raw(t, f.Address(), good+"\r\n"+good+"Origin: http://evil.example\r\n\r\n"+good+"\r\n")
	if got, _ := status(t, r); got != 200 {
		t.Fatal(got)
	}
	if got, _ := status(t, r); got != 403 {
		t.Fatalf("the second request: %d", got)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("the connection goes on after a refusal: %v", err)
	}
}

func TestWebPassesOn(t *testing.T) {
	f := webForward(t)
	_, r := raw(t, f.Address(), "GET /a//b/%2e%2e?x=1;y=%zz HTTP/1.1\r\nHost: localhost:"+fmt.Sprint(f.Port())+
		"\r\nCookie: a=b\r\nAuthorization: Basic eDp5\r\nAccept-Encoding: br\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
	_, got := status(t, r)
	for _, want := range []string{"GET /a//b/%2e%2e?x=1;y=%zz\n", "Host: localhost:" + fmt.Sprint(f.Port()), "Cookie: a=b", "Authorization: Basic eDp5", "Accept-Encoding: br\r\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("the service does not see %q:\n%s", want, got)
		}
	}
	for _, no := range []string{"Forwarded", "User-Agent", "Via", "gzip"} {
		if strings.Contains(got, no) {
			t.Errorf("the service sees %q:\n%s", no, got)
		}
	}
}

func TestWebCarriesMuch(t *testing.T) {
	f := webForward(t)
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := web.Post(f.URL()+"upload", "application/octet-stream", bytes.NewReader(noise))
	if err != nil {
		t.Fatal(err)
	}
	sum, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if want := sha256.Sum256(noise); !bytes.Equal(sum, want[:]) {
		t.Errorf("upload: %s, %x", response.Status, sum)
	}
	response, err = web.Get(f.URL() + "noise")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || !bytes.Equal(got, noise) {
		t.Errorf("download: %d bytes, %v", len(got), err)
	}
}

func TestWebStreamsAtOnce(t *testing.T) {
	f := webForward(t)
	_, r := raw(t, f.Address(), "GET /stream HTTP/1.1\r\nHost: "+f.Address()+"\r\n\r\n")
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(response.Body) // the service never ends this answer
	for _, want := range []string{"one\n", "two\n"} {
		if got, err := lines.ReadString('\n'); got != want || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
}

func TestWebSocketPasses(t *testing.T) {
	f := webForward(t)
	c, r := raw(t, f.Address(), websocket("Host: "+f.Address(), "Origin: http://"+f.Address(), "Sec-Fetch-Site: same-origin"))
	response, err := http.ReadResponse(r, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", response, err)
	}
	for _, word := range []string{"ping", "and again"} {
		if _, err := io.WriteString(c, word); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(word))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != word {
			t.Errorf("%q, %v", got, err)
		}
	}
}

func TestWebOfADeadService(t *testing.T) {
	d := newTestDevice(t, service(t, "web", "http", closedPort(t)))
	why := make(chan error, 1)
	f := forward(t, d.dial(d.paired()), api.Service{Name: "web", Type: "http"}, ForwardOptions{Failed: func(err error) { why <- err }})
	_, r := raw(t, f.Address(), "GET / HTTP/1.1\r\nHost: "+f.Address()+"\r\n\r\n")
	if got, body := status(t, r); got != http.StatusBadGateway || !strings.Contains(body, "does not answer") {
		t.Errorf("%d %s", got, body)
	}
	if err := <-why; !api.IsCode(err, api.CodeServiceDown) {
		t.Error(err)
	}
}
