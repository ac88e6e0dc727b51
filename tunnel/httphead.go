package tunnel

import (
	"bytes"
	"strconv"
)

// httpHead is what the guard needs of the head of one HTTP/1 message (RFC 9112).
// Slices point into the head.
type httpHead struct {
	method   []byte // of a request
	target   []byte
	status   int // of a response
	password []byte
	user     bool  // the target names a user
	length   int64 // Content-Length; -1: none
	chunked  bool
	coded    bool // some other transfer coding
	upgrade  upgrade
	stale    bool
}

// upgrade is what a request asks to go over to.
type upgrade int

const (
	noUpgrade    upgrade = iota
	webSocket            // the guard stops looking after 101
	otherUpgrade         // 101 would hide what follows: HTTP/2, TLS
)

// maxLengthDigits allows bodies below 10^15 bytes.
const maxLengthDigits = 15

func badHTTP(reason string) error { return &ProtocolError{"HTTP", reason} }

// hasPassword says that the request tries to be somebody.
func (h *httpHead) hasPassword() bool { return h.password != nil || h.user }

// parseRequest reads a whole request head, blank line included. It takes only what
// every server reads alike: RFC 9112 to the letter, without what the RFC lets
// servers forgive (bare LF, folded lines, spaces before a colon, two lengths).
func parseRequest(raw []byte) (httpHead, error) {
	h := httpHead{length: -1}
	line, rest, err := strictLine(raw)
	if err != nil {
		return h, err
	}
	method, line, ok1 := bytes.Cut(line, []byte(" "))
	target, version, ok2 := bytes.Cut(line, []byte(" "))
	if !ok1 || !ok2 || !tokenBytes(method) || len(target) == 0 || bytes.IndexByte(target, '\t') >= 0 {
		return h, badHTTP("a line that begins no request")
	}
	old := string(version) == "HTTP/1.0"
	if !old && string(version) != "HTTP/1.1" {
		return h, badHTTP("another version than HTTP/1.0 and 1.1, which cannot be followed")
	}
	if string(method) == "CONNECT" {
		return h, badHTTP("CONNECT, which leads past the service")
	}
	h.method, h.target, h.user = method, target, namesUser(target)
	for {
		if line, rest, err = strictLine(rest); err != nil {
			return h, err
		}
		if len(line) == 0 {
			return h, h.checkRequest(old)
		}
		if err := h.requestField(line); err != nil {
			return h, err
		}
	}
}

// strictLine takes a line that ends in CRLF and has no other control character.
func strictLine(raw []byte) (line, rest []byte, err error) {
	at := bytes.IndexByte(raw, '\n')
	if at < 1 || raw[at-1] != '\r' {
		return nil, nil, badHTTP("a line that does not end in CR LF")
	}
	line = raw[:at-1]
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil, nil, badHTTP("a control character in a head")
		}
	}
	return line, raw[at+1:], nil
}

func (h *httpHead) requestField(line []byte) error {
	name, value, found := bytes.Cut(line, []byte(":"))
	if !found || !tokenBytes(name) {
		return badHTTP("a head line without a name")
	}
	value = bytes.Trim(value, " \t")
	switch {
	case isField(name, "authorization"):
		if h.password != nil {
			return badHTTP("two Authorizations")
		}
		h.password = value[:len(value):len(value)]
	case isField(name, "content-length"):
		if h.length >= 0 {
			return badHTTP("two Content-Lengths")
		}
		return h.takeLength(value)
	case isField(name, "transfer-encoding"):
		if h.chunked || !bytes.EqualFold(value, []byte("chunked")) {
			return badHTTP("a transfer coding that cannot be followed")
		}
		h.chunked = true
	case isField(name, "upgrade"):
		if h.upgrade == noUpgrade && bytes.EqualFold(value, []byte("websocket")) {
			h.upgrade = webSocket
		} else {
			h.upgrade = otherUpgrade
		}
	}
	return nil
}

func (h *httpHead) checkRequest(old bool) error {
	switch string(h.method) {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		// Servers that expect none would read it as the next request.
		if h.length > 0 || h.chunked {
			return badHTTP("a body where none belongs")
		}
	}
	if h.chunked && (h.length >= 0 || old) {
		return badHTTP("a body with two lengths")
	}
	return nil
}

// parseResponse reads a whole response head. Services are forgiven what clients are
// not, as long as the length of the body is beyond doubt.
func parseResponse(raw []byte) (httpHead, error) {
	h := httpHead{length: -1}
	line, rest, _ := bytes.Cut(raw, []byte("\n"))
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[8] != ' ' || len(bytes.TrimRight(line, "\r")) > 12 && line[12] != ' ' {
		return h, badHTTP("an answer without a status")
	}
	n, err := strconv.ParseUint(string(line[9:12]), 10, 16)
	if err != nil || n < 100 {
		return h, badHTTP("an answer without a status")
	}
	h.status = int(n)
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		if err := h.responseField(bytes.TrimRight(name, " \t"), bytes.Trim(value, " \t\r")); err != nil {
			return h, err
		}
	}
	return h, nil
}

func (h *httpHead) responseField(name, value []byte) error {
	switch {
	case isField(name, "content-length"):
		before := h.length
		if err := h.takeLength(value); err != nil {
			return err
		}
		if before >= 0 && before != h.length {
			return badHTTP("an answer of two lengths")
		}
	case isField(name, "transfer-encoding"):
		h.coded = true
		// Chunked is the last one, or there is none (RFC 9112 §6.1).
		last := value[bytes.LastIndexByte(value, ',')+1:]
		h.chunked = bytes.EqualFold(bytes.TrimSpace(last), []byte("chunked"))
	case isField(name, "www-authenticate"):
		h.stale = h.stale || isStale(value)
	}
	return nil
}

func (h *httpHead) takeLength(value []byte) error {
	if !isDigits(string(value), maxLengthDigits) {
		return badHTTP("a Content-Length that is no number")
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return badHTTP("a Content-Length that is no number")
	}
	h.length = n
	return nil
}

// isStale looks for stale=true of a Digest challenge (RFC 7616 §3.3).
func isStale(challenge []byte) bool {
	low := bytes.ToLower(challenge)
	return bytes.Contains(low, []byte("stale=true")) || bytes.Contains(low, []byte(`stale="true"`))
}

// namesUser says that a target has a user in it (http://user:password@host/), which
// some services take for a password.
func namesUser(target []byte) bool {
	_, rest, absolute := bytes.Cut(target, []byte("://"))
	if !absolute {
		return false
	}
	if end := bytes.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	return bytes.IndexByte(rest, '@') >= 0
}

func isField(name []byte, want string) bool {
	return len(name) == len(want) && bytes.EqualFold(name, []byte(want))
}

// tokenBytes is RFC 9110 §5.6.2.
func tokenBytes(s []byte) bool {
	for _, c := range s {
		if c <= ' ' || c >= 0x7f || bytes.IndexByte([]byte(`()<>@,;:\"/[]?={}`), c) >= 0 {
			return false
		}
	}
	return len(s) > 0
}
