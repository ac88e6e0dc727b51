package tunnel

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/tunnel/tries"
)

// guarded is a watcher between two sinks with a ledger of its own.
type guarded struct {
	*rtspPair
	*guard
	asker  *tries.Asker
	failed int
}

var nobody = tries.Who{Service: "cam", Key: [32]byte{1}, Source: netip.MustParseAddr("192.0.2.7")}

func newGuarded(typ string) *guarded {
	w := &guarded{rtspPair: &rtspPair{toService: new(sink), toClient: new(sink)}}
	ledger := tries.New(tries.Config{Failed: func(tries.Who, time.Duration) { w.failed++ }})
	w.asker = ledger.Asker(nobody)
	kind, _ := TypeOf(typ)
	w.guard = newGuard(w.asker, kind.Refusals)
	var t Traffic
	w.up = &flow{from: w.toClient, to: w.toService, moved: &t.up}
	w.down = &flow{from: w.toService, to: w.toClient, moved: &t.down}
	if typ == "rtsp" {
		watch(w.up, w.down, w.guard)
	} else {
		watchHTTP(w.up, w.down, w.guard)
	}
	return w
}

const (
	plainGet   = "GET /cam HTTP/1.1\r\nHost: h\r\n\r\n"
	basicGet   = "GET /cam HTTP/1.1\r\nHost: h\r\naUTHORIZATION:Basic YTpi\r\n\r\n"
	post       = "POST /cam HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
	challenged = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 2\r\n\r\nno"
	fine       = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"
	chunked    = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\nB\r\nHTTP/1.1 40\r\n0\r\nX: y\r\n\r\n"
	digestGet  = "GET /cam HTTP/1.1\r\nHost: h\r\nAuthorization: Digest username=\"a\", response=\"b\"\r\n\r\n"
)

// What goes by, in turns: client, service, client, … and what the ledger has of it.
var dialogues = map[string]struct {
	typ    string
	turns  []string
	failed int
	known  bool
}{
	"a first challenge is no try":     {"http", []string{plainGet, challenged, plainGet, challenged}, 0, false},
	"wrong":                           {"http", []string{plainGet, challenged, basicGet, challenged}, 1, false},
	"right":                           {"http", []string{plainGet, challenged, basicGet, fine}, 0, true},
	"wrong, then right":               {"http", []string{basicGet, challenged, basicGet, fine}, 1, true},
	"right where anybody is let in":   {"http", []string{plainGet, fine, basicGet, fine}, 0, false},
	"neither":                         {"http", []string{plainGet, challenged, basicGet, strings.Replace(fine, "200", "404", 1)}, 0, false},
	"403 is no refusal of http":       {"http", []string{plainGet, challenged, basicGet, strings.Replace(fine, "200", "403", 1)}, 0, false},
	"pipelined":                       {"http", []string{plainGet + basicGet + plainGet + basicGet, challenged + challenged + fine + challenged}, 2, false},
	"pipelined with bodies":           {"http", []string{post + basicGet + post, fine + challenged + chunked}, 1, false},
	"HEAD":                            {"http", []string{"HEAD / HTTP/1.1\r\n\r\n" + basicGet, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + challenged}, 1, false},
	"204 and 304":                     {"http", []string{plainGet + plainGet + basicGet, "HTTP/1.1 204 No\r\n\r\nHTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n" + challenged}, 1, false},
	"1xx":                             {"http", []string{"POST / HTTP/1.1\r\nExpect: 100-continue\r\nAuthorization: Basic eA==\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hint\r\nLink: x\r\n\r\n", "ab", challenged}, 1, false},
	"chunked request":                 {"http", []string{"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3;x\r\nGET\r\n0\r\n\r\n" + basicGet, fine + challenged}, 1, false},
	"a body that looks like requests": {"http", []string{"POST / HTTP/1.1\r\nContent-Length: 56\r\n\r\n" + strings.Repeat(basicGet, 3)[:56] + plainGet, fine + challenged}, 0, false},
	"until the end":                   {"http", []string{plainGet, "HTTP/1.0 200 OK\r\n\r\nHTTP/1.1 401 Unauthorized\r\n\r\n"}, 0, false},
	"old services":                    {"http", []string{"\r\n" + plainGet + basicGet, "HTTP/1.0 200 OK\nContent-length : 2\n\nokHTTP/1.1 401 no\nContent-Length: 0\n\n"}, 1, false},
	"digest":                          {"http", []string{plainGet, challenged, digestGet, fine}, 0, true},
	"stale is no try":                 {"http", []string{plainGet, challenged, digestGet, "HTTP/1.1 401 no\r\nWWW-Authenticate: Digest nonce=\"x\", Stale=TRUE\r\nContent-Length: 0\r\n\r\n"}, 0, false},
	"stale of no digest is one":       {"http", []string{plainGet, challenged, basicGet, "HTTP/1.1 401 no\r\nWWW-Authenticate: Digest nonce=\"x\", stale=true\r\nContent-Length: 0\r\n\r\n"}, 1, false},
	"a user in the target":            {"http", []string{"GET http://a:b@h/ HTTP/1.1\r\n\r\n", challenged}, 1, false},
	"WebSocket":                       {"http", []string{"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n\x81\x02hi", "\x81\x82anything \x00 at all", "HTTP/1.1 401 \x00"}, 0, false},
	"WebSocket refused":               {"http", []string{"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", challenged, basicGet, challenged}, 1, false},
	"h2c that is ignored":             {"http", []string{"GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n", fine, basicGet, challenged}, 1, false},

	"rtsp: first challenge":    {"rtsp", []string{rtspPlain, rtsp401}, 0, false},
	"rtsp: wrong":              {"rtsp", []string{rtspPlain, rtsp401, rtspAuth, strings.Replace(rtsp401, "CSeq: 1", "CSeq: 2", 1)}, 1, false},
	"rtsp: 403":                {"rtsp", []string{rtspAuth, strings.Replace(strings.Replace(rtsp401, "CSeq: 1", "CSeq: 2", 1), "401", "403", 1)}, 1, false},
	"rtsp: right":              {"rtsp", []string{rtspPlain, rtsp401, rtspAuth, "RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 2\r\n\r\nv="}, 0, true},
	"rtsp: plays":              {"rtsp", []string{setupTCP, "RTSP/1.0 200 OK\r\nCSeq: 3\r\n\r\n" + frame, frame + rtspAuth, frame + "RTSP/1.0 401 no\r\nCSeq: 2\r\n\r\n" + frame}, 1, false},
	"rtsp: some unanswered":    {"rtsp", []string{options + rtspAuth + setupTCP, "RTSP/1.0 200 OK\r\nCSeq: 3\r\n\r\n"}, 1, false},
	"rtsp: user in the target": {"rtsp", []string{"DESCRIBE rtsp://a:b@h/ RTSP/1.0\r\nCSeq: 1\r\n\r\n", rtsp401}, 1, false},
}

const (
	rtspPlain = "DESCRIBE rtsp://h/ RTSP/1.0\r\nCSeq: 1\r\n\r\n"
	rtspAuth  = "DESCRIBE rtsp://h/ RTSP/1.0\r\nCSeq: 2\r\nAuthorization: Digest username=\"a\"\r\n\r\n"
	rtsp401   = "RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\nWWW-Authenticate: Digest nonce=\"1\"\r\n\r\n"
)

// Whatever the sizes of the reads, what goes in comes out, and the same is counted.
func TestWhatPassesAndWhatCounts(t *testing.T) {
	for name, c := range dialogues {
		for _, size := range []int{1, 2, 3, 7, 40, 1 << 16} {
			w := newGuarded(c.typ)
			var want [2]string
			for i, turn := range c.turns {
				want[i%2] += turn
				if err := feed([]*flow{w.up, w.down}[i%2], turn, size); err != nil {
					t.Fatalf("%s, chunks of %d, turn %d: %v", name, size, i, err)
				}
			}
			if got := w.toService.String(); got != want[0] {
				t.Errorf("%s, chunks of %d: service got %q, want %q", name, size, got, want[0])
			}
			if got := w.toClient.String(); got != want[1] {
				t.Errorf("%s, chunks of %d: client got %q, want %q", name, size, got, want[1])
			}
			if w.failed != c.failed || w.asker.Known() != c.known {
				t.Errorf("%s, chunks of %d: %d failed, known %v; want %d, %v", name, size, w.failed, w.asker.Known(), c.failed, c.known)
			}
		}
	}
}

// What servers could read in another way than the guard does not reach them.
func TestAmbiguousRequestsDoNotPass(t *testing.T) {
	for _, c := range []struct{ typ, request string }{
		{"http", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
		{"http", "\x16\x03\x01\x02\x00"},
		{"http", "CONNECT h:80 HTTP/1.1\r\n\r\n"},
		{"http", "GET /\r\n\r\n"},
		{"http", "GET / HTTP/0.9\r\n\r\n"},
		{"http", "GET  / HTTP/1.1\r\n\r\n"},
		{"http", "GET /a b HTTP/1.1\r\n\r\n"},
		{"http", "GET / HTTP/1.1\nHost: h\n\n"},
		{"http", "GET / HTTP/1.1\r\nHost: h\n\r\n"},
		{"http", "GET / HTTP/1.1\r\nHost: h\rAuthorization: Basic eA==\r\n\r\n"},
		{"http", "GET / HTTP/1.1\r\nAuthorization : Basic eA==\r\n\r\n"},
		{"http", "GET / HTTP/1.1\r\nX: y\r\n Authorization: Basic eA==\r\n\r\n"},
		{"http", "GET / HTTP/1.1\r\nX: \x00\r\n\r\n"},
		{"http", "GET / HTTP/1.1\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n"},
		{"http", "GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"},
		{"http", "HEAD / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"http", "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"},
		{"http", "POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nhello"},
		{"http", "POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello"},
		{"http", "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"http", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"http", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
		{"http", "POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n"},
		{"http", "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n"},
		{"http", "GET / HTTP/1.1\r\nX: " + strings.Repeat("a", maxHTTPHead) + "\r\n\r\n"},
		{"rtsp", "GET /x HTTP/1.1\r\nx-sessioncookie: a\r\n\r\n"},
		{"rtsp", "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 4\r\n\r\nabcd"},
		{"rtsp", "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX: a\rAuthorization: b\r\n\r\n"},
		{"rtsp", "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX: a\r\n Authorization: b\r\n\r\n"},
		{"rtsp", "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n"},
		{"rtsp", frame},
	} {
		w := newGuarded(c.typ)
		err := feed(w.up, c.request, 1<<16)
		var broken *ProtocolError
		if !errors.As(err, &broken) || w.toService.Len() > 0 {
			t.Errorf("%.60q: %v, service got %q", c.request, err, w.toService.String())
		}
	}
	for _, body := range []string{
		"5\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n", "\r\nhello", "5\r\nhelloX\r\n", "-1\r\n",
		"5;a\x00\r\nhello\r\n", strings.Repeat("0", 20) + "5\r\n", "5;" + strings.Repeat("a", maxChunkLine) + "\r\n",
		"0\r\nAuthorization: Basic eA==\r\n\r\n", "0\r\nX: y\n\r\n", "0\r\nX\r\n\r\n", "0\r\nX: " + strings.Repeat("a", maxHTTPHead) + "\r\n\r\n",
	} {
		w := newGuarded("http")
		if err := feed(w.up, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"+body, 1<<16); err == nil {
			t.Errorf("chunked body %.40q passed", body)
		}
	}
}

// A service that says what the guard cannot place ends the tunnel before it is heard.
func TestAnswersThatFitNothing(t *testing.T) {
	for name, c := range map[string]struct {
		typ, up, down string
		failed        int
	}{
		"unasked":          {"http", plainGet, fine + challenged, 1},
		"unasked at once":  {"http", "", challenged, 1},
		"h2c":              {"http", "GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n", "HTTP/1.1 101 Switching\r\n\r\n", 0},
		"both":             {"http", "GET / HTTP/1.1\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n", "HTTP/1.1 101 Switching\r\n\r\n", 0},
		"TLS":              {"http", "GET / HTTP/1.1\r\nUpgrade: TLS/1.0\r\n\r\n", "HTTP/1.1 101 Switching\r\n\r\n", 0},
		"101 for nothing":  {"http", plainGet, "HTTP/1.1 101 Switching\r\n\r\n", 0},
		"two lengths":      {"http", plainGet, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 0},
		"no HTTP":          {"http", plainGet, "SSH-2.0-x\r\n\r\n", 0},
		"endless, asked":   {"http", plainGet + basicGet, "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 401 no\r\n\r\n", 0},
		"endless head":     {"http", plainGet, "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", maxHTTPHead), 0},
		"rtsp unasked":     {"rtsp", rtspPlain, rtsp401 + rtsp401, 1},
		"rtsp no messages": {"rtsp", rtspPlain, "\x00\x01", 0},
	} {
		w := newGuarded(c.typ)
		if err := feed(w.up, c.up, 1<<16); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		err := feed(w.down, c.down, 1<<16)
		var broken *ProtocolError
		if !errors.As(err, &broken) || strings.Contains(w.toClient.String(), "401") && c.failed > 0 && c.up == "" || w.failed != c.failed {
			t.Errorf("%s: %v, client got %q, %d failed, want %d", name, err, w.toClient.String(), w.failed, c.failed)
		}
	}
	w := newGuarded("http")
	if err := errors.Join(feed(w.down, "HTTP/1.1 408 Timeout\r\nConnection: close\r\n\r\n", 99)); err != nil {
		t.Errorf("a service that has waited too long: %v", err)
	}
	if err := feed(w.up, basicGet, 99); err == nil {
		t.Error("a request behind the last answer passed")
	}
}

// The request behind three failures is held for its time, and then goes on as it is.
func TestRequestsAreHeld(t *testing.T) {
	for typ, c := range map[string][2]string{"http": {basicGet, challenged}, "rtsp": {rtspAuth, strings.Replace(rtsp401, "CSeq: 1", "CSeq: 2", 1)}} {
		synctest.Test(t, func(t *testing.T) {
			w := newGuarded(typ)
			sent := ""
			for n := range 6 {
				began := time.Now()
				held := make(chan error)
				go func() { held <- feed(w.up, c[0], 7) }()
				if err := <-held; err != nil {
					t.Fatal(err)
				}
				if got := time.Since(began).Round(10 * time.Millisecond); got != tries.Delay(n) {
					t.Errorf("%s: request %d was held for %v, want %v", typ, n, got, tries.Delay(n))
				}
				if sent += c[0]; w.toService.String() != sent {
					t.Fatalf("%s: service got %q", typ, w.toService.String())
				}
				if err := feed(w.down, c[1], 7); err != nil {
					t.Fatal(err)
				}
			}
			// Without a password it is not held, and one that is held ends with its tunnel.
			if err := feed(w.up, map[string]string{"http": plainGet, "rtsp": rtspPlain}[typ], 99); err != nil {
				t.Fatal(err)
			}
			held := make(chan error)
			go func() { held <- feed(w.up, c[0], 7) }()
			synctest.Wait()
			w.wake()
			if err := <-held; err == nil || strings.Count(strings.ToLower(w.toService.String()), "authorization") != 6 {
				t.Errorf("%s: a held request of a tunnel that has ended: %v", typ, err)
			}
		})
	}
}

// A service that hangs up in place of an answer has refused; a client that does was
// never told.
func TestHangingUp(t *testing.T) {
	w := newGuarded("http")
	if err := feed(w.up, basicGet, 99); err != nil {
		t.Fatal(err)
	}
	w.down.follow.ended(outcome{side: WhyService, first: true})
	if w.failed != 1 {
		t.Errorf("%d failed when the service hung up, want 1", w.failed)
	}
	if err := feed(w.up, plainGet, 99); err == nil {
		t.Error("a request to a service that has gone")
	}
}

// Through a real Pump: what the client sends while a request is held waits in the
// network, and the end of either side ends the tunnel.
func TestHeldTunnelEnds(t *testing.T) {
	for _, side := range []string{"service", "cut"} {
		kind, _ := TypeOf("http")
		ledger := tries.New(tries.Config{})
		for range tries.FreeTries + 9 {
			ledger.Asker(nobody).Fail()
		}
		w := startPump(t, Pump{guard: newGuard(ledger.Asker(nobody), kind.Refusals)}, "tcp4", false)
		send(t, w.client, plainGet+basicGet)
		expect(t, w.service, plainGet)
		send(t, w.service, fine)
		expect(t, w.client, fine)
		if side == "service" {
			w.service.Close()
		} else {
			w.cut(errors.New("enough"))
		}
		if r := <-w.report; r.Up != int64(len(plainGet)) {
			t.Errorf("%s: %+v", side, r)
		}
	}
}

// requestsOf reads what a server gets as Go's own server would, and counts those
// with a password.
func requestsOf(data []byte) (withPassword int) {
	r := bufio.NewReader(bytes.NewReader(data))
	for {
		q, err := http.ReadRequest(r)
		if err != nil {
			return withPassword
		}
		if q.Header.Get("Authorization") != "" {
			withPassword++
		}
		if _, err := io.Copy(io.Discard, q.Body); err != nil {
			return withPassword
		}
	}
}

// FuzzGuard: the bytes that come out are those that went in, whatever comes; and no
// request with a password reaches the service that the guard has not seen.
func FuzzGuard(f *testing.F) {
	for _, c := range dialogues {
		var both [2]string
		for i, turn := range c.turns {
			both[i%2] += turn
		}
		f.Add(c.typ == "rtsp", []byte(both[0]), []byte(both[1]), 7)
	}
	f.Add(false, []byte("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+basicGet), []byte(nil), 3)
	f.Fuzz(func(t *testing.T, rtsp bool, up, down []byte, size int) {
		size = 1 + max(size, -size)&0xfff
		typ := "http"
		if rtsp {
			typ = "rtsp"
		}
		w := newGuarded(typ)
		asked := make(chan error, 1)
		go func() { asked <- feed(w.up, string(up), size) }()
		var upErr, downErr error
		if len(down) > 0 {
			downErr = feed(w.down, string(down), size)
			w.wake()
			upErr = <-asked
		} else {
			upErr = unanswered(w, asked)
			if n := requestsOf(w.toService.Bytes()); !rtsp && n > w.passwords() {
				t.Fatalf("%d passwords reached the service, %d were seen: %q", n, w.passwords(), w.toService.Bytes())
			}
		}
		if rtsp && bytes.Contains(bytes.ToUpper(up), []byte("TRANSPORT")) {
			return // the RTSP watcher answers SETUPs for UDP itself
		}
		same(t, "service", up, w.toService.Bytes(), upErr)
		same(t, "client", down, w.toClient.Bytes(), downErr)
	})
}

// unanswered waits until the client's direction has ended, or waits for an answer
// that does not come.
func unanswered(w *guarded, asked chan error) error {
	select {
	case err := <-asked:
		return err
	case <-time.After(time.Millisecond):
		w.wake()
		return <-asked
	}
}

func (g *guarded) passwords() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, x := range g.open {
		if x.try != nil {
			n++
		}
	}
	return n
}

// same compares what went in with what came out. Without an error only an incomplete
// head is missing.
func same(t *testing.T, who string, in, out []byte, err error) {
	t.Helper()
	if !bytes.HasPrefix(in, out) {
		t.Fatalf("the %s got %q of %q", who, out, in)
	}
	if missing := len(in) - len(out); err == nil && missing > maxHTTPHead {
		t.Fatalf("%d bytes for the %s are missing", missing, who)
	}
}
