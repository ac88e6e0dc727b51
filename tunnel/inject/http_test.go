package inject

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const get = "GET /a HTTP/1.1\r\nHost: cam\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3M=\r\nProxy-Authorization: Basic eA==\r\nProxy_Authorization: x\r\nConnection: keep-alive, X-Hop, Authorization\r\nX-Hop: 1\r\nTE: trailers\r\nAccept: */*\r\n\r\n"

// The head that the service gets.
func TestRequestIsWrittenAnew(t *testing.T) {
	heads := make(chan string, 2)
	c := converse(t, vaultOf(), (*Vault).HTTP, func(_ int, s net.Conn, in *bufio.Reader) {
		for _, answer := range []string{wantBasic, ok} {
			raw, err := readHead(in)
			if err != nil {
				return
			}
			heads <- string(raw)
			io.WriteString(s, answer)
		}
	})
	c.say(get)
	if r, body := c.answer("GET"); r.StatusCode != 200 || body != "ok" {
		t.Errorf("%v %q", r.Status, body)
	}
	const kept = "GET /a HTTP/1.1\r\nHost: cam\r\nAccept: */*\r\nConnection: keep-alive\r\n"
	for _, want := range []string{kept + "\r\n", kept + "Authorization: " + ourBasic + "\r\n\r\n"} {
		if got := <-heads; got != want {
			t.Errorf("the service sees %q, want %q", got, want)
		}
	}
}

// An answer as the client may see it.
func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct{ method, answer, want string }{
		"a length":             {"GET", ok, ok},
		"no body":              {"GET", "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"},
		"not modified":         {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"},
		"HEAD":                 {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"},
		"to the end":           {"GET", "HTTP/1.0 200 OK\r\n\r\nabc", "HTTP/1.0 200 OK\r\n\r\nabc"},
		"lines that end in LF": {"GET", "HTTP/1.0 200 OK\nA: b\n\nabc", "HTTP/1.0 200 OK\r\nA: b\r\n\r\nabc"},
		"challenges of all kinds": {"GET", "HTTP/1.1 200 OK\r\nWWW-Authenticate: Basic realm=x\r\nProxy-Authenticate: Basic\r\nAuthentication-Info: nextnonce=\"a\"\r\nProxy-Authentication-Info: a\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		"chunks and trailers": {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Authentication-Info\r\n\r\n3;a=b\r\nabc\r\n0\r\nAuthentication-Info: nextnonce=\"x\"\r\nX: y\r\n\r\n",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n"},
		"our own words": {"GET", "HTTP/1.1 200 OK\r\nX-Auth: " + ourBasic + "\r\nX-Debug: pw=correct-horse!\r\nLocation: http://operator:correct-horse@cam/x\r\nContent-Location: http://o@cam/\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Location: http://cam/\r\nContent-Length: 0\r\n\r\n"},
		"a user in a URL": {"GET", "HTTP/1.1 302 Found\r\nLocation: http://o:p@cam/x?y=a@b\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 302 Found\r\nLocation: http://cam/x?y=a@b\r\nContent-Length: 0\r\n\r\n"},
		"hop by hop":      {"GET", "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
		"early hints":     {"GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok},
	} {
		t.Run(name, func(t *testing.T) {
			cv := converse(t, vaultOf(), (*Vault).HTTP, func(_ int, s net.Conn, in *bufio.Reader) {
				for _, answer := range []string{wantBasic, c.answer} {
					r, _ := readRequest(in)
					if r == nil {
						return
					}
					if r.Method == "HEAD" {
						answer = strings.TrimSuffix(answer, "no\n")
					}
					io.WriteString(s, answer)
				}
			})
			cv.say(c.method + " / HTTP/1.1\r\nHost: cam\r\n\r\n")
			got, err := io.ReadAll(cv.in)
			if err != nil || string(got) != c.want {
				t.Errorf("the client sees %q %v, want %q", got, err, c.want)
			}
		})
	}
}

// Answers that could be read in two ways end the conversation.
func TestHostileAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"two lengths":          "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"length and chunks":    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"an unknown coding":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		"a folded line":        "HTTP/1.1 200 OK\r\nA: b\r\n WWW-Authenticate: c\r\n\r\n",
		"NUL":                  "HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n",
		"a bare CR":            "HTTP/1.1 200 OK\r\nA: b\rWWW-Authenticate: c\r\n\r\n",
		"no status":            "HTTP/1.1 OK\r\n\r\n",
		"no HTTP":              "SSH-2.0-OpenSSH\r\n\r\n",
		"a protocol unasked":   "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"a proxy's challenge":  "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
		"a head without end":   "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", MaxHead) + "\r\n\r\n",
		"interims without end": strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", maxInterims+1),
	} {
		t.Run(name, func(t *testing.T) {
			c := converse(t, vaultOf(), (*Vault).HTTP, func(_ int, s net.Conn, in *bufio.Reader) {
				readRequest(in)
				io.WriteString(s, answer)
			})
			c.say("GET / HTTP/1.0\r\nHost: cam\r\n\r\n")
			r, body := c.answer("GET")
			if r.StatusCode != 502 || !strings.Contains(body, "the service gave an answer that the device does not pass on") {
				t.Errorf("got %d %s", r.StatusCode, body)
			}
			var why *MessageError
			if !errors.As(c.side.Verdict(), &why) || why.Client {
				t.Errorf("the log says %v", c.side.Verdict())
			}
		})
	}
}

// A body that breaks off, or breaks its framing, does not look whole.
func TestBrokenBodies(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;\na\r\nabc\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000000000000000\r\nabc",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n folded\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Le",
	} {
		c := converse(t, vaultOf(), (*Vault).HTTP, func(_ int, s net.Conn, in *bufio.Reader) {
			readRequest(in)
			io.WriteString(s, answer)
		})
		c.say("GET / HTTP/1.1\r\nHost: cam\r\n\r\n")
		if got, err := io.ReadAll(c.in); err == nil {
			t.Errorf("%q: the client sees %q and its orderly end", answer, got)
		}
	}
}

// digester is a service that wants Digest, checks it with code that is not the
// room's own, and gives a nonce only life uses.
type digester struct {
	life  int32
	nonce atomic.Int32
	uses  atomic.Int32
	next  bool // announces the next nonce instead of refusing
	wrong atomic.Int32
}

func (d *digester) serve(_ int, s net.Conn, in *bufio.Reader) {
	for {
		r, body := readRequest(in)
		if r == nil {
			return
		}
		nonce := "n" + strconv.Itoa(int(d.nonce.Load()))
		auth := r.Header.Get("Authorization")
		switch {
		case auth == "":
			fmt.Fprintf(s, wantDigest, nonce, "")
			continue
		case !strings.Contains(auth, `nonce="`+nonce+`"`):
			fmt.Fprintf(s, wantDigest, nonce, `, stale=true`)
			continue
		case d.uses.Add(1) > d.life && !d.next:
			d.uses.Store(0)
			fmt.Fprintf(s, wantDigest, "n"+strconv.Itoa(int(d.nonce.Add(1))), `, stale=TRUE`)
			continue
		}
		if want := fmt.Sprintf("nc=%08x", d.uses.Load()); !strings.Contains(auth, want) {
			d.wrong.Add(1)
		}
		info := ""
		if d.next && d.uses.Load() == d.life {
			d.uses.Store(0)
			info = fmt.Sprintf("Authentication-Info: qop=auth, nextnonce=\"n%d\"\r\n", d.nonce.Add(1))
		}
		fmt.Fprintf(s, "HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", info, len(body), body)
	}
}

func TestNoncesEnd(t *testing.T) {
	for _, next := range []bool{false, true} {
		d := &digester{life: 3, next: next}
		c := converse(t, vaultOf(), (*Vault).HTTP, d.serve)
		for i := range 20 {
			body := strings.Repeat(strconv.Itoa(i%10), i)
			c.say(fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: cam\r\nContent-Length: %d\r\n\r\n%s", i, len(body), body))
			if r, got := c.answer("POST"); r.StatusCode != 200 || got != body {
				t.Fatalf("%d: %s %q", i, r.Status, got)
			}
		}
		if n := d.wrong.Load(); n > 0 {
			t.Errorf("%d wrong counts", n)
		}
	}
}

// A service that ends the connection with its challenge, as cameras do, is asked
// again on another one; a body goes along.
func TestChallengeEndsTheConnection(t *testing.T) {
	for _, challenge := range []string{
		"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno\n",
		"HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\n\r\n<html>no</html>",
		"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 10000000\r\n\r\n",
	} {
		c := converse(t, vaultOf(), (*Vault).HTTP, func(n int, s net.Conn, in *bufio.Reader) {
			if n == 1 { // before it has seen the body
				readHead(in)
				io.WriteString(s, challenge)
				return
			}
			r, body := readRequest(in)
			if r.Header.Get("Authorization") != ourBasic {
				io.WriteString(s, "HTTP/1.1 500 Without\r\nContent-Length: 0\r\n\r\n")
			}
			fmt.Fprintf(s, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		})
		body := strings.Repeat("0123456789", 3000)
		c.say("POST / HTTP/1.1\r\nHost: cam\r\nContent-Length: 30000\r\n\r\n" + body[:10000])
		c.say(body[10000:20000])
		c.say(body[20000:])
		if r, got := c.answer("POST"); r.StatusCode != 200 || got != body {
			t.Errorf("%q: %s, %d bytes", challenge, r.Status, len(got))
		}
	}
}

// What is too long to be kept is sent once, with an answer to a challenge that
// is asked for beforehand; Expect: 100-continue works.
func TestLongBodies(t *testing.T) {
	var refused atomic.Int32
	c := converse(t, vaultOf(), (*Vault).HTTP, func(_ int, s net.Conn, in *bufio.Reader) {
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if r.Header.Get("Authorization") == "" {
				if r.Method == "PUT" {
					refused.Add(1)
				}
				fmt.Fprintf(s, wantDigest, "n", "")
				continue
			}
			if r.Header.Get("Expect") != "" {
				io.WriteString(s, "HTTP/1.1 100 Continue\r\n\r\n")
			}
			n, _ := io.Copy(io.Discard, r.Body)
			text := fmt.Sprint(n)
			fmt.Fprintf(s, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	})
	block := strings.Repeat("x", 1000)
	c.say("PUT /1 HTTP/1.1\r\nHost: cam\r\nContent-Length: 200000\r\nExpect: 100-continue\r\n\r\n")
	if line, _ := c.in.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q", line)
	}
	c.in.ReadString('\n')
	for range 200 {
		c.say(block)
	}
	if _, got := c.answer("PUT"); got != "200000" {
		t.Errorf("of the first came %s bytes", got)
	}
	c.say("PUT /2 HTTP/1.1\r\nHost: cam\r\nTransfer-Encoding: chunked\r\n\r\n")
	for range 100 {
		c.say("3e8\r\n" + block + "\r\n")
	}
	c.say("0\r\n\r\n")
	if _, got := c.answer("PUT"); got != "100000" {
		t.Errorf("of the second came %s bytes", got)
	}
	if refused.Load() != 0 {
		t.Errorf("%d long requests were refused first", refused.Load())
	}
}

// A stream reaches the client as it is said, not when it ends.
func TestStreamsAreNotHeldBack(t *testing.T) {
	for _, head := range []string{
		"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
		"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		heard := make(chan bool)
		c := converse(t, vaultOf(), (*Vault).HTTP, func(_ int, s net.Conn, in *bufio.Reader) {
			readRequest(in)
			io.WriteString(s, head)
			for range 5 {
				io.WriteString(s, "5\r\nhello\r\n") // a chunk, where there are any
				if !<-heard {
					return
				}
			}
		})
		c.say("GET / HTTP/1.1\r\nHost: cam\r\n\r\n")
		got := make([]byte, len(head))
		if _, err := io.ReadFull(c.in, got); err != nil || string(got) != head {
			t.Fatalf("%q %v", got, err)
		}
		for range 5 {
			got := make([]byte, len("5\r\nhello\r\n"))
			_, err := io.ReadFull(c.in, got)
			heard <- err == nil
			if err != nil || string(got) != "5\r\nhello\r\n" {
				t.Fatalf("%q %v", got, err)
			}
		}
	}
}

// What Apache says before it closes an idle connection is not the answer to what
// comes next.
func TestUnaskedAnswer(t *testing.T) {
	c := converse(t, vaultOf(), (*Vault).HTTP, func(_ int, s net.Conn, in *bufio.Reader) {
		readRequest(in)
		io.WriteString(s, ok+"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	c.say("GET / HTTP/1.1\r\nHost: cam\r\n\r\n")
	if got, err := io.ReadAll(c.in); err != nil || string(got) != ok {
		t.Errorf("the client sees %q %v", got, err)
	}
}

func TestRefusesWhatItCannotAnswer(t *testing.T) {
	for challenge, want := range map[string]string{
		`Digest realm="a", nonce="b", qop="auth-int"`: "auth-int",
		`Negotiate`: "neither Basic nor Digest",
		`Digest realm="a", nonce="b", algorithm=X`: "none of MD5, SHA-256",
	} {
		tries := 0
		c := converse(t, vaultOf(), (*Vault).HTTP, func(_ int, s net.Conn, in *bufio.Reader) {
			readRequest(in)
			tries++
			io.WriteString(s, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: "+challenge+"\r\nContent-Length: 0\r\n\r\n")
			if r, _ := readRequest(in); r != nil {
				tries++
			}
		})
		c.say("GET / HTTP/1.1\r\nHost: cam\r\n\r\n")
		r, body := c.answer("GET")
		if r.StatusCode != 502 || !strings.Contains(body, want) || !strings.Contains(c.side.Verdict().Error(), want) {
			t.Errorf("%s: %s %s, log: %v", challenge, r.Status, body, c.side.Verdict())
		}
		if tries != 1 {
			t.Errorf("%s: the service was asked %d times", challenge, tries)
		}
	}
}

// The times between two tries of a password that the service refuses, so that
// no camera locks the account.
func TestPasswordRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		v := NewVault(Credentials{"u", NewSecret("p")}, func(*Refusal) { told++ })
		began := time.Now()
		var at []time.Duration
		for time.Since(began) < 24*time.Hour {
			mine, r := v.try(t.Context())
			if r == nil {
				at = append(at, time.Since(began))
				v.refuse(mine, ErrWrongPassword)
			}
			time.Sleep(time.Second)
		}
		half := 0
		for _, d := range at {
			if d < 30*time.Minute {
				half++
			}
		}
		if half > 4 || len(at) < 24 || len(at) > 30 || told != len(at) {
			t.Errorf("tried at %v; told %d times", at, told)
		}
		// Once right, it is forgotten.
		time.Sleep(2 * time.Hour)
		mine, _ := v.try(t.Context())
		v.accept(mine)
		for range maxDoubts {
			if r := v.Refusal(); r != nil {
				t.Errorf("after a right one: %v", r)
			}
			v.refuse(false, ErrWrongPassword)
		}
		if r := v.Refusal(); r == nil || r.Wait != firstWait {
			t.Errorf("after a right one and %d wrong ones: %v", maxDoubts, r)
		}
	})
}

// While one connection tries, the others wait for what it finds out, and not for
// ever.
func TestOneTriesAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := vaultOf()
		mine, _ := v.try(t.Context())
		if !mine {
			t.Fatal("nobody else tries")
		}
		began := time.Now()
		if _, r := v.try(t.Context()); r == nil || !errors.Is(r, errBusy) || time.Since(began) != tryTime {
			t.Errorf("%v after %v", r, time.Since(began))
		}
		done := make(chan bool)
		go func() { mine, _ := v.try(t.Context()); done <- mine }()
		synctest.Wait()
		v.leave()
		if !<-done {
			t.Error("the next one does not try")
		}
	})
}

// A page that is refused to the account with 401, as Apache does it, closes
// neither the service nor the other pages.
func TestOnePageIsRefused(t *testing.T) {
	v := vaultOf()
	script := func(_ int, s net.Conn, in *bufio.Reader) {
		for {
			r, _ := readRequest(in)
			switch {
			case r == nil:
				return
			case r.Header.Get("Authorization") != ourBasic || r.URL.Path == "/admin":
				io.WriteString(s, wantBasic)
			default:
				io.WriteString(s, ok)
			}
		}
	}
	for i := range 10 {
		for path, want := range map[string]int{"/": 200, "/admin": 502} {
			c := converse(t, v, (*Vault).HTTP, script)
			c.say("GET / HTTP/1.1\r\nHost: cam\r\n\r\n")
			c.answer("GET")
			c.say("GET " + path + " HTTP/1.1\r\nHost: cam\r\n\r\n")
			if r, body := c.answer("GET"); r.StatusCode != want {
				t.Fatalf("%d: %s: %s %s", i, path, r.Status, body)
			}
		}
	}
	if r := v.Refusal(); r != nil {
		t.Error(r)
	}
}

func TestCommonNames(t *testing.T) {
	if !slices.IsSorted(commonNames) {
		t.Error("commonNames is not sorted")
	}
	for _, name := range []string{"Host", "CONTENT-LENGTH", "www-authenticate", "X-Other", "X-" + strings.Repeat("Y", 40)} {
		if got := lower([]byte(name)); got != strings.ToLower(name) {
			t.Errorf("lower(%q) = %q", name, got)
		}
	}
}

// A page that the account may not see is no wrong password; three before anything
// else are.
func TestForbidden(t *testing.T) {
	v := vaultOf()
	for i, want := range []bool{false, false, true} {
		mine, _ := v.try(t.Context())
		if r := v.forbid(mine); r == nil || (r.Wait > 0) != want {
			t.Errorf("403 number %d: %v", i+1, r)
		}
	}
	v = vaultOf()
	v.accept(false)
	if r := v.forbid(false); r != nil {
		t.Errorf("403 of an account that is known: %v", r)
	}
}
