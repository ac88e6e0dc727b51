package tunnel

import (
	"bytes"
	"strconv"
	"strings"
)

// rtspMessage is what the watcher needs of the header of one RTSP message
// (RFC 2326 §4-6, RFC 7826 §5-8; both versions look alike here).
type rtspMessage struct {
	method  string // "" in a response
	target  string // of a request
	version string // "RTSP/1.0"
	status  int    // of a response
	cseq    string // digits, "" when there is none
	session string // as in the request, for the answer
	body    int64  // Content-Length
	folded  bool   // a field goes on in the next line
	fields  []rtspField
}

// rtspField is one header field: the lines it takes in the raw header and its
// value with folded lines joined.
type rtspField struct {
	name       string // lower case
	value      string
	start, end int
}

const (
	// maxBodyDigits allows bodies below 10 GB; they pass, nothing is kept.
	maxBodyDigits = 10
	// maxCSeqDigits: RFC 7826 §18.20 has at most nine; one more is tolerated.
	maxCSeqDigits = 10
)

func badRTSP(reason string) error { return &ProtocolError{"RTSP", reason} }

// parseRTSP reads a complete header, blank line included.
func parseRTSP(raw []byte) (*rtspMessage, error) {
	for _, c := range raw {
		if c < ' ' && c != '\r' && c != '\n' && c != '\t' || c == 0x7f {
			return nil, badRTSP("a control character in a header")
		}
	}
	line, at := rtspLine(raw, 0)
	m := new(rtspMessage)
	if err := m.startLine(line); err != nil {
		return nil, err
	}
	for at < len(raw) {
		start := at
		line, at = rtspLine(raw, at)
		if line == "" {
			break
		}
		if line[0] == ' ' || line[0] == '\t' { // folded (RFC 2326 §4.2 by way of RFC 2068)
			if len(m.fields) == 0 {
				return nil, badRTSP("a folded line with nothing before it")
			}
			last := &m.fields[len(m.fields)-1]
			last.value = strings.TrimSpace(last.value + " " + strings.TrimSpace(line))
			last.end, m.folded = at, true
			continue
		}
		name, value, found := strings.Cut(line, ":")
		if !found || !isToken(name) {
			return nil, badRTSP("a header line without a name")
		}
		m.fields = append(m.fields, rtspField{strings.ToLower(name), strings.TrimSpace(value), start, at})
	}
	return m, m.known()
}

// rtspLine returns the line at i without its end, and where the next begins. A
// bare LF ends a line too: receivers should take it (RFC 2326 §4).
func rtspLine(raw []byte, i int) (string, int) {
	end := bytes.IndexByte(raw[i:], '\n')
	if end < 0 {
		return string(raw[i:]), len(raw)
	}
	return string(bytes.TrimSuffix(raw[i:i+end], []byte("\r"))), i + end + 1
}

func (m *rtspMessage) startLine(line string) error {
	first, rest, _ := strings.Cut(line, " ")
	if isRTSPVersion(first) {
		m.version = first
		code, _, _ := strings.Cut(rest, " ")
		n, err := strconv.ParseUint(code, 10, 16)
		if err != nil || len(code) != 3 || n < 100 {
			return badRTSP("a response without a status")
		}
		m.status = int(n)
		return nil
	}
	uri, version, _ := strings.Cut(rest, " ")
	if !isToken(first) || uri == "" || !isRTSPVersion(version) && !isHTTPVersion(version) {
		return badRTSP("a line that begins no request")
	}
	m.method, m.target, m.version = first, uri, version
	return nil
}

// known takes out the fields that have a meaning here.
func (m *rtspMessage) known() error {
	sawBody := false
	for _, f := range m.fields {
		switch f.name {
		case "cseq":
			if m.cseq != "" && m.cseq != f.value || !isDigits(f.value, maxCSeqDigits) {
				return badRTSP("a CSeq that is no number")
			}
			m.cseq = f.value
		case "session":
			m.session = f.value
		case "content-length":
			if !isDigits(f.value, maxBodyDigits) {
				return badRTSP("a Content-Length that is no number")
			}
			n, err := strconv.ParseInt(f.value, 10, 64)
			if err != nil || sawBody && n != m.body {
				return badRTSP("two Content-Lengths")
			}
			m.body, sawBody = n, true
		}
	}
	return nil
}

func isRTSPVersion(s string) bool { return isVersion(s, "RTSP/") }
func isHTTPVersion(s string) bool { return isVersion(s, "HTTP/") }

func isVersion(s, protocol string) bool {
	v, ok := strings.CutPrefix(s, protocol)
	return ok && len(v) == 3 && isDigits(v[:1], 1) && v[1] == '.' && isDigits(v[2:], 1)
}

func isDigits(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// isToken is RFC 2326 §15.1 (RFC 2068's token).
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
