package testcam

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"strconv"
	"strings"
)

// Limits of what an RTSP client may send before it is refused: ten times what
// players send.
const (
	maxLine    = 2 << 10 // bytes
	maxHeaders = 50
	maxBody    = 4 << 10 // bytes; only GET_PARAMETER and SET_PARAMETER have one
)

// errMalformed means that the bytes are no RTSP request; the connection ends.
var errMalformed = errors.New("malformed RTSP request")

// A request is one RTSP request (RFC 2326 §6), its body read and dropped.
type request struct {
	method string
	url    string
	header textproto.MIMEHeader
}

// readRequest reads the next request and passes over interleaved data that
// come before it (RFC 2326 §10.12): '$', channel, two bytes of length. The
// error is that of the reader, or wraps errMalformed.
func readRequest(r *bufio.Reader, interleaved func(channel byte)) (*request, error) {
	for {
		first, err := r.Peek(1)
		if err != nil {
			return nil, err
		}
		switch first[0] {
		case '$':
			var head [4]byte
			if _, err := io.ReadFull(r, head[:]); err != nil {
				return nil, err
			}
			if _, err := r.Discard(int(head[2])<<8 | int(head[3])); err != nil {
				return nil, err
			}
			interleaved(head[1])
		case '\r', '\n': // empty lines between requests are allowed, as in HTTP
			r.Discard(1)
		default:
			return readHead(r)
		}
	}
}

func readHead(r *bufio.Reader) (*request, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	method, rest, _ := strings.Cut(line, " ")
	url, version, _ := strings.Cut(rest, " ")
	if method == "" || url == "" || !strings.HasPrefix(version, "RTSP/1.") {
		return nil, fmt.Errorf("request line %.80q: %w", line, errMalformed)
	}
	req := &request{method: method, url: url, header: make(textproto.MIMEHeader)}
	for n := 0; ; n++ {
		line, err := readLine(r)
		if err != nil {
			return nil, err
		}
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || n == maxHeaders {
			return nil, fmt.Errorf("header %d %.80q: %w", n, line, errMalformed)
		}
		req.header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return req, dropBody(r, req)
}

func dropBody(r *bufio.Reader, req *request) error {
	length := req.header.Get("Content-Length")
	if length == "" {
		return nil
	}
	n, err := strconv.ParseUint(length, 10, 32)
	if err != nil || n > maxBody {
		return fmt.Errorf("body of %.20q bytes: %w", length, errMalformed)
	}
	_, err = r.Discard(int(n))
	return err
}

// readLine returns one line without its end. A line that does not fit the
// reader's buffer is malformed; so is a control character.
func readLine(r *bufio.Reader) (string, error) {
	raw, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", fmt.Errorf("line longer than %d bytes: %w", r.Size(), errMalformed)
	}
	if err != nil {
		return "", err
	}
	line := strings.TrimRight(string(raw), "\r\n")
	for i := range len(line) {
		if line[i] < ' ' && line[i] != '\t' || line[i] == 0x7f {
			return "", fmt.Errorf("control character in %.80q: %w", line, errMalformed)
		}
	}
	return line, nil
}

// A response is what we answer. Its CSeq is copied from the request.
type response struct {
	status int
	header []string // whole lines, in order
	body   string
}

// reasons are the words beside the numbers (RFC 2326 §7.1.1).
var reasons = map[int]string{
	200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
	453: "Not Enough Bandwidth", 454: "Session Not Found", 455: "Method Not Valid in This State",
	459: "Aggregate Operation Not Allowed", 461: "Unsupported Transport", 501: "Not Implemented",
}

// append writes the response to req as it goes over the wire.
func (resp response) append(b []byte, req *request) []byte {
	b = fmt.Appendf(b, "RTSP/1.0 %d %s\r\n", resp.status, reasons[resp.status])
	if cseq := req.header.Get("Cseq"); cseq != "" {
		b = fmt.Appendf(b, "CSeq: %s\r\n", cseq)
	}
	b = append(b, "Server: keyhole-testcam\r\n"...)
	for _, line := range resp.header {
		b = append(append(b, line...), "\r\n"...)
	}
	if resp.body != "" {
		b = fmt.Appendf(b, "Content-Length: %d\r\n", len(resp.body))
	}
	return append(append(b, "\r\n"...), resp.body...)
}
