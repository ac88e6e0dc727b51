package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// problem is an answer of the device in the service's place.
type problem struct {
	status int
	detail string
	wait   time.Duration // until trying again makes sense; 0: not said
}

// Titles are HTTP's (RFC 9110 §15); RTSP has the numbers it shares with it.
var titles = map[int]string{
	400: "Bad Request", 405: "Method Not Allowed", 413: "Content Too Large", 417: "Expectation Failed", 431: "Request Header Fields Too Large",
	501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 505: "HTTP Version Not Supported",
}

// refusedRequest answers a request that is not passed on.
func refusedRequest(status int, reason string) problem {
	return problem{status: status, detail: "the device does not pass this request on: " + reason}
}

// refusedAnswer stands in for an answer that is not passed on.
func refusedAnswer(reason string) problem {
	return problem{status: 502, detail: "the service gave an answer that the device does not pass on: " + reason}
}

// refusedPassword stands in for the service's own refusal.
func refusedPassword(r *Refusal) problem {
	p := problem{status: 502, detail: "the device could not sign in to the service: " + r.Error(), wait: r.Wait}
	if errors.Is(r.Why, ErrWrongPassword) {
		p.detail += "; whoever looks after the device has to correct the file named by `credentials` in its configuration"
	}
	if errors.Is(r.Why, errBusy) {
		p.status, p.wait = 503, time.Second
	}
	return p
}

// body is the problem document (RFC 9457).
func (p problem) body() []byte {
	text, err := json.Marshal(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{titles[p.status], p.status, p.detail})
	if err != nil { // strings and a number
		panic(err)
	}
	return append(text, '\n')
}

// http is the whole answer; the connection ends with it.
func (p problem) http(head bool) []byte {
	body := p.body()
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\nCache-Control: no-store\r\n", p.status, titles[p.status], len(body))
	if p.wait > 0 {
		b.WriteString("Retry-After: " + strconv.Itoa(int(math.Ceil(p.wait.Seconds()))) + "\r\n")
	}
	b.WriteString("Connection: close\r\n\r\n")
	if !head {
		b.Write(body)
	}
	return []byte(b.String())
}

// rtsp is the same for RTSP. cseq "" is a request whose number is not known.
func (p problem) rtsp(cseq string) []byte {
	body := p.body()
	number := ""
	if cseq != "" {
		number = "CSeq: " + cseq + "\r\n"
	}
	return fmt.Appendf(nil, "RTSP/1.0 %d %s\r\n%sContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%s", p.status, titles[p.status], number, len(body), body)
}
