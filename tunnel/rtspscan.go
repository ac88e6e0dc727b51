package tunnel

import "bytes"

// rtspScanner finds where messages begin and end in one direction of an RTSP
// connection. Three things follow each other there (RFC 2326 §4, §10.12):
//
//	message     start line, header lines, blank line, Content-Length bytes
//	frame       '$', channel (1 byte), length (2 bytes, big-endian), length bytes
//	CR or LF    between messages, to be ignored
//
// It keeps at most maxRTSPHeader bytes, and those only while a header is
// incomplete; bodies and frames are counted, not looked at.
type rtspScanner struct {
	skip int64  // bytes left of the body or frame
	held []byte // the beginning of a header or frame header
}

const (
	// maxRTSPHeader bounds a request or response line with its header lines.
	// Real ones have a few hundred bytes, with long tokens in them 2 KiB.
	maxRTSPHeader = 16 << 10
	frameHeader   = 4
)

// piece is what step found at the start of its input.
type piece struct {
	n       int          // bytes of the input it takes, at least 1
	message *rtspMessage // a header is complete
	raw     []byte       // that header; may include bytes held from before
	frame   []byte       // a frame header is complete; the same holds
	partial bool         // kept: more is needed to tell what it is
}

// between says that the last step ended a message or a frame.
func (s *rtspScanner) between() bool { return s.skip == 0 && len(s.held) == 0 }

// step looks at the next piece of p, which must not be empty. raw and frame are
// valid until the next step.
func (s *rtspScanner) step(p []byte) (piece, error) {
	if s.skip > 0 {
		n := int(min(s.skip, int64(len(p))))
		s.skip -= int64(n)
		return piece{n: n}, nil
	}
	first := p[0]
	if len(s.held) > 0 {
		first = s.held[0]
	}
	switch {
	case first == '$':
		return s.stepFrame(p), nil
	case first == '\r' || first == '\n':
		return piece{n: 1}, nil
	case first == 0x16:
		return piece{}, badRTSP("TLS, which cannot be followed: give the service type tcp")
	case first|0x20 < 'a' || first|0x20 > 'z':
		return piece{}, badRTSP("neither a message nor a frame")
	}
	return s.stepHeader(p)
}

// frames takes what a body or frames make up at the start of p, without looking
// into them, and returns how many bytes that is. step does the same, piece by
// piece; this is for the dozens of frames in each buffer of a playing stream.
func (s *rtspScanner) frames(p []byte) int {
	if len(s.held) > 0 {
		return 0
	}
	at := 0
	for {
		n := int(min(s.skip, int64(len(p)-at)))
		s.skip -= int64(n)
		at += n
		if len(p)-at < frameHeader || p[at] != '$' {
			return at
		}
		s.skip = int64(p[at+2])<<8 | int64(p[at+3])
		at += frameHeader
	}
}

func (s *rtspScanner) stepFrame(p []byte) piece {
	n := min(frameHeader-len(s.held), len(p))
	head := p[:n]
	if len(s.held) > 0 || n < frameHeader {
		s.held = append(s.held, head...)
		head = s.held
	}
	if len(head) < frameHeader {
		return piece{n: n, partial: true}
	}
	s.held = nil
	s.skip = int64(head[2])<<8 | int64(head[3])
	return piece{n: n, frame: head}
}

func (s *rtspScanner) stepHeader(p []byte) (piece, error) {
	before := len(s.held)
	room := maxRTSPHeader - before
	take := p[:min(len(p), room)]
	raw := take
	if before > 0 {
		s.held = append(s.held, take...)
		raw = s.held
	}
	// The blank line may have begun in what was held.
	end := headerEnd(raw, max(0, before-3))
	switch {
	case end < 0 && len(take) == room:
		return piece{}, badRTSP("a header without an end")
	case end < 0:
		if before == 0 {
			s.held = bytes.Clone(take)
		}
		return piece{n: len(take), partial: true}, nil
	}
	s.held = nil
	m, err := parseRTSP(raw[:end])
	if err != nil {
		return piece{}, err
	}
	s.skip = m.body
	return piece{n: end - before, message: m, raw: raw[:end]}, nil
}

// headerEnd returns where the blank line after from ends, or -1.
func headerEnd(raw []byte, from int) int {
	for i := from; ; {
		at := bytes.IndexByte(raw[i:], '\n')
		if at < 0 {
			return -1
		}
		i += at + 1
		rest := raw[i:]
		if len(rest) > 0 && rest[0] == '\n' {
			return i + 1
		}
		if len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n' {
			return i + 2
		}
	}
}
