package testcam

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var discard = slog.New(slog.DiscardHandler)

// talk is one RTSP client that a test drives line by line.
type talk struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	cseq int
}

func dial(t *testing.T, c *Camera) *talk {
	t.Helper()
	conn, err := net.Dial("tcp", c.RTSPAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &talk{t: t, conn: conn, in: bufio.NewReader(conn)}
}

// ask sends one request and returns status and headers of the answer.
func (k *talk) ask(method, url string, header ...string) (string, http.Header) {
	k.t.Helper()
	k.cseq++
	fmt.Fprintf(k.conn, "%s %s RTSP/1.0\r\nCSeq: %d\r\n%s\r\n", method, url, k.cseq, strings.Join(append(header, ""), "\r\n"))
	return k.answer()
}

func (k *talk) answer() (string, http.Header) {
	k.t.Helper()
	for {
		b, err := k.in.Peek(1)
		if err != nil {
			k.t.Fatalf("no answer: %v", err)
		}
		if b[0] != '$' {
			break
		}
		k.packet()
	}
	// An RTSP response reads as an HTTP one.
	line, _ := k.in.ReadString('\n')
	resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(strings.NewReader(strings.Replace(line, "RTSP/1.0", "HTTP/1.1", 1)), k.head())), nil)
	if err != nil {
		k.t.Fatal(err)
	}
	io.CopyN(io.Discard, k.in, max(0, resp.ContentLength))
	return strings.TrimSpace(resp.Status), resp.Header
}

func (k *talk) head() io.Reader {
	var buf bytes.Buffer
	for {
		line, err := k.in.ReadString('\n')
		buf.WriteString(line)
		if err != nil || line == "\r\n" {
			return &buf
		}
	}
}

func (k *talk) packet() (channel byte, body []byte) {
	k.t.Helper()
	var head [4]byte
	if _, err := io.ReadFull(k.in, head[:]); err != nil {
		k.t.Fatal(err)
	}
	body = make([]byte, int(head[2])<<8|int(head[3]))
	if _, err := io.ReadFull(k.in, body); err != nil {
		k.t.Fatal(err)
	}
	return head[1], body
}

func TestRequests(t *testing.T) {
	c := start(t, Options{Viewers: 1})
	url := c.URL()
	tests := []struct{ method, url, header, want string }{
		{"OPTIONS", "*", "", "200 OK"},
		{"OPTIONS", url, "", "200 OK"},
		{"DESCRIBE", url, "", "200 OK"},
		{"DESCRIBE", "rtsp://elsewhere.example.net:8554/live", "", "200 OK"},
		{"DESCRIBE", url + "/other", "", "404 Not Found"},
		{"DESCRIBE", "%zz", "", "404 Not Found"},
		{"PLAY", url, "", "454 Session Not Found"},
		{"PAUSE", url, "", "454 Session Not Found"},
		{"TEARDOWN", url, "", "454 Session Not Found"},
		{"PLAY", url, "Session: mine", "454 Session Not Found"},
		{"SETUP", url + "/video", "", "461 Unsupported Transport"},
		{"SETUP", url + "/video", "Transport: RTP/AVP;multicast", "461 Unsupported Transport"},
		{"SETUP", url + "/video", "Transport: RTP/SAVP;unicast;client_port=5000-5001", "461 Unsupported Transport"},
		{"SETUP", url + "/video", "Transport: RTP/AVP;unicast;client_port=0-1", "461 Unsupported Transport"},
		{"SETUP", url + "/video", "Transport: RTP/AVP/TCP;interleaved=256-257", "461 Unsupported Transport"},
		{"RECORD", url, "", "501 Not Implemented"},
		{"SETUP", url + "/video", "Transport: RTP/SAVP;unicast, RTP/AVP/TCP;unicast;interleaved=4-5", "200 OK"},
		{"SETUP", url + "/video", "Transport: RTP/AVP/TCP;unicast", "455 Method Not Valid in This State"},
		{"PLAY", url, "", "200 OK"},
		{"PLAY", url, "", "200 OK"},
		{"GET_PARAMETER", url, "Content-Length: 0", "200 OK"},
		{"PAUSE", url, "", "200 OK"},
		{"PAUSE", url, "", "200 OK"},
		{"PLAY", url, "", "200 OK"},
		{"TEARDOWN", url, "", "200 OK"},
		{"SETUP", url + "/video", "Transport: RTP/AVP;unicast;client_port=5000-5001", "200 OK"},
	}
	k := dial(t, c)
	for _, test := range tests {
		var header []string
		if test.header != "" {
			header = append(header, test.header)
		}
		got, h := k.ask(test.method, test.url, header...)
		if got != test.want || h.Get("Cseq") != fmt.Sprint(k.cseq) {
			t.Errorf("%s %s %q: got %q, CSeq %q, want %q, %d", test.method, test.url, test.header, got, h.Get("Cseq"), test.want, k.cseq)
		}
	}
}

func TestDescribeNamesItself(t *testing.T) {
	c := start(t, Options{})
	_, h := dial(t, c).ask("DESCRIBE", "rtsp://elsewhere.example.net/live")
	if got, want := h.Get("Content-Base"), "rtsp://"+c.RTSPAddr().String()+"/live/"; got != want {
		t.Errorf("Content-Base: got %q, want %q", got, want)
	}
}

func TestViewersAreLimited(t *testing.T) {
	c := start(t, Options{Viewers: 1})
	k := dial(t, c)
	k.ask("SETUP", c.URL(), "Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
	k.ask("PLAY", c.URL())
	if got, _ := dial(t, c).ask("SETUP", c.URL(), "Transport: RTP/AVP/TCP"); got != "453 Not Enough Bandwidth" {
		t.Errorf("second viewer by RTSP: got %q", got)
	}
	resp, err := http.Get("http://" + c.HTTPAddr().String() + "/frame.jpg")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("second viewer by HTTP: got %s", resp.Status)
	}
	k.ask("TEARDOWN", c.URL())
	if got, _ := dial(t, c).ask("SETUP", c.URL(), "Transport: RTP/AVP/TCP"); got != "200 OK" {
		t.Errorf("after the first has gone: got %q", got)
	}
}

// TestSlowViewerDelaysNobody has one client that reads nothing, on each way,
// and one that gets every picture all the same.
func TestSlowViewerDelaysNobody(t *testing.T) {
	c := start(t, Options{FPS: 30, Quality: 99})
	stuck := dial(t, c)
	stuck.ask("SETUP", c.URL(), "Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
	stuck.ask("PLAY", c.URL())
	resp, err := http.Get("http://" + c.HTTPAddr().String() + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	k := dial(t, c)
	k.ask("SETUP", c.URL(), "Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
	k.ask("PLAY", c.URL())
	for pictures := 0; pictures < 40; {
		if channel, p := k.packet(); channel == 0 && p[1]&0x80 != 0 {
			pictures++
		}
	}
}

func TestReportsAreSent(t *testing.T) {
	c := start(t, Options{FPS: 60})
	k := dial(t, c)
	k.ask("SETUP", c.URL(), "Transport: RTP/AVP/TCP;unicast;interleaved=2-3")
	k.ask("PLAY", c.URL())
	for {
		if channel, p := k.packet(); channel == 3 {
			if len(p)%4 != 0 || p[1] != 200 {
				t.Errorf("report: got % x", p)
			}
			return
		}
	}
}

// TestSilentClientIsDropped runs in virtual time, over a pipe.
func TestSilentClientIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		begin := time.Now()
		go newRTSPConn(&Camera{log: discard}, far).serve()
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read: got %v, want EOF", err)
		}
		if got := time.Since(begin); got != sessionTimeout {
			t.Errorf("silent client dropped after %v, want %v", got, sessionTimeout)
		}
	})
}

func TestCloseWhilePlaying(t *testing.T) {
	for _, way := range []string{"RTP/AVP/TCP;unicast;interleaved=0-1", "RTP/AVP;unicast;client_port=50000-50001"} {
		c := start(t, Options{FPS: 60})
		k := dial(t, c)
		k.ask("SETUP", c.URL(), "Transport: "+way)
		k.ask("PLAY", c.URL())
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{Width: 641}, {Width: 312}, {Height: 2048}, {FPS: 61}, {Quality: 100}, {RTSP: "no address"}, {HTTP: "no address"}} {
		if c, err := Start(o); err == nil {
			c.Close()
			t.Errorf("%+v: no error", o)
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte("DESCRIBE rtsp://192.0.2.1/live RTSP/1.0\r\nCSeq: 1\r\n\r\n"))
	f.Add([]byte("$\x01\x00\x02ab\r\nOPTIONS * RTSP/1.0\r\nContent-Length: 3\r\n\r\nabcPLAY * RTSP/1.0\r\n\r\n"))
	f.Add([]byte("SETUP rtsp://[2001:db8::1]/live/video RTSP/1.0\nTransport: RTP/AVP;unicast;client_port=1-2,RTP/AVP/TCP\n\n"))
	f.Add([]byte("A B RTSP/1.0\r\nContent-Length: 99999999999\r\n\r\n"))
	f.Add(bytes.Repeat([]byte("x"), maxLine+1))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(data), maxLine)
		for {
			req, err := readRequest(r, func(byte) {})
			if err != nil {
				return
			}
			if req.method == "" || req.url == "" || len(req.header) > maxHeaders {
				t.Fatalf("accepted %+v", req)
			}
			ours(req.url)
			if way, ok := parseTransport(req.header.Get("Transport")); ok && way.tcp && (way.rtp > 255 || way.rtcp > 255) {
				t.Fatalf("channels of %+v", way)
			}
			answer := response{status: 200}.append(nil, req)
			if head, _, _ := bytes.Cut(answer, []byte("\r\n\r\n")); bytes.Count(head, []byte("\n")) > 2 {
				t.Fatalf("a request put lines into the answer: %q", answer)
			}
		}
	})
}
