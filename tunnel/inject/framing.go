package inject

import (
	"math"
	"strconv"
)

// framing follows one body to its end (RFC 9112 §6). The zero value is a body of
// no bytes.
type framing struct {
	kind framingKind
	left int64 // bytes of the body, or of the chunk

	// Of a chunked body.
	state    chunkState
	digits   int // of the size so far
	trailers int // bytes of trailers and extensions so far
}

type framingKind uint8

const (
	framingLength  framingKind = iota // left bytes
	framingChunked                    // until the chunk of no bytes
	framingToEnd                      // until the connection ends
)

// chunkState is where in a chunked body the next byte stands.
//
//	size [spaces] [; extension] CR LF data CR LF … 0 CR LF [trailer CR LF]… CR LF
type chunkState uint8

const (
	chunkSize    chunkState = iota
	chunkPadding            // spaces after the size, with which old servers fill a fixed width
	chunkExtension
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer // at the start of a trailer line or of the last, empty one
	chunkTrailerLine
	chunkTrailerLF
	chunkLastLF
	chunkDone
)

const (
	maxChunkDigits = 15 // below 2^60
	maxExtension   = 256
	maxTrailers    = 8 << 10
)

// done says that the body has ended. One that ends with the connection never
// does by itself.
func (f *framing) done() bool {
	switch f.kind {
	case framingLength:
		return f.left == 0
	case framingChunked:
		return f.state == chunkDone
	}
	return false
}

// take returns how many bytes at the start of p belong to the body and may go
// on as they are. It stops at the end of the body, and right before trailers,
// which are for trailing.
func (f *framing) take(p []byte) (n int, reason string) {
	switch f.kind {
	case framingToEnd:
		return len(p), ""
	case framingLength:
		n = int(min(f.left, int64(len(p))))
		f.left -= int64(n)
		return n, ""
	}
	for n < len(p) && f.state < chunkTrailer {
		if f.state == chunkData {
			m := min(f.left, int64(len(p)-n))
			f.left -= m
			n += int(m)
			if f.left == 0 {
				f.state = chunkDataCR
			}
			continue
		}
		if reason := f.step(p[n]); reason != "" {
			return n, reason
		}
		n++
	}
	return n, ""
}

const badChunk = "a chunk that is not framed as one"

// step takes one byte between the data of two chunks.
func (f *framing) step(c byte) (reason string) {
	switch f.state {
	case chunkSize:
		return f.stepSize(c)
	case chunkPadding:
		switch c {
		case ' ', '\t':
			if f.trailers++; f.trailers > maxExtension {
				return badChunk
			}
		case ';':
			f.state = chunkExtension
		case '\r':
			f.state = chunkSizeLF
		default:
			return badChunk
		}
	case chunkExtension:
		switch {
		case c == '\r':
			f.state = chunkSizeLF
		case c < ' ' && c != '\t' || c == 0x7f:
			return badChunk
		default:
			if f.trailers++; f.trailers > maxExtension {
				return "a chunk extension that is too long"
			}
		}
	case chunkSizeLF:
		if c != '\n' {
			return badChunk
		}
		f.state, f.digits, f.trailers = chunkData, 0, 0
		if f.left == 0 {
			f.state = chunkTrailer
		}
	case chunkDataCR:
		if c != '\r' {
			return badChunk
		}
		f.state = chunkDataLF
	case chunkDataLF:
		if c != '\n' {
			return badChunk
		}
		f.state = chunkSize
	}
	return ""
}

func (f *framing) stepSize(c byte) (reason string) {
	digit, ok := hexDigit(c)
	switch {
	case ok && f.digits < maxChunkDigits:
		f.left = f.left<<4 | int64(digit)
		f.digits++
	case f.digits > 0 && (c == ' ' || c == '\t'):
		f.state = chunkPadding
	case f.digits > 0 && c == ';':
		f.state = chunkExtension
	case f.digits > 0 && c == '\r':
		f.state = chunkSizeLF
	default:
		return badChunk
	}
	return ""
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// trailing says that trailers, or the blank line that ends the body, come next.
func (f *framing) trailing() bool {
	return f.kind == framingChunked && f.state >= chunkTrailer && f.state < chunkDone
}

// drop reads trailers, which nobody gets to see: an Authentication-Info may be
// among them. It returns how many bytes it took, up to the end of the body.
// With none there may be no trailers.
func (f *framing) drop(p []byte, none bool) (n int, reason string) {
	for n < len(p) && f.state != chunkDone {
		c := p[n]
		n++
		if f.trailers++; f.trailers > maxTrailers {
			return n, "trailers without an end"
		}
		switch {
		case f.state == chunkTrailer && c == '\r':
			f.state = chunkLastLF
		case f.state == chunkLastLF && c == '\n':
			f.state = chunkDone
		case none:
			return n, "trailers after the body"
		case f.state == chunkTrailer && isTokenChar(c):
			f.state = chunkTrailerLine
		case f.state == chunkTrailerLine && c == '\r':
			f.state = chunkTrailerLF
		case f.state == chunkTrailerLine && (c >= ' ' || c == '\t') && c != 0x7f:
		case f.state == chunkTrailerLF && c == '\n':
			f.state = chunkTrailer
		default:
			return n, "a trailer that is no header field"
		}
	}
	return n, ""
}

// lengthOf reads a Content-Length: digits and nothing else, below 2^63.
func lengthOf(value []byte) (int64, bool) {
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	return n, err == nil && n < math.MaxInt64
}

// framingOf is the framing that a head announces; has is false where it names
// none. What names two, or one twice, is refused: two readers could take
// different bytes for the next message.
func (h *head) framingOf() (f framing, has bool, reason string) {
	length, many := h.only("content-length")
	coding, codings := h.only("transfer-encoding")
	switch {
	case many:
		return f, false, "more than one Content-Length"
	case codings || coding != nil && (lower(coding) != "chunked" || !hasChunks(h.version)):
		return f, false, "a Transfer-Encoding other than chunked"
	case coding != nil && length != nil:
		return f, false, "both Content-Length and Transfer-Encoding"
	case coding != nil:
		return framing{kind: framingChunked}, true, ""
	case length != nil:
		n, ok := lengthOf(length)
		if !ok || len(length) == 0 {
			return f, false, "a Content-Length that is no number"
		}
		return framing{left: n}, true, ""
	}
	return f, false, ""
}

// hasChunks: chunks are of HTTP/1.1 (RFC 9112 §6.1).
func hasChunks(version string) bool { return version == "HTTP/1.1" }
