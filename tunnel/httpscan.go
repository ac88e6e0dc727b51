package tunnel

import "bytes"

// httpScanner finds where messages begin and end in one direction of an HTTP/1
// connection. It keeps bytes only while a head is incomplete; bodies are counted,
// not looked at, but for the sizes of chunks.
//
//	head       lines up to a blank one, at most maxHTTPHead bytes
//	length     that many bytes
//	chunks     size in hexadecimal [;extension] CRLF, size bytes, CRLF, …; 0 CRLF,
//	           trailer lines, CRLF
//	untilEnd   all that follows
type httpScanner struct {
	requests bool // what comes from clients, by the letter
	part     httpPart
	skip     int64  // bytes left of the body or chunk
	size     int64  // of the chunk whose size line passes
	line     int    // bytes of that line so far
	held     []byte // the beginning of a head or trailer
}

type httpPart int

const (
	partHead httpPart = iota
	partLength
	partSize      // the digits of a chunk's size
	partExtension // what may follow them
	partSizeEnd   // the LF behind them
	partChunk
	partChunkCR
	partChunkLF
	partTrailer
	partUntilEnd
)

const (
	// maxHTTPHead: servers take 8 KiB (nginx, Apache) to 64 KiB; tokens in cookies
	// make heads long.
	maxHTTPHead = 32 << 10
	// maxChunkLine: sizes have some eight digits, extensions are hardly ever used.
	maxChunkLine = 256
	// maxChunkDigits keeps sizes within an int64.
	maxChunkDigits = 15
)

// between says that the next byte begins a message.
func (s *httpScanner) between() bool { return s.part == partHead && len(s.held) == 0 }

// step looks at the start of p, which must not be empty, and returns how much of it
// is taken. head is a complete head, valid until the next step, of which the last n
// bytes are p's. held says that those bytes are kept until there is more.
func (s *httpScanner) step(p []byte) (n int, head []byte, held bool, err error) {
	switch s.part {
	case partHead:
		if len(s.held) == 0 && (p[0] == '\r' || p[0] == '\n') {
			return 1, nil, false, nil // RFC 9112 §2.2: to be ignored before a message
		}
		n, head, held, err = s.stepHead(p)
		return n, head, held, err
	case partTrailer:
		return s.stepTrailer(p)
	case partUntilEnd:
		return len(p), nil, false, nil
	case partLength, partChunk:
		n := int(min(s.skip, int64(len(p))))
		if s.skip -= int64(n); s.skip == 0 {
			if s.part == partLength {
				s.part = partHead
			} else {
				s.part = partChunkCR
			}
		}
		return n, nil, false, nil
	}
	return 1, nil, false, s.stepChunkLine(p[0])
}

func (s *httpScanner) stepHead(p []byte) (n int, head []byte, held bool, err error) {
	before := len(s.held)
	room := maxHTTPHead - before
	take := p[:min(len(p), room)]
	raw := take
	if before > 0 {
		s.held = append(s.held, take...)
		raw = s.held
	} else if take[0] == 0x16 {
		return 0, nil, false, badHTTP("TLS, which cannot be followed")
	}
	end := headerEnd(raw, max(0, before-3))
	switch {
	case end < 0 && len(take) == room:
		return 0, nil, false, badHTTP("a head without an end")
	case end < 0:
		if before == 0 {
			s.held = bytes.Clone(take)
		}
		return len(take), nil, true, nil
	}
	s.held = nil
	return end - before, raw[:end], false, nil
}

// stepTrailer passes what stands behind the last chunk. Nothing in it may look like
// what belongs into a head.
func (s *httpScanner) stepTrailer(p []byte) (n int, head []byte, held bool, err error) {
	if len(s.held) == 0 && p[0] == '\n' && !s.requests {
		s.part = partHead
		return 1, nil, false, nil
	}
	// Its blank line may be the first, so a line end in front makes it a head.
	if len(s.held) == 0 {
		s.held = []byte("\r\n")
	}
	before := len(s.held)
	take := p[:min(len(p), maxHTTPHead-before)]
	s.held = append(s.held, take...)
	end := headerEnd(s.held, max(0, before-3))
	if end < 0 {
		if len(s.held) == maxHTTPHead {
			return 0, nil, false, badHTTP("a trailer without an end")
		}
		return len(take), nil, true, nil
	}
	whole := s.held[2:end]
	s.held, s.part = nil, partHead
	if s.requests {
		if err := checkTrailer(whole); err != nil {
			return 0, nil, false, err
		}
	}
	return end - before, whole, false, nil
}

// checkTrailer lets nothing through that a server might add to the head.
func checkTrailer(raw []byte) error {
	for {
		line, rest, err := strictLine(raw)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return nil
		}
		name, _, found := bytes.Cut(line, []byte(":"))
		if !found || !tokenBytes(name) || isField(name, "authorization") || isField(name, "content-length") || isField(name, "transfer-encoding") {
			return badHTTP("a trailer that belongs into a head")
		}
		raw = rest
	}
}

// stepChunkLine takes one byte of what stands between chunks.
func (s *httpScanner) stepChunkLine(c byte) error {
	switch s.part {
	case partChunkCR:
		if c == '\n' && !s.requests {
			s.beginSize()
			return nil
		}
		s.part = partChunkLF
		return orChunk(c == '\r')
	case partChunkLF:
		s.beginSize()
		return orChunk(c == '\n')
	case partSizeEnd:
		s.endSize()
		return orChunk(c == '\n')
	}
	if s.line++; s.line > maxChunkLine {
		return badHTTP("a chunk with a long size")
	}
	digit := hexDigit(c)
	switch {
	case s.part == partSize && digit >= 0:
		s.size = s.size<<4 | int64(digit)
		return orChunk(s.line <= maxChunkDigits)
	case s.line == 1:
		return badHTTP("a chunk without a size")
	case c == '\r':
		s.part = partSizeEnd
	case c == '\n' && !s.requests:
		s.endSize()
	case s.part == partSize:
		// Services may pad a size with spaces, as old ones do.
		s.part = partExtension
		return orChunk(c == ';' || c == ' ' && !s.requests)
	default:
		return orChunk(c >= ' ' && c != 0x7f || c == '\t')
	}
	return nil
}

func (s *httpScanner) beginSize() { s.part, s.size, s.line = partSize, 0, 0 }

func (s *httpScanner) endSize() {
	s.part, s.skip = partChunk, s.size
	if s.size == 0 {
		s.part = partTrailer
	}
}

func orChunk(ok bool) error {
	if ok {
		return nil
	}
	return badHTTP("a chunk that is none")
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// body sets what follows a head.
func (s *httpScanner) body(length int64, chunked, untilEnd bool) {
	switch {
	case chunked:
		s.beginSize()
	case untilEnd:
		s.part = partUntilEnd
	case length > 0:
		s.part, s.skip = partLength, length
	}
}
