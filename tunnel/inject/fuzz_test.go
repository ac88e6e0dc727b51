package inject

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a connection to a service, in memory. What it answers comes from
// another goroutine or is there from the start.
type fake struct {
	net.Conn // nil: what is not below is not called
	in       io.Writer
	out      io.ReadCloser
	once     sync.Once
	done     func()
}

func (f *fake) Write(p []byte) (int, error)        { return f.in.Write(p) }
func (f *fake) Read(p []byte) (int, error)         { return f.out.Read(p) }
func (f *fake) CloseWrite() error                  { f.once.Do(f.done); return nil }
func (f *fake) Close() error                       { f.once.Do(f.done); return f.out.Close() }
func (f *fake) SetWriteDeadline(_ time.Time) error { return nil }

func noDial(context.Context) (net.Conn, error) { return nil, net.ErrClosed }

// met is a vault that knows that the service wants Basic.
func met() *Vault {
	v := vaultOf()
	v.learn(offer{challenge: challenge{scheme: "basic"}}, "GET", "/")
	v.accept(false)
	return v
}

// FuzzRequests: whatever the client says, the service gets requests that Go's own
// server reads, each with our Authorization and no other.
func FuzzRequests(f *testing.F) {
	for _, s := range []string{
		get, get + get, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n" + get,
		"GET / HTTP/1.0\r\n\r\n", "GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET / HTTP/1.1\nHost: a\n\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: authorization, host\r\n\r\n", "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
	} {
		f.Add([]byte(s), 7)
	}
	f.Fuzz(func(t *testing.T, data []byte, step int) {
		if len(data) > 4<<10 {
			return
		}
		toService, fromClient := io.Pipe()
		toClient, fromService := io.Pipe()
		var wrong error
		served := make(chan struct{})
		go func() {
			defer close(served)
			defer fromService.Close()
			defer toService.Close()
			wrong = serveStrictly(toService, fromService)
		}()
		side := met().HTTP(&fake{in: fromClient, out: toClient, done: func() { fromClient.Close() }}, noDial)
		read := make(chan struct{})
		go func() { defer close(read); io.Copy(io.Discard, side) }()
		if step = step & 0xff; step == 0 {
			step = len(data) + 1
		}
		for len(data) > 0 {
			n := min(step, len(data))
			if _, err := side.Write(data[:n]); err != nil {
				break
			}
			data = data[n:]
		}
		side.CloseWrite()
		<-served
		side.Close()
		<-read
		if wrong != nil {
			t.Fatal(wrong)
		}
	})
}

// serveStrictly reads requests as net/http does and answers each.
func serveStrictly(r io.Reader, w io.Writer) error {
	in := bufio.NewReader(r)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return lax(err)
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return lax(err) // the client may have broken off
		}
		if a := req.Header["Authorization"]; len(a) != 1 || a[0] != ourBasic {
			return errors.New("Authorization is " + strings.Join(a, ", "))
		}
		for name := range req.Header {
			if name != "Authorization" && secret(strings.ToLower(name)) {
				return errors.New("the service sees " + name)
			}
		}
		if _, err := io.WriteString(w, "HTTP/1.1 204 No Content\r\n\r\n"); err != nil {
			return nil
		}
	}
}

// lax lets pass what net/http finds wrong in URLs and Hosts, which are the
// service's to judge.
func lax(err error) error {
	var inURL *url.Error
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &inURL) || strings.Contains(err.Error(), "unexpected EOF") || strings.Contains(err.Error(), "malformed Host") ||
		strings.Contains(err.Error(), "invalid URI") {
		return nil
	}
	return err
}

// FuzzAnswers: whatever the service says, the client sees answers that Go's own
// client reads, without a word about passwords, or an end that is no orderly one.
func FuzzAnswers(f *testing.F) {
	for _, s := range []string{
		ok, wantBasic, wantBasic + ok, "HTTP/1.0 200 OK\n\nabc", "HTTP/1.1 100 Continue\r\n\r\n" + ok, "HTTP/1.1 204 X\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: WWW-Authenticate\r\n\r\n1\r\na\r\n0\r\nWWW-Authenticate: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nWWW-Authenticate: Basic\r\nConnection: content-length\r\nContent-Length: 1\r\n\r\na", "HTTP/1.1 403 No\r\n\r\n",
		"HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm=\"x\", nonce=\"y\"\r\nContent-Length: 0\r\n\r\nHTTP/1.1 401 No\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		side := vaultOf().HTTP(&fake{in: io.Discard, out: io.NopCloser(bytes.NewReader(data)), done: func() {}}, noDial)
		io.WriteString(side, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		seen, err := io.ReadAll(side)
		side.Close()
		if err != nil || len(seen) == 0 {
			return
		}
		in := bufio.NewReader(bytes.NewReader(seen))
		for {
			r, err := http.ReadResponse(in, nil)
			if err != nil {
				if strings.Contains(err.Error(), "malformed HTTP status code") || strings.Contains(err.Error(), "invalid Keep-Alive") {
					return
				}
				t.Fatalf("%v in %q", err, seen)
			}
			for name := range r.Header {
				if secret(strings.ToLower(name)) {
					t.Fatalf("the client sees %s in %q", name, seen)
				}
			}
			if r.StatusCode < 200 {
				continue
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				t.Fatalf("%v in %q", err, seen)
			}
			if len(r.Trailer) > 0 && r.Trailer.Get("WWW-Authenticate") != "" {
				t.Fatalf("a trailer in %q", seen)
			}
			return
		}
	})
}

// FuzzRTSP: both directions, in pieces of step bytes.
func FuzzRTSP(f *testing.F) {
	const options = "OPTIONS rtsp://u:p@a/ RTSP/1.0\r\nCSeq: 1\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3M=\r\n\r\n"
	for _, s := range [][2]string{
		{options, "RTSP/1.0 401 No\r\nCSeq: 1\r\nWWW-Authenticate: Digest realm=\"a\", nonce=\"b\"\r\n\r\nRTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"},
		{"$\x00\x00\x03abc" + options + "$\x01\x00\x00", "$\x00\x00\x03abcRTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 2\r\n\r\nxx$\x00\x00"},
		{"ANNOUNCE a RTSP/1.0\r\nCSeq: 2\r\nContent-Length: 3\r\n\r\nabcRTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\n", "OPTIONS * RTSP/1.0\r\nCSeq: 9\r\n\r\n\r\n"},
		{"GET / HTTP/1.0\r\n\r\n", ""}, {"OPTIONS * RTSP/1.0\nCSeq: 1\n\n", "RTSP/1.0 403 No\nCSeq: 1\n\n"},
	} {
		f.Add([]byte(s[0]), []byte(s[1]), 5)
	}
	f.Fuzz(func(t *testing.T, up, down []byte, step int) {
		var got bytes.Buffer
		side := vaultOf().RTSP(&fake{in: &got, out: io.NopCloser(bytes.NewReader(down)), done: func() {}}, noDial)
		if step = step & 0xff; step == 0 {
			step = len(up) + 1
		}
		for len(up) > 0 {
			n := min(step, len(up))
			if _, err := side.Write(up[:n]); err != nil {
				break
			}
			up = up[n:]
		}
		side.CloseWrite()
		seen := new(bytes.Buffer)
		room := make([]byte, step)
		for {
			n, err := side.Read(room)
			seen.Write(room[:n])
			if err != nil {
				break
			}
		}
		side.Close()
		checkUnits(t, got.Bytes(), true)
		checkUnits(t, seen.Bytes(), false)
	})
}

// checkUnits reads messages and frames as they were written, up to what is not
// whole.
func checkUnits(t *testing.T, p []byte, toService bool) {
	for len(p) > 0 {
		if n := wholeFrames(p); n > 0 {
			p = p[n:]
			continue
		}
		end, _ := headEnd(p, 0, false)
		if p[0] == '$' || end < 0 {
			return
		}
		var h head
		if reason := h.parse(p[:end]); reason != "" {
			t.Fatalf("%s in %q", reason, p[:end])
		}
		for _, f := range h.fields {
			if secret(f.name) && !(toService && f.name == "authorization" && strings.HasPrefix(string(f.value), `Digest username="operator"`) || string(f.value) == ourBasic) {
				t.Fatalf("%q goes on", f.line)
			}
		}
		n, _ := h.rtspBody()
		p = p[min(int64(len(p)), int64(end)+n):]
	}
}
