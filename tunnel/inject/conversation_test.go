package inject

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// conversation is a client's side of a service whose other side is a script.
type conversation struct {
	t     testing.TB
	vault *Vault
	side  Side
	in    *bufio.Reader // what the client reads
}

// script is one connection of the service, number from 1.
type script func(n int, c net.Conn, in *bufio.Reader)

// converse begins one. open is (*Vault).HTTP or RTSP.
func converse(t testing.TB, v *Vault, open func(*Vault, Upstream, Dial) Side, s script) *conversation {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				s(n, c, bufio.NewReader(c))
			})
		}
	})
	dial := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp4", l.Addr().String())
	}
	up, err := dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	side := open(v, up.(Upstream), dial)
	t.Cleanup(func() { side.Close(); l.Close(); all.Wait() })
	return &conversation{t, v, side, bufio.NewReader(side)}
}

func vaultOf() *Vault { return NewVault(Credentials{"operator", NewSecret("correct-horse")}, nil) }

const ourBasic = "Basic b3BlcmF0b3I6Y29ycmVjdC1ob3JzZQ=="

func (c *conversation) say(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.side, s); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads one HTTP answer.
func (c *conversation) answer(method string) (*http.Response, string) {
	c.t.Helper()
	r, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	for name := range r.Header {
		if secret(strings.ToLower(name)) {
			c.t.Errorf("the client sees %s", name)
		}
	}
	for name := range r.Trailer {
		c.t.Errorf("the client sees trailer %s", name)
	}
	return r, string(body)
}

// readRequest is what the service reads; nil at the end.
func readRequest(in *bufio.Reader) (*http.Request, string) {
	r, err := http.ReadRequest(in)
	if err != nil {
		return nil, ""
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, ""
	}
	return r, string(body)
}

const (
	wantBasic  = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"cam\"\r\nContent-Length: 3\r\n\r\nno\n"
	wantDigest = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"cam\", nonce=\"%s\", qop=\"auth\"%s\r\nContent-Length: 0\r\n\r\n"
	ok         = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
)

// What could be read in two ways, or is not for the service, goes no further.
func TestHostileRequests(t *testing.T) {
	const host = "Host: cam\r\n"
	for name, hostile := range map[string]struct {
		request string
		status  int
	}{
		"two lengths":              {"POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400},
		"the same length twice":    {"POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400},
		"a list of lengths":        {"POST / HTTP/1.1\r\n" + host + "Content-Length: 1, 1\r\n\r\nx", 400},
		"a length with a sign":     {"POST / HTTP/1.1\r\n" + host + "Content-Length: +1\r\n\r\nx", 400},
		"an empty length":          {"POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n\r\nx", 400},
		"a length beyond numbers":  {"POST / HTTP/1.1\r\n" + host + "Content-Length: 9223372036854775808\r\n\r\nx", 400},
		"length and chunks":        {"POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"chunks of HTTP/1.0":       {"POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"gzip and chunks":          {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400},
		"chunks twice":             {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"an odd coding":            {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400},
		"a space before the colon": {"POST / HTTP/1.1\r\n" + host + "Content-Length : 1\r\n\r\nx", 400},
		"an underscore":            {"POST / HTTP/1.1\r\n" + host + "Transfer_Encoding: chunked\r\n\r\n", 400},
		"a folded line":            {"GET / HTTP/1.1\r\n" + host + "X-A: b\r\n\tc\r\n\r\n", 400},
		"a folded first field":     {"GET / HTTP/1.1\r\n Host: cam\r\n\r\n", 400},
		"a bare LF":                {"GET / HTTP/1.1\n" + host + "\r\n", 400},
		"a bare LF at the end":     {"GET / HTTP/1.1\r\n" + host + "\n", 400},
		"a bare CR":                {"GET / HTTP/1.1\r\n" + host + "X: a\rb\r\n\r\n", 400},
		"NUL":                      {"GET / HTTP/1.1\r\n" + host + "X: a\x00b\r\n\r\n", 400},
		"NUL in the target":        {"GET /\x00 HTTP/1.1\r\n" + host + "\r\n", 400},
		"two hosts":                {"GET / HTTP/1.1\r\n" + host + host + "\r\n", 400},
		"no host":                  {"GET / HTTP/1.1\r\n\r\n", 400},
		"a host with a user":       {"GET / HTTP/1.1\r\nHost: a@cam\r\n\r\n", 400},
		"another host":             {"GET http://192.0.2.1/ HTTP/1.1\r\n" + host + "\r\n", 400},
		"another scheme":           {"GET https://cam/ HTTP/1.1\r\n" + host + "\r\n", 400},
		"a user in the target":     {"GET http://u:p@cam/ HTTP/1.1\r\n" + host + "\r\n", 400},
		"no path":                  {"GET cam HTTP/1.1\r\n" + host + "\r\n", 400},
		"* of GET":                 {"GET * HTTP/1.1\r\n" + host + "\r\n", 400},
		"a quotation mark":         {"GET /\",x=\" HTTP/1.1\r\n" + host + "\r\n", 400},
		"two spaces":               {"GET  / HTTP/1.1\r\n" + host + "\r\n", 400},
		"more after the version":   {"GET / HTTP/1.1 x\r\n" + host + "\r\n", 505},
		"CONNECT":                  {"CONNECT cam:22 HTTP/1.1\r\n" + host + "\r\n", 405},
		"TRACE":                    {"TRACE / HTTP/1.1\r\n" + host + "\r\n", 405},
		"HTTP/2":                   {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
		"HTTP/0.9":                 {"GET /\r\n\r\n", 400},
		"HTTP/1.10":                {"GET / HTTP/1.10\r\n" + host + "\r\n", 505},
		"an expectation":           {"GET / HTTP/1.1\r\n" + host + "Expect: a pony\r\n\r\n", 417},
		"a field without a name":   {"GET / HTTP/1.1\r\n" + host + ": x\r\n\r\n", 400},
		"a line that is no field":  {"GET / HTTP/1.1\r\n" + host + "hello\r\n\r\n", 400},
		"too large a head":         {"GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("x", MaxHead) + "\r\n\r\n", 431},
		"too many fields":          {"GET / HTTP/1.1\r\n" + host + strings.Repeat("X: y\r\n", MaxFields) + "\r\n", 400},
		"TLS":                      {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400},
		"spaces before the head":   {" GET / HTTP/1.1\r\n" + host + "\r\n", 400},
	} {
		t.Run(name, func(t *testing.T) {
			seen := make(chan string, 1)
			c := converse(t, vaultOf(), (*Vault).HTTP, func(_ int, s net.Conn, in *bufio.Reader) {
				all, _ := io.ReadAll(in)
				seen <- string(all)
			})
			c.say(hostile.request)
			r, body := c.answer("GET")
			if r.StatusCode != hostile.status || !strings.Contains(body, "device") {
				t.Errorf("got %d %s", r.StatusCode, body)
			}
			if _, err := c.in.ReadByte(); err != io.EOF {
				t.Errorf("after the answer: %v, want the end", err)
			}
			if got := <-seen; got != "" {
				t.Errorf("the service sees %q", got)
			}
		})
	}
}
