package inject

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// downState is where in the service's bytes the reader stands.
type downState uint8

const (
	downHead    downState = iota // a head comes next
	downBody                     // a body for the client
	downSwallow                  // the body of a challenge
	downRaw                      // a WebSocket
)

const (
	// maxInterims bounds the answers 1xx to one request: 100, 103 and progress
	// reports of 102.
	maxInterims = 32
	// maxTries bounds the 401 to one request: without authorization, with one
	// that was out of date, and a stale nonce in between.
	maxTries = 4
)

// through is part of talk.
func (w *web) through(p []byte) int {
	switch w.down {
	case downRaw:
		return len(p)
	case downBody:
		n, _ := w.bodyDown.take(p) // fromService meets the same error
		if w.bodyDown.done() {
			w.complete()
		}
		return n
	}
	return 0
}

// between is part of talk.
func (w *web) between() bool { return w.down == downHead || w.down == downSwallow }

// fromService is part of talk.
func (w *web) fromService(p []byte) error {
	for len(p) > 0 {
		var n int
		var err error
		switch w.down {
		case downRaw:
			w.out, n = append(w.out, p...), len(p)
		case downHead:
			n, err = w.downHeads(p)
		default:
			n, err = w.downBodies(p)
		}
		if err != nil {
			return err
		}
		if p = p[n:]; w.anew || w.over.Load() {
			return nil
		}
	}
	return nil
}

// downBodies takes bytes of a body that through did not take.
func (w *web) downBodies(p []byte) (n int, err error) {
	n, reason := w.bodyDown.take(p)
	if w.down == downBody {
		w.out = append(w.out, p[:n]...)
	}
	if reason == "" && w.bodyDown.trailing() {
		var m int
		m, reason = w.bodyDown.drop(p[n:], false)
		n += m
		if w.bodyDown.done() && w.down == downBody {
			w.out = append(w.out, "\r\n"...)
		}
	}
	switch {
	case reason != "":
		return n, &MessageError{false, reason} // the client has its beginning: it must not look whole
	case !w.bodyDown.done():
		return n, nil
	case w.down == downSwallow:
		w.down = downHead
		return n, w.sendAgain()
	}
	w.complete()
	return n, nil
}

// complete is the end of an answer.
func (w *web) complete() {
	w.down, w.interims, w.continued = downHead, 0, false
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered = true
	if cap(w.req.kept) > keptIdle {
		w.req.keepable, w.req.kept = false, nil
	}
	if w.req.sent {
		w.restLocked()
	}
}

// downHeads gathers the head of an answer.
func (w *web) downHeads(p []byte) (n int, err error) {
	if !w.underWay() {
		// Apache and others say 408 before they close an idle connection. Shown
		// to the client it would pass for the answer to its next request.
		w.conclude(nil, nil)
		return len(p), nil
	}
	before := len(w.heldDown)
	raw := p
	if before > 0 {
		w.heldDown = append(w.heldDown, p[:min(len(p), MaxHead+1-before)]...)
		raw = w.heldDown
	}
	end, _ := headEnd(raw[:min(len(raw), MaxHead)], before, false)
	switch {
	case end < 0 && len(raw) > MaxHead:
		return len(p), w.bad("a head larger than 32 KiB")
	case end < 0:
		if before == 0 {
			w.heldDown = bytes.Clone(p)
		}
		return len(p), nil
	}
	w.heldDown = nil
	return end - before, w.respond(raw[:end])
}

func (w *web) underWay() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.busy && !w.answered
}

// bad stands in for an answer that cannot be passed on.
func (w *web) bad(reason string) error {
	w.conclude(refusedAnswer(reason).http(w.req.method == "HEAD"), &MessageError{false, reason})
	return nil
}

// giveUp tells the client that its request was refused by the service.
func (w *web) giveUp(r *Refusal) error {
	w.conclude(refusedPassword(r).http(w.req.method == "HEAD"), r)
	return nil
}

// respond decides what becomes of a whole head. Its request does not change
// while it is under way, but for kept and sent.
func (w *web) respond(raw []byte) error {
	h := &w.answer
	reason := h.parse(raw)
	if reason == "" {
		reason = h.statusLine()
	}
	if reason == "" && h.version != "HTTP/1.1" && h.version != "HTTP/1.0" {
		reason = "it speaks no HTTP/1"
	}
	if reason != "" {
		return w.bad(reason)
	}
	if h.status < 200 && h.status != 101 {
		return w.interim()
	}
	body, reason := w.bodyOf()
	if reason != "" {
		return w.bad(reason)
	}
	w.bodyDown = body
	switch {
	case h.status == 101:
		return w.upgraded()
	case h.status == 401:
		return w.challenged()
	case h.status == 407:
		return w.bad("it asks for a proxy's password, and is none")
	}
	if r := w.judged(h.status); r != nil {
		return w.giveUp(r)
	}
	w.out = w.rewriteAnswer(w.out)
	w.down = downBody
	w.answerBegun()
	if w.bodyDown.done() {
		w.complete()
	}
	return nil
}

// answerBegun passes on the end of a client that ended before its answer came.
func (w *web) answerBegun() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begun = true; w.half && !w.over.Load() {
		_ = w.up.CloseWrite() // an error is for the reader to meet
	}
}

// interim passes on what comes before the answer, where the client knows of
// such things and waits for it.
func (w *web) interim() error {
	if w.interims++; w.interims > maxInterims {
		return w.bad("interim answers without an end")
	}
	if w.req.version != "HTTP/1.1" || w.answer.status == 100 && (!w.req.expects || w.continued) {
		return nil
	}
	w.continued = w.continued || w.answer.status == 100
	w.out = w.rewriteAnswer(w.out)
	return nil
}

// bodyOf is the framing of the answer's body (RFC 9112 §6.3).
func (w *web) bodyOf() (framing, string) {
	body, has, reason := w.answer.framingOf()
	status := w.answer.status
	switch {
	case reason != "":
		return body, reason
	case status < 200 || status == 204 || status == 304 || w.req.method == "HEAD":
		return framing{}, ""
	case !has:
		return framing{kind: framingToEnd}, ""
	}
	return body, ""
}

// upgraded goes over to passing bytes.
func (w *web) upgraded() error {
	protocol, many := w.answer.only("upgrade")
	if !w.req.upgrade || many || lower(protocol) != "websocket" {
		return w.bad("it changes to a protocol that it was not asked for")
	}
	if r := w.judged(101); r != nil {
		return w.giveUp(r)
	}
	w.out = w.rewriteAnswer(w.out)
	w.down = downRaw
	w.answerBegun()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.raw, w.answered = true, true
	w.restLocked()
	return nil
}

// judged notes what an answer says about the password. It returns a Refusal
// when the client is told of that in place of the answer.
func (w *web) judged(status int) *Refusal {
	auth := w.req.auth
	if auth.value == "" {
		return nil
	}
	for i := range w.answer.fields {
		if f := &w.answer.fields[i]; f.name == "authentication-info" && auth.nonce != "" {
			if next := nextNonce(string(f.value)); next != "" {
				w.vault.next(next)
			}
		}
	}
	w.mu.Lock()
	mine := w.mine
	w.mine = false
	w.mu.Unlock()
	switch {
	case status == 403:
		return w.vault.forbid(mine)
	case status < 400:
		w.vault.accept(mine)
	case mine:
		w.vault.leave() // says nothing about the password
	}
	return nil
}

// rewriteAnswer appends the head as the client sees it.
func (w *web) rewriteAnswer(out []byte) []byte {
	h := &w.answer
	out = append(append(out, h.first...), "\r\n"...)
	persist, named := hopByHop(h)
	for i := range h.fields {
		f := &h.fields[i]
		if secret(f.name) || hop(f.name) || contains(named, f.name) || w.vault.reveals(f.value, w.req.auth.mark) {
			continue
		}
		if locates(f.name) {
			out = append(append(append(out, f.line[:strings.IndexByte(string(f.line), ':')]...), ": "...), withoutUser(f.value)...)
		} else {
			out = append(out, trimEnd(f.line)...)
		}
		out = append(out, "\r\n"...)
	}
	switch {
	case h.status == 101:
		out = append(out, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	case persist != "":
		out = append(append(append(out, "Connection: "...), persist...), "\r\n"...)
	}
	return append(out, "\r\n"...)
}

// locates says whether a field has URLs, in which a service may write users.
func locates(name string) bool {
	switch name {
	case "location", "content-location", "refresh", "link", "content-base", "rtp-info":
		return true
	}
	return false
}

// ended is part of talk.
func (w *web) ended() error {
	if w.down == downBody && w.bodyDown.kind == framingToEnd {
		w.complete()
		return io.EOF
	}
	if w.down == downRaw || !w.underWay() {
		return io.EOF
	}
	return io.ErrUnexpectedEOF
}

// persists says whether the service keeps the connection after this answer.
func (w *web) persists() bool {
	persist, _ := hopByHop(&w.answer)
	return w.bodyDown.kind != framingToEnd && persist != "close" && (w.answer.version == "HTTP/1.1" || persist == "keep-alive") &&
		!bytes.Contains(w.req.head, []byte("\r\nConnection: close\r\n")) && w.bodyDown.left <= maxSwallowed
}

// challenged answers a 401 in the client's place, or tells it why not.
func (w *web) challenged() error {
	o, err := choose(w.answer.challenges())
	w.mu.Lock()
	w.req.tries++
	auth, tries, sent, keepable, mine := w.req.auth, w.req.tries, w.req.sent, w.req.keepable, w.mine
	w.req.again = true // until it has been sent again, or will not be
	w.mu.Unlock()
	switch {
	case err == nil && (auth.wrong(o) || tries >= maxTries), err == errNoChallenge && auth.value != "":
		w.setMine(false)
		return w.giveUp(w.vault.refuse(mine, ErrWrongPassword))
	case err != nil:
		return w.giveUp(&Refusal{Why: err})
	}
	if !mine {
		var r *Refusal
		if mine, r = w.vault.try(w.ctx); r != nil {
			return w.giveUp(r)
		}
		w.setMine(mine)
	}
	auth = w.vault.learn(o, w.req.method, w.req.target)
	if !keepable {
		w.conclude(problem{status: 503, detail: "the service wants a new proof of the password in the midst of a long request: send it again", wait: answerTime / 10}.http(false), &Refusal{Why: errLong})
		return nil
	}
	w.mu.Lock()
	w.req.auth = auth
	w.mu.Unlock()
	if sent && w.persists() {
		if w.down = downSwallow; w.bodyDown.done() {
			w.down = downHead
			return w.sendAgain()
		}
		return nil
	}
	w.down = downHead
	if err := w.again(); err != nil {
		return w.lost(err)
	}
	return w.sendAgain()
}

var errLong = fmt.Errorf("a nonce ended in the midst of a request of more than %d bytes", MaxKept)

// lost tells the client that the service could not be reached a second time.
func (w *web) lost(err error) error {
	w.conclude(refusedAnswer("it ended the connection to be asked again, and then could not be reached").http(w.req.method == "HEAD"), err)
	return nil
}

// setMine notes whether this connection tries the password; when it is over by
// now, the try is given back.
func (w *web) setMine(mine bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if mine && w.over.Load() {
		w.vault.leave()
		return
	}
	w.mine = mine
}

// sendAgain sends the request with its new authorization.
func (w *web) sendAgain() error {
	w.mu.Lock()
	message := append([]byte(nil), w.req.head...)
	message = append(appendAuthorization(message, w.req.auth), w.req.kept...)
	up := w.up
	w.mu.Unlock()
	err := send(up, message)
	w.mu.Lock()
	w.req.again = false
	w.changed.Broadcast()
	w.mu.Unlock()
	if err != nil {
		return w.lost(err)
	}
	return nil
}

// challenges are those of all WWW-Authenticate fields.
func (h *head) challenges() (list []challenge) {
	for i := range h.fields {
		if h.fields[i].name == "www-authenticate" && len(list) < maxChallenges {
			list = append(list, parseChallenges(string(h.fields[i].value))...)
		}
	}
	return list
}
