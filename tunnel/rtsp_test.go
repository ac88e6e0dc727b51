package tunnel

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
)

// sink is a Conn end that keeps what is written.
type sink struct {
	mu sync.Mutex
	bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Buffer.Write(p)
}
func (s *sink) Read([]byte) (int, error) { return 0, io.EOF }
func (s *sink) Close() error             { return nil }
func (s *sink) CloseWrite() error        { return nil }

// rtspPair is a watcher between two sinks, without goroutines: the test feeds
// each direction in the order it likes.
type rtspPair struct {
	up, down            *flow
	toService, toClient *sink
}

func newRTSPPair() *rtspPair {
	toService, toClient := new(sink), new(sink)
	var t Traffic
	w := &rtspPair{toService: toService, toClient: toClient}
	w.up = &flow{from: toClient, to: toService, moved: &t.up}
	w.down = &flow{from: toService, to: toClient, moved: &t.down}
	watch(w.up, w.down, nil)
	return w
}

// feed passes all of s in chunks of at most size bytes.
func feed(f *flow, s string, size int) error {
	for len(s) > 0 {
		n := min(size, len(s))
		if err := f.forward([]byte(s[:n])); err != nil {
			return err
		}
		s = s[n:]
	}
	return nil
}

const (
	options  = "OPTIONS rtsp://h/ RTSP/1.0\r\nCSeq: 1\r\n\r\n"
	okay1    = "RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: SETUP\r\n\r\n"
	setupUDP = "SETUP rtsp://192.0.2.9/a/trackID=0 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP;unicast;client_port=5000-5001\r\n\r\n"
	setupTCP = "SETUP rtsp://192.0.2.9/a/trackID=0 RTSP/1.0\r\nCSeq: 3\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"
	refused2 = "RTSP/1.0 461 Unsupported Transport\r\nCSeq: 2\r\n\r\n"
	frame    = "$\x00\x00\x08RTSP/1.0"
	describe = "RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Base: rtsp://192.0.2.9/a/\r\nContent-Length: 5\r\n\r\n$v=0\n"
)

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		transport string
		want      setup
		left      string
	}{
		{"RTP/AVP;unicast;client_port=1-2", setupRefuse, ""},
		{"RTP/AVP/UDP;unicast;client_port=1-2", setupRefuse, ""},
		{"RTP/AVP;multicast", setupRefuse, ""},
		{"rtp/savpf;unicast", setupRefuse, ""},
		{"RTP/AVP;unicast,RTP/AVP;multicast", setupRefuse, ""},
		{"MP2T/H2221/UDP;unicast", setupRefuse, ""},
		{"RTP/AVP/TCP;unicast;interleaved=0-1", setupPass, ""},
		{"rtp/avp/tcp", setupPass, ""},
		{"RTP/AVP;unicast;interleaved=0-1", setupPass, ""},
		{"RTP/SAVPF/TCP;interleaved=2-3,RTP/AVP/TCP;interleaved=0-1", setupPass, ""},
		{"", setupPass, ""},
		{"RTP/AVP;unicast;client_port=1-2,RTP/AVP/TCP;unicast;interleaved=0-1", setupRewrite, "RTP/AVP/TCP;unicast;interleaved=0-1"},
		{`RTP/AVP/TCP;mode="PLAY,RECORD", RTP/AVP;unicast`, setupRewrite, `RTP/AVP/TCP;mode="PLAY,RECORD"`},
		{"RTP/AVP/UDP;x=1\r\nTransport: RTP/AVP/TCP;y=2", setupRewrite, "RTP/AVP/TCP;y=2"},
		{"RTP/AVP;x=1,\r\n RTP/AVP/TCP;y=2", setupRewrite, "RTP/AVP/TCP;y=2"},
	} {
		raw := "SETUP rtsp://h/ RTSP/1.0\r\nCSeq: 7\r\nTransport: " + c.transport + "\r\nSession: 5\r\n\r\n"
		m, err := parseRTSP([]byte(raw))
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		got, specs := m.judge()
		if got != c.want || strings.Join(specs, ",") != c.left {
			t.Errorf("judge(%q) = %v %q, want %v %q", c.transport, got, specs, c.want, c.left)
		}
		if got == setupRewrite {
			want := "SETUP rtsp://h/ RTSP/1.0\r\nCSeq: 7\r\nTransport: " + c.left + "\r\nSession: 5\r\n\r\n"
			if out := string(m.rewrite([]byte(raw), specs)); out != want {
				t.Errorf("rewrite = %q, want %q", out, want)
			}
		}
	}
}

// Whatever the sizes of the reads, the same bytes come out.
func TestUDPIsRefusedAndTheRestUntouched(t *testing.T) {
	for size := 1; size < 200; size++ {
		w := newRTSPPair()
		err := errors.Join(
			feed(w.up, options, size), feed(w.down, okay1, size),
			feed(w.up, setupUDP, size), feed(w.up, setupTCP, size),
			feed(w.down, "RTSP/1.0 200 OK\r\nCSeq: 3\r\n\r\n"+frame+frame, size),
			feed(w.up, "\r\n"+frame+options, size),
		)
		if err != nil {
			t.Fatalf("chunks of %d: %v", size, err)
		}
		if got, want := w.toService.String(), options+setupTCP+"\r\n"+frame+options; got != want {
			t.Fatalf("chunks of %d: service got %q, want %q", size, got, want)
		}
		if got, want := w.toClient.String(), okay1+refused2+"RTSP/1.0 200 OK\r\nCSeq: 3\r\n\r\n"+frame+frame; got != want {
			t.Fatalf("chunks of %d: client got %q, want %q", size, got, want)
		}
	}
}

// The answer of ours waits for the answers before it, and stands neither in a
// body nor in a frame.
func TestRefusalWaitsForItsTurn(t *testing.T) {
	all := describe + frame
	for cut := 0; cut <= len(all); cut++ {
		w := newRTSPPair()
		ask := "DESCRIBE rtsp://h/ RTSP/1.0\r\nCSeq: 1\r\n\r\n"
		if err := errors.Join(feed(w.up, ask, 1<<16), feed(w.down, all[:cut], 1<<16), feed(w.up, setupUDP, 1<<16), feed(w.down, all[cut:], 1<<16)); err != nil {
			t.Fatal(err)
		}
		got := w.toClient.String()
		if got != describe+refused2+frame && got != describe+frame+refused2 {
			t.Fatalf("cut at %d: client got %q", cut, got)
		}
	}
}

// A request the service never answers holds nothing up for ever: the answer to
// a later one carries the later number.
func TestUnansweredRequestHoldsNothingUp(t *testing.T) {
	w := newRTSPPair()
	ping := "GET_PARAMETER rtsp://h/ RTSP/1.0\r\nCSeq: 0\r\n\r\n"
	if err := errors.Join(feed(w.up, ping+options+setupUDP, 1<<16), feed(w.down, okay1, 1<<16)); err != nil {
		t.Fatal(err)
	}
	if got := w.toClient.String(); got != okay1+refused2 {
		t.Errorf("client got %q", got)
	}
}

func TestRefusedBodyIsDroppedAndSessionEchoed(t *testing.T) {
	raw := "SETUP rtsp://h/ RTSP/2.0\r\nCSeq: 2\r\nSession: abc;timeout=60\r\nTransport: RTP/AVP/UDP\r\nContent-Length: 7\r\n\r\nSETUP x"
	for _, size := range []int{1, 3, 1 << 16} {
		w := newRTSPPair()
		if err := feed(w.up, raw+options, size); err != nil {
			t.Fatal(err)
		}
		if got := w.toService.String(); got != options {
			t.Errorf("service got %q", got)
		}
		if got, want := w.toClient.String(), "RTSP/2.0 461 Unsupported Transport\r\nCSeq: 2\r\nSession: abc;timeout=60\r\n\r\n"; got != want {
			t.Errorf("client got %q, want %q", got, want)
		}
	}
}

func TestRTSPInsideHTTPPassesUntouched(t *testing.T) {
	w := newRTSPPair()
	get := "GET /stream HTTP/1.0\r\nx-sessioncookie: 1\r\n\r\n"
	rest := "\x00\x01 any bytes at all " + setupUDP
	reply := "HTTP/1.0 200 OK\r\n\r\n\x00\xff" + frame
	if err := errors.Join(feed(w.up, get+rest, 9), feed(w.down, reply, 7)); err != nil {
		t.Fatal(err)
	}
	if w.toService.String() != get+rest || w.toClient.String() != reply {
		t.Errorf("service got %q, client %q", w.toService.String(), w.toClient.String())
	}
}

func TestWhatIsNoRTSPIsNotPassedOn(t *testing.T) {
	for _, bad := range []string{
		"\x16\x03\x01\x02\x00", "\x00", "SSH-2.0-x\r\n\r\n", "OPTIONS\r\n\r\n", "OPTIONS  RTSP/1.0\r\n\r\n", "OPTIONS * RTSP/1\r\n\r\n",
		"OPTIONS * RTSP/1.0\r\nno colon\r\n\r\n", "OPTIONS * RTSP/1.0\r\nCSeq: x\r\n\r\n", "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nCSeq: 2\r\n\r\n",
		"OPTIONS * RTSP/1.0\r\nContent-Length: -1\r\n\r\n", "OPTIONS * RTSP/1.0\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"OPTIONS * RTSP/1.0\r\nContent-Length: 99999999999\r\n\r\n", "OPTIONS * RTSP/1.0\r\nA: b\x00\r\n\r\n", "OPTIONS * RTSP/1.0\r\n folded\r\n\r\n",
		"CONNECT h:1 HTTP/1.1\r\n\r\n", "SETUP * RTSP/1.0\r\nTransport: RTP/AVP\r\n\r\n", "RTSP/1.0 2x0 OK\r\n\r\n",
		strings.Repeat("A", maxRTSPHeader), "OPTIONS * RTSP/1.0\r\n" + strings.Repeat("A: b\r\n", maxRTSPHeader/6),
	} {
		for _, size := range []int{1, 1 << 16} {
			w := newRTSPPair()
			var wrong *ProtocolError
			if err := feed(w.up, bad, size); !errors.As(err, &wrong) || w.toService.Len() > 0 {
				t.Errorf("%.60q in chunks of %d: %v, %d bytes passed on", bad, size, err, w.toService.Len())
			}
		}
	}
}

// A camera that sends nonsense is a camera whose nonsense passes; only an
// answer that would have to stand in it ends the tunnel.
func TestServiceThatCannotBeFollowed(t *testing.T) {
	w := newRTSPPair()
	odd := "\x00\x01\x02 odd " + frame
	if err := errors.Join(feed(w.down, odd, 5), feed(w.up, options, 99)); err != nil || w.toClient.String() != odd {
		t.Fatalf("client got %q, %v", w.toClient.String(), err)
	}
	var wrong *ProtocolError
	if err := feed(w.up, setupUDP, 99); !errors.As(err, &wrong) || w.toService.String() != options {
		t.Errorf("after it: %v, service got %q", err, w.toService.String())
	}
}

func TestTooManyRefusalsWaiting(t *testing.T) {
	w := newRTSPPair()
	if err := feed(w.up, options+strings.Repeat(setupUDP, maxRefusals), 1<<16); err != nil {
		t.Fatal(err)
	}
	if err := feed(w.up, setupUDP, 1<<16); err == nil {
		t.Error("refusals pile up without end")
	}
}

// Through real sockets, with the watcher's two goroutines.
func TestRTSPTunnelEndsWithAReason(t *testing.T) {
	b := NewBridge(Config{})
	client, report := through(t, b, Meta{}, mustService(t, "cam", "rtsp", echo(t, "tcp4")))
	send(t, client, options+setupUDP)
	expect(t, client, options)
	send(t, client, "\x00")
	r := <-report
	var wrong *ProtocolError
	if r.Why != WhyError || !errors.As(r.Err, &wrong) || r.Up != int64(len(options)) {
		t.Errorf("report %+v", r)
	}
}

func FuzzRTSP(f *testing.F) {
	for _, up := range []string{options + setupUDP + setupTCP, setupUDP, "GET / HTTP/1.0\r\n\r\nx", frame + "\r\n" + options, "SETUP a RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP,RTP/AVP/TCP\r\n\r\n"} {
		for _, down := range []string{okay1 + frame, describe, "\x00", ""} {
			f.Add([]byte(up), []byte(down), 7)
		}
	}
	f.Fuzz(func(t *testing.T, up, down []byte, size int) {
		size = 1 + max(size, -size)&0xfff
		// In chunks and at once, the service gets the same; what it gets is
		// RTSP without UDP, or HTTP, or nothing after an error.
		whole, chunked := newRTSPPair(), newRTSPPair()
		wholeErr, chunkedErr := feed(whole.up, string(up), 1<<30), feed(chunked.up, string(up), size)
		if (wholeErr == nil) != (chunkedErr == nil) {
			t.Fatalf("at once: %v, in chunks of %d: %v", wholeErr, size, chunkedErr)
		}
		if wholeErr == nil && !bytes.Equal(whole.toService.Bytes(), chunked.toService.Bytes()) {
			t.Fatalf("at once %q, in chunks of %d %q", whole.toService.Bytes(), size, chunked.toService.Bytes())
		}
		again := newRTSPPair()
		got := whole.toService.String()
		if wholeErr == nil {
			if err := feed(again.up, got, 1<<30); err != nil || again.toService.String() != got || again.toClient.Len() > 0 {
				t.Fatalf("what was passed on does not pass again: %q, %v", got, err)
			}
		}
		held := len(chunked.up.follow.(*rtspUp).scan.held)
		if held > maxRTSPHeader {
			t.Fatalf("%d bytes held", held)
		}
		// The service's bytes all pass, in order, around the answers of ours.
		if wholeErr == nil {
			before := whole.toClient.String()
			if err := feed(whole.down, string(down), size); err != nil {
				return
			}
			if n := whole.toClient.Len() - len(before); n < len(down) {
				t.Fatalf("%d of %d bytes of the service passed", n, len(down))
			}
		}
	})
}
