package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/keyholed/keyhole/tunnel/inject"
)

const (
	theUser     = "operator"
	thePassword = "correct-horse"
)

// signedIn opens a local port that leads through a tunnel to a service that the
// device signs in to, and returns its address. All that the client is sent or
// sends is in wire, the log in log.
type signedIn struct {
	address string
	service Service
	wire    *tape
	log     *tape
}

// tape keeps bytes.
type tape struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (t *tape) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all.Write(p)
}

func (t *tape) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all.String()
}

// taped is a connection whose bytes are kept.
type taped struct {
	Conn
	tape *tape
}

func (c taped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.tape.Write(p[:n])
	return n, err
}

func (c taped) Write(p []byte) (int, error) {
	c.tape.Write(p)
	return c.Conn.Write(p)
}

func signIn(t testing.TB, typ, address, user, password string) *signedIn {
	t.Helper()
	s := &signedIn{wire: new(tape), log: new(tape)}
	b := NewBridge(Config{Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	t.Cleanup(func() { b.Close() })
	var err error
	s.service, err = mustService(t, "cam", typ, address).WithCredentials(inject.Credentials{User: user, Password: inject.NewSecret(password)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.address = serve(t, "tcp4", "127.0.0.1:0", func(c Conn) {
		tun, err := b.Open(context.Background(), Meta{Peer: "player"}, s.service)
		if err != nil {
			t.Error(err)
			c.Close()
			return
		}
		tun.Run(context.Background(), taped{c, s.wire})
	})
	return s
}

// silent fails when anything that could let somebody in has come past the device.
func (s *signedIn) silent(t testing.TB, also ...string) {
	t.Helper()
	basic := "b3BlcmF0b3I6Y29ycmVjdC1ob3JzZQ==" // operator:correct-horse
	for name, text := range map[string]string{"wire": s.wire.String(), "log": s.log.String()} {
		for _, word := range append(also, thePassword, basic, "WWW-Authenticate", "Authentication-Info", "nonce=", "Digest ") {
			if strings.Contains(strings.ToLower(text), strings.ToLower(word)) {
				t.Errorf("the %s has %q in it:\n%.4000s", name, word, text)
			}
		}
	}
}

// wantsBasic wants Basic.
func wantsBasic(h http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != theUser || p != thePassword {
			w.Header().Set("WWW-Authenticate", `Basic realm="cam"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	}
}

func webServer(t testing.TB, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	var done sync.WaitGroup
	done.Go(func() { server.Serve(l) })
	t.Cleanup(func() { server.Close(); done.Wait() })
	return l.Addr().String()
}

// get asks through the tunnel and returns status and body.
func get(t testing.TB, request *http.Request) (int, string) {
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
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

func request(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSignsInToBasic(t *testing.T) {
	address := webServer(t, wantsBasic(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %d", r.Method, r.URL, len(body))
	})))
	s := signIn(t, "http", address, theUser, thePassword)
	for _, c := range []struct {
		method string
		body   int
	}{{"GET", 0}, {"POST", 10}, {"POST", 60 << 10}, {"PUT", 1 << 20}, {"DELETE", 0}} {
		r := request(t, c.method, "http://"+s.address+"/a?b=c", strings.NewReader(strings.Repeat("x", c.body)))
		r.SetBasicAuth("guest", "guess")
		r.Header.Set("Proxy-Authorization", "Basic Z3Vlc3Q6Z3Vlc3M=")
		status, body := get(t, r)
		if want := fmt.Sprintf("%s /a?b=c %d", c.method, c.body); status != 200 || body != want {
			t.Errorf("%s of %d: %d %q, want %q", c.method, c.body, status, body, want)
		}
	}
	s.silent(t)
}

// A wrong password is tried once, said clearly, and then rests.
func TestWrongPasswordRests(t *testing.T) {
	n := 0
	var mu sync.Mutex
	address := webServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); ok {
			mu.Lock()
			n++
			mu.Unlock()
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="cam"`)
		w.WriteHeader(401)
	}))
	s := signIn(t, "http", address, theUser, "wrong")
	var all sync.WaitGroup
	for range 6 { // as a browser does
		all.Go(func() {
			status, body := get(t, request(t, "GET", "http://"+s.address+"/", nil))
			if status != 502 || !strings.Contains(body, "refuses the user name and password that the device keeps") {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	all.Wait()
	mu.Lock()
	defer mu.Unlock()
	if n != 1 {
		t.Errorf("the service saw %d tries, want 1", n)
	}
	if r := s.service.Refusal(); r == nil || !errors.Is(r, inject.ErrWrongPassword) {
		t.Errorf("Refusal is %v", r)
	}
	s.silent(t)
}

// Requests that one connection sends without waiting are answered in order.
func TestPipelined(t *testing.T) {
	address := webServer(t, wantsBasic(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) })))
	s := signIn(t, "http", address, theUser, thePassword)
	c, err := net.Dial("tcp4", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 20 {
		fmt.Fprintf(c, "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
	}
	in := bufio.NewReader(c)
	for i := range 20 {
		response, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		if want := fmt.Sprint("/", i); string(body) != want {
			t.Fatalf("answer %d is %q", i, body)
		}
	}
}
