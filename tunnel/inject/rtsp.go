package inject

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
)

// maxAsked is how many requests may wait for their answers; beyond it the oldest
// is taken for one that the service leaves unanswered, as some do with
// keep-alives.
const maxAsked = 16

// stream is a conversation in RTSP (RFC 2326). Requests and answers go both ways
// with frames between them; each answer finds its request by CSeq, so nobody
// waits. Challenges are the connection's own: that is how RTSP servers make
// nonces.
//
// What the client sends goes on in whole messages and frames, so that a request
// that is sent again has a place between them.
type stream struct {
	*Conn

	// Of the writer.
	heads   head
	held    []byte // the part of a message or frame that has come
	scratch []byte

	writing sync.Mutex // one message at a time; taken after mu was let go

	// Of the reader.
	answer   head
	heldDown []byte
	skip     int64  // bytes of a body or frame that are for the client
	swallow  int64  // bytes of a challenge's body
	retry    *asked // goes out when swallow is 0

	// Guarded by mu.
	asked    []*asked
	answers  *answers // to the challenge of this connection; nil: none yet
	accepted bool     // the password was right on this connection
	mine     bool     // this connection tries the password: Vault.try
	half     bool
}

// asked is a request that waits for its answer.
type asked struct {
	cseq, method, uri string
	head, body        []byte // as passed on, without Authorization and the blank line
	auth              authorization
	tries             int
	session           bool // it belongs to a session, which belongs to the connection
}

// RTSP wraps a connection to a service of type rtsp. dial opens further ones.
// RTSP inside HTTP is refused: its two connections would have to be one.
func (v *Vault) RTSP(up Upstream, dial Dial) Side {
	c := newConn(v, up, dial)
	c.talk = &stream{Conn: c}
	return c.side()
}

// fromClient is part of talk.
func (s *stream) fromClient(p []byte) error {
	for len(p) > 0 && !s.over.Load() {
		if len(s.held) == 0 {
			if n := wholeFrames(p); n > 0 {
				if err := s.passOn(p[:n]); err != nil {
					return err
				}
				p = p[n:]
				continue
			}
			if p[0] == '\r' || p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		n, err := s.unit(p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// passOn writes whole messages or frames to the service.
func (s *stream) passOn(p []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	up := s.up
	s.mu.Unlock()
	_, err := up.Write(p)
	return err
}

const frameHead = 4 // '$', channel, length (RFC 2326 §10.12)

// wholeFrames is how many bytes at the start of p are frames with nothing
// missing.
func wholeFrames(p []byte) int {
	at := 0
	for len(p)-at >= frameHead && p[at] == '$' {
		n := frameHead + frameLength(p[at:])
		if len(p)-at < n {
			break
		}
		at += n
	}
	return at
}

func frameLength(p []byte) int { return int(p[2])<<8 | int(p[3]) }

// unit takes bytes of one message or frame, and passes it on when it is whole.
// It returns how many bytes it took.
func (s *stream) unit(p []byte) (n int, err error) {
	before := len(s.held)
	s.held = append(s.held, p...)
	raw := s.held
	if raw[0] == '$' {
		if len(raw) < frameHead || len(raw) < frameHead+frameLength(raw) {
			return len(p), nil
		}
		end := frameHead + frameLength(raw)
		s.held = nil
		return end - before, s.passOn(raw[:end])
	}
	end, ok := headEnd(raw[:min(len(raw), MaxHead)], min(max(0, before-3), MaxHead), true)
	switch {
	case !ok:
		return len(p), s.refuse(400, "", "a line that ends in LF alone")
	case end < 0 && len(raw) > MaxHead:
		return len(p), s.refuse(400, "", "the head is larger than 32 KiB")
	case end < 0:
		return len(p), nil
	}
	length, whole := s.open(raw[:end])
	if !whole {
		return len(p), nil // refused
	}
	if len(raw) < end+length {
		return len(p), nil
	}
	s.held = nil
	return end + length - before, s.message(raw[end : end+length])
}

// refuse ends the conversation over what the client sent.
func (s *stream) refuse(status int, cseq, reason string) error {
	s.conclude(refusedRequest(status, reason).rtsp(cseq), &MessageError{true, reason})
	return nil
}

// open takes a head apart and returns the length of its body; ok is false when
// it was refused.
func (s *stream) open(raw []byte) (length int, ok bool) {
	h := &s.heads
	h.method, h.status = "", 0
	reason := h.parse(raw)
	if reason == "" && bytes.HasPrefix(h.first, []byte("RTSP/")) {
		reason = h.statusLine()
	} else if reason == "" {
		reason = h.requestLine()
	}
	cseq := h.cseq()
	switch {
	case reason != "":
	case strings.HasPrefix(h.version, "HTTP/"):
		text := "RTSP inside HTTP is not carried to a service that the device signs in to: use RTSP over TCP"
		s.conclude(refusedRequest(501, text).http(false), &MessageError{true, text})
		return 0, false
	case h.version != "RTSP/1.0" && h.version != "RTSP/2.0":
		reason = "it is neither RTSP/1.0 nor RTSP/2.0"
	case h.method != "" && cseq == "":
		reason = "a request without one CSeq"
	}
	var n int64
	if reason == "" {
		n, reason = h.rtspBody()
	}
	switch {
	case reason != "":
		_ = s.refuse(400, cseq, reason)
		return 0, false
	case n > MaxKept:
		_ = s.refuse(413, cseq, "a body of more than 64 KiB")
		return 0, false
	}
	return int(n), true
}

// cseq is the number of a message, "" when there is not exactly one.
func (h *head) cseq() string {
	v, many := h.only("cseq")
	if _, err := strconv.ParseUint(string(v), 10, 63); err != nil || many {
		return ""
	}
	return string(v)
}

// rtspBody is the length of a message's body (RFC 2326 §12.14).
func (h *head) rtspBody() (int64, string) {
	f, _, reason := h.framingOf()
	if reason == "" && f.kind == framingChunked {
		reason = "chunks, which RTSP has not"
	}
	return f.left, reason
}

// message passes a whole message on: a request with our authorization in place
// of the client's, an answer to the service's own request without any.
func (s *stream) message(body []byte) error {
	h := &s.heads
	if h.method == "" {
		s.scratch = append(rewriteRTSP(append(append(s.scratch[:0], h.first...), "\r\n"...), h, nil), "\r\n"...)
		return s.passOn(append(s.scratch, body...))
	}
	uri := withoutUser([]byte(h.target))
	session, _ := h.only("session")
	a := &asked{cseq: h.cseq(), method: h.method, uri: string(uri), body: bytes.Clone(body), session: session != nil}
	a.head = append(a.head, h.method+" "+a.uri+" "+h.version+"\r\n"...)
	a.head = rewriteRTSP(a.head, h, nil)
	if r := s.authorize(a); r != nil {
		s.conclude(refusedPassword(r).rtsp(a.cseq), r)
		return nil
	}
	return s.passOn(a.whole())
}

// whole is the request as the service gets it.
func (a *asked) whole() []byte {
	out := make([]byte, 0, len(a.head)+len(a.auth.value)+len(a.body)+32)
	return append(appendAuthorization(append(out, a.head...), a.auth), a.body...)
}

// rewriteRTSP appends the fields that are not about passwords.
func rewriteRTSP(out []byte, h *head, reveals func(value []byte) bool) []byte {
	for i := range h.fields {
		f := &h.fields[i]
		if secret(f.name) || reveals != nil && reveals(f.value) {
			continue
		}
		if locates(f.name) {
			out = append(append(append(out, f.line[:bytes.IndexByte(f.line, ':')]...), ": "...), withoutUser(f.value)...)
		} else {
			out = append(out, trimEnd(f.line)...)
		}
		out = append(out, "\r\n"...)
	}
	return out
}

// authorize gives a request its authorization, where the connection's challenge
// is known, and notes that it waits for its answer.
func (s *stream) authorize(a *asked) *Refusal {
	s.mu.Lock()
	accepted, known, mine := s.accepted, s.answers != nil, s.mine
	s.mu.Unlock()
	if !accepted && !mine {
		if r := s.vault.Refusal(); r != nil {
			return r
		}
		if known {
			mine, r := s.vault.try(s.ctx)
			if r != nil {
				return r
			}
			s.setMine(mine)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers != nil {
		a.auth = s.answers.authorize(a.method, a.uri)
	}
	if len(s.asked) == maxAsked {
		s.asked = append(s.asked[:0], s.asked[1:]...)
	}
	s.asked = append(s.asked, a)
	return nil
}

// setMine notes whether this connection tries the password.
func (s *stream) setMine(mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if mine && s.over.Load() {
		s.vault.leave()
		return
	}
	s.mine = mine
}

// abandonLocked is part of talk.
func (s *stream) abandonLocked() {
	if s.mine {
		s.mine = false
		s.vault.leave()
	}
}

// closeWriteLocked is part of talk: players do not end one direction and go on
// with the other, so the service is told when nothing is left to be answered.
func (s *stream) closeWriteLocked() error {
	s.half = true
	if len(s.asked) > 0 {
		return nil
	}
	return s.up.CloseWrite()
}
