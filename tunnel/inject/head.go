package inject

import (
	"bytes"
	"strconv"
	"strings"
)

// head is the head of one message, taken apart. Its slices point into the bytes
// it was parsed from.
type head struct {
	first  []byte // request or status line, without its end
	fields []field

	// Of a request.
	method, target, version string
	// Of a response.
	status int
}

type field struct {
	name  string // lower case
	line  []byte // as it came, with its end of line
	value []byte // without the white space around it
}

// headEnd returns where the blank line of a head ends, looking from byte from
// on, or -1. Lines end in CRLF; a bare LF, which some take for the end of a line
// and others do not, is an error where strict is asked for.
func headEnd(b []byte, from int, strict bool) (int, bool) {
	for i := from; ; {
		at := bytes.IndexByte(b[i:], '\n')
		if at < 0 {
			return -1, true
		}
		at += i
		if strict && (at == 0 || b[at-1] != '\r') {
			return -1, false
		}
		start := bytes.LastIndexByte(b[:at], '\n') + 1
		if at == start || at == start+1 && b[start] == '\r' {
			return at + 1, true
		}
		i = at + 1
	}
}

// parse takes a whole head apart. reason is "" when all is well.
func (h *head) parse(raw []byte) (reason string) {
	h.fields = h.fields[:0]
	line, rest := cutLine(raw)
	h.first = trimEnd(line)
	if !printable(h.first) {
		return "a control character in the first line"
	}
	for {
		line, rest = cutLine(rest)
		text := trimEnd(line)
		if len(text) == 0 {
			return ""
		}
		if len(h.fields) == MaxFields {
			return "more than " + strconv.Itoa(MaxFields) + " header fields"
		}
		if text[0] == ' ' || text[0] == '\t' {
			return "a folded header line"
		}
		colon := bytes.IndexByte(text, ':')
		if colon <= 0 || !isToken(text[:colon]) {
			return "a header line that does not begin with a name and a colon"
		}
		if !printable(text[colon:]) {
			return "a control character in a header field"
		}
		h.fields = append(h.fields, field{lower(text[:colon]), line, bytes.Trim(text[colon+1:], " \t")})
	}
}

func cutLine(b []byte) (line, rest []byte) {
	at := bytes.IndexByte(b, '\n')
	if at < 0 {
		return b, nil
	}
	return b[:at+1], b[at+1:]
}

func trimEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}

// printable takes what RFC 9110 §5.5 allows in a field: no NUL, no bare CR.
func printable(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func isToken(b []byte) bool {
	for _, c := range b {
		if !isTokenChar(c) {
			return false
		}
	}
	return len(b) > 0
}

// commonNames are the fields that nearly every message has, so that their names
// need no memory of their own. Sorted.
var commonNames = []string{
	"accept", "accept-encoding", "accept-language", "accept-ranges", "authorization", "cache-control", "connection", "content-base", "content-length", "content-type",
	"cookie", "cseq", "date", "etag", "expires", "host", "keep-alive", "last-modified", "location", "origin", "public", "range", "referer", "rtp-info", "sec-fetch-dest",
	"sec-fetch-mode", "sec-fetch-site", "server", "session", "set-cookie", "transfer-encoding", "transport", "upgrade", "user-agent", "vary", "www-authenticate",
}

// lower is the lower case of an ASCII name.
func lower(name []byte) string {
	var room [32]byte
	if len(name) > len(room) {
		return strings.ToLower(string(name))
	}
	b := room[:copy(room[:], name)]
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	low, high := 0, len(commonNames)
	for low < high {
		mid := (low + high) / 2
		switch common := commonNames[mid]; {
		case common == string(b): // compared in place, without a copy
			return common
		case common < string(b):
			low = mid + 1
		default:
			high = mid
		}
	}
	return string(b)
}

// only returns the value of a field that may come once. With many it came
// several times.
func (h *head) only(name string) (value []byte, many bool) {
	found := false
	for i := range h.fields {
		if h.fields[i].name == name {
			value, many, found = h.fields[i].value, found, true
		}
	}
	if found && value == nil {
		value = []byte{}
	}
	return value, many
}

// words calls f with each word of a list field, in lower case.
func (h *head) words(name string, f func(word string)) {
	for i := range h.fields {
		if h.fields[i].name != name {
			continue
		}
		for word := range strings.SplitSeq(string(h.fields[i].value), ",") {
			if word = strings.ToLower(strings.Trim(word, " \t")); word != "" {
				f(word)
			}
		}
	}
}

// requestLine takes "METHOD target PROTOCOL/x.y" apart.
func (h *head) requestLine() (reason string) {
	method, rest, ok := strings.Cut(string(h.first), " ")
	target, version, ok2 := strings.Cut(rest, " ")
	switch {
	case !ok || !ok2 || !isToken([]byte(method)) || len(method) > maxMethod:
		return "a first line that is none of a request"
	case !validTarget(target):
		return "a target with characters that no URL has"
	}
	h.method, h.target, h.version = method, target, version
	return ""
}

// maxMethod: the longest registered one, UPDATEREDIRECTREF, has 17 bytes.
const maxMethod = 24

// validTarget: quotation marks and backslashes would have a second meaning in
// the Authorization field (RFC 3986 has neither).
func validTarget(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '#' || c == '<' || c == '>' {
			return false
		}
	}
	return s != ""
}

// statusLine takes "PROTOCOL/x.y NNN reason" apart.
func (h *head) statusLine() (reason string) {
	version, rest, _ := strings.Cut(string(h.first), " ")
	code, _, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || n < 100 || n > 599 {
		return "a first line that is none of a response"
	}
	h.version, h.status = version, n
	return ""
}

// secret says whether a field of a request or response is about passwords and
// goes no further. Servers that hand fields to programs in the environment take
// "_" for "-".
func secret(name string) bool {
	switch name {
	case "authorization", "www-authenticate", "proxy-authorization", "proxy-authenticate", "authentication-info", "proxy-authentication-info",
		"proxy_authorization", "www_authenticate", "proxy_authenticate", "authentication_info", "proxy_authentication_info":
		return true
	}
	return false
}

// withoutUser takes "user:password@" out of the URLs of a field such as
// Location.
func withoutUser(value []byte) []byte {
	for from := 0; ; {
		at := bytes.Index(value[from:], []byte("://"))
		if at < 0 {
			return value
		}
		at += from + len("://")
		end := bytes.IndexAny(value[at:], "/?#,; \"")
		if end < 0 {
			end = len(value) - at
		}
		if user := bytes.LastIndexByte(value[at:at+end], '@'); user >= 0 {
			value = append(bytes.Clone(value[:at]), value[at+user+1:]...)
		}
		from = at
	}
}
