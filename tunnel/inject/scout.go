package inject

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"time"
)

// authorize gives a request its authorization before it is sent, where that is
// known or must be. The problem is what the client is told when the error is not
// nil.
func (w *web) authorize(req *request) (problem, error) {
	if r := w.vault.Refusal(); r != nil {
		return refusedPassword(r), r
	}
	// What is too long to be sent twice is sent with an answer to a challenge
	// that is as young as can be. A password in clear is never out of date.
	long := w.body.kind == framingChunked || w.body.left > MaxKept
	known := w.vault.knows(long)
	var fresh offer
	if long && !known {
		o, asked, err := w.scout(req)
		if err != nil {
			r := &Refusal{Why: err}
			return refusedPassword(r), r
		}
		fresh, known = o, asked
	}
	if !known && !w.vault.knows(false) {
		return problem{}, nil // it is asked without, and may say what it wants
	}
	mine, r := w.vault.try(w.ctx)
	if r != nil {
		return refusedPassword(r), r
	}
	w.setMine(mine)
	if fresh.scheme != "" {
		req.auth = w.vault.learn(fresh, req.method, req.target)
	} else {
		req.auth = w.vault.known(req.method, req.target)
	}
	return problem{}, nil
}

// scout asks for the target on a connection of its own, without a body and
// without a password, to hear what the service wants. asked is false when it
// wants nothing.
//
// GET is what every server knows and what changes nothing (RFC 9110 §9.2.1); it
// is answered before the service looks at anything but the password. An
// Expect: 100-continue in its place would do where servers heed it; those of
// cameras do not.
func (w *web) scout(req *request) (o offer, asked bool, err error) {
	conn, err := w.dial(w.ctx)
	if err != nil {
		return o, false, errScout
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return o, false, errScout
	}
	host, _ := w.heads.only("host")
	question := "GET " + req.target + " HTTP/1.1\r\nHost: " + string(host) + "\r\nConnection: close\r\n\r\n"
	if _, err := io.WriteString(conn, question); err != nil {
		return o, false, errScout
	}
	var h head
	in := bufio.NewReaderSize(conn, MaxHead)
	for {
		raw, err := readHead(in)
		if err != nil || h.parse(raw) != "" || h.statusLine() != "" {
			return o, false, errScout
		}
		if h.status >= 200 {
			break
		}
	}
	if h.status != 401 {
		return o, false, nil
	}
	o, err = choose(h.challenges())
	return o, err == nil, err
}

var errScout = errors.New("it did not say how it wants the password, and the request is too long to be sent twice")

// readHead reads up to the blank line, at most the reader's buffer.
func readHead(in *bufio.Reader) ([]byte, error) {
	var raw []byte
	for {
		line, err := in.ReadSlice('\n')
		raw = append(raw, line...)
		switch {
		case err != nil:
			return nil, err
		case len(raw) > MaxHead:
			return nil, bufio.ErrBufferFull
		case len(bytes.TrimRight(line, "\r\n")) == 0:
			return raw, nil
		}
	}
}
