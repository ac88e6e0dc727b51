package inject

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// hear reads one message of a conversation in RTSP, and the frames before it.
func hear(t testing.TB, in *bufio.Reader) (frames int, text string) {
	t.Helper()
	for {
		first, err := in.Peek(1)
		if err != nil {
			return frames, ""
		}
		if first[0] != '$' {
			break
		}
		var h [frameHead]byte
		io.ReadFull(in, h[:])
		in.Discard(frameLength(h[:]))
		frames++
	}
	raw, err := readHead(in)
	if err != nil {
		return frames, ""
	}
	var h head
	h.parse(raw)
	n, _ := h.rtspBody()
	body := make([]byte, n)
	io.ReadFull(in, body)
	return frames, string(raw) + string(body)
}

const (
	wantRTSP = "RTSP/1.0 401 Unauthorized\r\nCSeq: %s\r\nWWW-Authenticate: Digest realm=\"cam\", nonce=\"%s\"%s\r\nContent-Length: 2\r\n\r\nno"
	fine     = "RTSP/1.0 200 OK\r\nCSeq: %s\r\n\r\n"
)

func cseqOf(message string) string {
	_, rest, _ := strings.Cut(message, "CSeq: ")
	n, _, _ := strings.Cut(rest, "\r\n")
	return n
}

// Each request is signed in, frames flow both ways meanwhile, and a nonce that
// ends in the middle of it is nobody's business.
func TestStreamIsSignedIn(t *testing.T) {
	const uses = 3
	seen := make(chan string, 100)
	c := converse(t, vaultOf(), (*Vault).RTSP, func(_ int, s net.Conn, in *bufio.Reader) {
		nonce, left := 1, 0
		for {
			frames, message := hear(t, in)
			if message == "" {
				return
			}
			if strings.HasPrefix(message, "RTSP/1.0 200 OK\r\nCSeq: 900") { // to our own question
				seen <- message
				continue
			}
			io.WriteString(s, "$\x00\x00\x05hello")
			name := fmt.Sprintf(`nonce="%d"`, nonce)
			switch {
			case !strings.Contains(message, name):
				fmt.Fprintf(s, wantRTSP, cseqOf(message), fmt.Sprint(nonce), "")
				left = uses
			case left == 0:
				nonce++
				fmt.Fprintf(s, wantRTSP, cseqOf(message), fmt.Sprint(nonce), ", stale=true")
				left = uses
			default:
				left--
				seen <- fmt.Sprintf("%d %s", frames, message)
				fmt.Fprintf(s, fine, cseqOf(message))
				io.WriteString(s, "OPTIONS rtsp://client/ RTSP/1.0\r\nCSeq: 900\r\nAuthorization: Basic eA==\r\n\r\n$\x01\x00\x00")
			}
		}
	})
	for i := 1; i <= 10; i++ {
		body := strings.Repeat("x", i)
		c.say("$\x01\x00\x03abc$\x01\x00")
		c.say(fmt.Sprintf("\x02deSET_PARAMETER rtsp://u:p@cam/live RTSP/1.0\r\nCSeq: %d\r\nAuthorization: Digest username=\"guest\"\r\nContent-Length: %d\r\n\r\n%s", i, i, body))
		frames, message := hear(t, c.in)
		if message != fmt.Sprintf(fine, fmt.Sprint(i)) || frames == 0 {
			t.Fatalf("%d: after %d frames the client hears %q", i, frames, message)
		}
		if _, question := hear(t, c.in); question != "OPTIONS rtsp://client/ RTSP/1.0\r\nCSeq: 900\r\n\r\n" {
			t.Fatalf("the service's question arrives as %q", question)
		}
		c.say("RTSP/1.0 200 OK\r\nCSeq: 900\r\nWWW-Authenticate: Basic\r\n\r\n")
		got := <-seen
		if !strings.Contains(got, "SET_PARAMETER rtsp://cam/live RTSP/1.0\r\n") || !strings.HasSuffix(got, "\r\n\r\n"+body) ||
			strings.Count(got, "Authorization:") != 1 || !strings.Contains(got, `username="operator"`) || !strings.Contains(got, `uri="rtsp://cam/live"`) {
			t.Fatalf("%d: the service sees %s", i, got)
		}
		if got := <-seen; got != "RTSP/1.0 200 OK\r\nCSeq: 900\r\n\r\n" {
			t.Fatalf("the client's answer arrives as %q", got)
		}
	}
}

func TestHostileStreams(t *testing.T) {
	const good = "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"
	for name, c := range map[string]struct{ request, want string }{
		"inside HTTP":    {"GET /live HTTP/1.0\r\nx-sessioncookie: a\r\nAccept: application/x-rtsp-tunnelled\r\n\r\n", "HTTP/1.1 501 "},
		"no number":      {"OPTIONS * RTSP/1.0\r\n\r\n", "RTSP/1.0 400 "},
		"two numbers":    {"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nCSeq: 2\r\n\r\n", "RTSP/1.0 400 "},
		"two lengths":    {"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "RTSP/1.0 400 "},
		"chunks":         {"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "RTSP/1.0 400 "},
		"a folded line":  {"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX: y\r\n z\r\n\r\n", "RTSP/1.0 400 "},
		"a bare LF":      {"OPTIONS * RTSP/1.0\nCSeq: 1\n\n", "RTSP/1.0 400 "},
		"NUL":            {"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX: \x00\r\n\r\n", "RTSP/1.0 400 "},
		"a long body":    {"ANNOUNCE * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 65537\r\n\r\n", "RTSP/1.0 413 "},
		"a long head":    {"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX: " + strings.Repeat("x", MaxHead) + "\r\n\r\n", "RTSP/1.0 400 "},
		"another kind":   {"OPTIONS * SIP/2.0\r\nCSeq: 1\r\n\r\n", "RTSP/1.0 400 "},
		"quotation mark": {"OPTIONS \",x=\" RTSP/1.0\r\nCSeq: 1\r\n\r\n", "RTSP/1.0 400 "},
	} {
		t.Run(name, func(t *testing.T) {
			seen := make(chan string, 1)
			cv := converse(t, vaultOf(), (*Vault).RTSP, func(_ int, s net.Conn, in *bufio.Reader) {
				all, _ := io.ReadAll(in)
				seen <- string(all)
			})
			cv.say(c.request + good)
			got, err := io.ReadAll(cv.in)
			if err != nil || !strings.HasPrefix(string(got), c.want) {
				t.Errorf("the client hears %q %v, want %q", got, err, c.want)
			}
			if got := <-seen; got != "" {
				t.Errorf("the service sees %q", got)
			}
		})
	}
}

// The refusal of a camera is not the client's to see, and it is asked once.
func TestStreamWithAWrongPassword(t *testing.T) {
	for _, status := range []string{"401 Unauthorized", "403 Forbidden"} {
		tries := 0
		c := converse(t, vaultOf(), (*Vault).RTSP, func(_ int, s net.Conn, in *bufio.Reader) {
			for {
				_, message := hear(t, in)
				switch {
				case message == "":
					return
				case !strings.Contains(message, "Authorization"):
					fmt.Fprintf(s, wantRTSP, cseqOf(message), "n", "")
				case status[0:3] == "401":
					tries++
					fmt.Fprintf(s, wantRTSP, cseqOf(message), "m", "")
				default:
					tries++
					fmt.Fprintf(s, "RTSP/1.0 %s\r\nCSeq: %s\r\n\r\n", status, cseqOf(message))
				}
			}
		})
		c.say("DESCRIBE rtsp://cam/ RTSP/1.0\r\nCSeq: 5\r\n\r\n")
		got, err := io.ReadAll(c.in)
		if err != nil || !strings.HasPrefix(string(got), "RTSP/1.0 502 Bad Gateway\r\nCSeq: 5\r\n") || !strings.Contains(string(got), "device keeps for it") {
			t.Errorf("%s: the client hears %q %v", status, got, err)
		}
		if tries != 1 {
			t.Errorf("%s: %d tries", status, tries)
		}
	}
}
