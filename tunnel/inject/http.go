package inject

import (
	"bytes"
	"strings"
)

// web is a conversation in HTTP/1. One request is under way at a time: a client
// that sends the next one before it has its answer waits, so that each 401 has
// one request it can belong to.
//
//	head --request passed on--> body --all of it--> head
//	  └--- answer 101 ---> raw
type web struct {
	*Conn

	// Of the writer.
	heads   head
	held    []byte  // the part of a head that has come
	body    framing // what is left of the request's body
	sending bool    // in the midst of a body
	scratch []byte  // a head to send

	// Of the reader.
	answer    head
	heldDown  []byte
	bodyDown  framing
	down      downState
	interims  int  // 1xx to the present request
	continued bool // 100 was one of them

	// Guarded by mu.
	req      request
	busy     bool // from the head of a request to the end of its answer
	begun    bool // the head of the answer is with the client
	answered bool // the answer is complete; busy if the request is not
	raw      bool // after 101
	half     bool // the client has ended
	mine     bool // this connection tries the password: Vault.try
}

// request is the one under way.
type request struct {
	method, target string
	version        string
	head           []byte // as passed on, without Authorization and the blank line
	kept           []byte // of the body, as it was sent
	keepable       bool   // kept is all of it so far
	sent           bool   // wholly passed on
	expects        bool   // 100
	upgrade        bool
	auth           authorization
	tries          int  // answers of 401 so far
	again          bool // it is being sent again: the writer waits
}

// HTTP wraps a connection to a service of type http. dial opens further ones.
func (v *Vault) HTTP(up Upstream, dial Dial) Side {
	c := newConn(v, up, dial)
	c.talk = &web{Conn: c}
	return c.side()
}

// fromClient is part of talk.
func (w *web) fromClient(p []byte) error {
	for len(p) > 0 {
		if !w.sending && !w.idle() {
			return nil // over: what comes now is for nobody
		}
		if w.raw { // it does not change any more
			_, err := w.up.Write(p)
			return err
		}
		n := 0
		if w.sending {
			n = w.moreBody(p)
		} else {
			n = w.moreHead(p)
		}
		p = p[n:]
		if w.over.Load() {
			return nil
		}
	}
	return nil
}

// idle waits until no request is under way. It returns false when there will be
// no other.
func (w *web) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.busy && !w.over.Load() {
		w.changed.Wait()
	}
	return !w.over.Load()
}

// refuse ends the conversation over what the client sent.
func (w *web) refuse(status int, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy && w.answered { // in the midst of a body whose answer is out
		w.concludeLocked(nil, &MessageError{true, reason})
		return
	}
	w.concludeLocked(refusedRequest(status, reason).http(w.heads.method == "HEAD"), &MessageError{true, reason})
}

// moreHead takes bytes of a head, and passes the request on when it is whole.
func (w *web) moreHead(p []byte) (n int) {
	for len(w.held) == 0 && n < len(p) && (p[n] == '\r' || p[n] == '\n') {
		n++ // empty lines before a request (RFC 9112 §2.2)
	}
	if n > 0 {
		return n
	}
	before := len(w.held)
	raw := p
	if before > 0 {
		w.held = append(w.held, p[:min(len(p), MaxHead+1-before)]...)
		raw = w.held
	}
	end, ok := headEnd(raw[:min(len(raw), MaxHead)], before, true)
	switch {
	case !ok:
		w.refuse(400, "a line that ends in LF alone")
		return len(p)
	case end < 0 && len(raw) > MaxHead:
		w.refuse(431, "the head is larger than 32 KiB")
		return len(p)
	case end < 0:
		if before == 0 {
			w.held = bytes.Clone(p)
		}
		return len(p)
	}
	w.held = nil
	w.begin(raw[:end])
	return end - before
}

// begin checks a request and passes its head on.
func (w *web) begin(raw []byte) {
	w.heads.method = ""
	reason := w.heads.parse(raw)
	if reason == "" {
		reason = w.heads.requestLine()
	}
	if reason != "" {
		w.refuse(400, reason)
		return
	}
	body, status, reason := w.check()
	if reason != "" {
		w.refuse(status, reason)
		return
	}
	w.body = body
	req := request{
		method: w.heads.method, target: w.heads.target, version: w.heads.version,
		keepable: true, expects: w.has("expect"), upgrade: w.upgrades(),
	}
	req.head = w.rewrite(w.req.head[:0], &req) // w.req is done with: nobody else reads it
	req.kept = w.req.kept[:0]
	if problem, why := w.authorize(&req); why != nil {
		w.conclude(problem.http(req.method == "HEAD"), why)
		return
	}
	w.sending = !w.body.done()
	req.sent = !w.sending
	w.scratch = appendAuthorization(append(w.scratch[:0], req.head...), req.auth)
	w.mu.Lock()
	if w.over.Load() {
		w.mu.Unlock()
		return
	}
	w.req, w.busy, w.begun, w.answered = req, true, false, false
	up := w.up
	w.mu.Unlock()
	w.passOn(up, w.scratch)
}

// passOn writes to the service. That it takes no more is for the reader to
// find: it may have answered already.
func (w *web) passOn(up Upstream, p []byte) { _, _ = up.Write(p) }

// appendAuthorization ends a head with its authorization.
func appendAuthorization(out []byte, a authorization) []byte {
	if a.value != "" {
		out = append(append(append(out, "Authorization: "...), a.value...), "\r\n"...)
	}
	return append(out, "\r\n"...)
}

// moreBody takes bytes of the request's body.
func (w *web) moreBody(p []byte) (n int) {
	n, reason := w.body.take(p)
	if reason == "" && w.body.trailing() {
		var m int
		m, reason = w.body.drop(p[n:], true)
		n += m
	}
	if reason != "" {
		w.refuse(400, reason)
		return len(p)
	}
	done := w.body.done()
	w.mu.Lock()
	for w.req.again && !w.over.Load() {
		w.changed.Wait()
	}
	if w.req.keepable && len(w.req.kept)+n <= MaxKept {
		w.req.kept = append(w.req.kept, p[:n]...)
	} else {
		w.req.keepable, w.req.kept = false, nil
	}
	up := w.up
	w.mu.Unlock()
	w.passOn(up, p[:n])
	if done {
		w.sending = false
		w.requestSent()
	}
	return n
}

// requestSent notes that the service has the whole request.
func (w *web) requestSent() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.req.sent = true
	if w.answered {
		w.restLocked()
	}
}

// restLocked is between one exchange and the next.
func (w *web) restLocked() {
	w.busy = false
	w.req.auth = authorization{}
	w.changed.Broadcast()
}

// closeWriteLocked is part of talk. While the request might have to be sent again
// the service is not told that the client is done.
func (w *web) closeWriteLocked() error {
	w.half = true
	if w.busy && !w.raw && w.req.sent && !w.begun {
		return nil
	}
	return w.up.CloseWrite()
}

// abandonLocked is part of talk.
func (w *web) abandonLocked() {
	if w.mine {
		w.mine = false
		w.vault.leave()
	}
}

// check looks at a whole request head: what could be read in two ways, or is not
// for this service, goes no further.
func (w *web) check() (body framing, status int, reason string) {
	h := &w.heads
	switch {
	case h.version != "HTTP/1.1" && h.version != "HTTP/1.0":
		return body, 505, "it is neither HTTP/1.0 nor HTTP/1.1"
	case h.method == "CONNECT" || h.method == "TRACE" || h.method == "TRACK":
		return body, 405, "a service is asked for no other connection, and not to repeat what the device tells it" // TRACE shows our Authorization
	}
	for i := range h.fields {
		switch h.fields[i].name {
		case "content_length", "transfer_encoding":
			return body, 400, "a header field whose name only looks like that of another"
		}
	}
	host, many := h.only("host")
	switch {
	case many || host == nil && h.version == "HTTP/1.1":
		return body, 400, "it does not name one Host"
	case bytes.ContainsAny(host, "@/?#\\\" \t,"):
		return body, 400, "a Host that is none"
	}
	if reason := w.originForm(host); reason != "" {
		return body, 400, reason
	}
	if expect, many := h.only("expect"); many || expect != nil && lower(expect) != "100-continue" {
		return body, 417, "it expects what is not known here"
	}
	body, _, reason = h.framingOf()
	return body, 400, reason
}

// originForm turns the target into a path. A proxy's form is taken when it names
// this very host.
func (w *web) originForm(host []byte) (reason string) {
	target := w.heads.target
	switch {
	case target[0] == '/' || target == "*" && w.heads.method == "OPTIONS":
		return ""
	case len(target) < len("http://") || !strings.EqualFold(target[:len("http://")], "http://"):
		return "a target that is no path"
	}
	rest := target[len("http://"):]
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		rest, end = rest+"/", len(rest)
	}
	if !strings.EqualFold(rest[:end], string(host)) || len(host) == 0 {
		return "a target at another host"
	}
	if rest[end] == '?' {
		rest = rest[:end] + "/" + rest[end:]
	}
	w.heads.target = rest[end:]
	return ""
}

func (w *web) has(name string) bool {
	v, _ := w.heads.only(name)
	return v != nil
}

// upgrades says whether the request asks for a WebSocket, the one protocol that
// a connection may change to.
func (w *web) upgrades() bool {
	if w.heads.version != "HTTP/1.1" || w.heads.method != "GET" || !w.body.done() {
		return false
	}
	named := false
	w.heads.words("connection", func(word string) { named = named || word == "upgrade" })
	upgrade, many := w.heads.only("upgrade")
	return named && !many && lower(upgrade) == "websocket"
}

// rewrite makes the head that is passed on, but for Authorization and the blank
// line.
func (w *web) rewrite(out []byte, req *request) []byte {
	out = append(out, req.method...)
	out = append(out, ' ')
	out = append(out, req.target...)
	out = append(out, ' ')
	out = append(out, req.version...)
	out = append(out, "\r\n"...)
	persist, named := hopByHop(&w.heads)
	for i := range w.heads.fields {
		f := &w.heads.fields[i]
		if secret(f.name) || hop(f.name) || contains(named, f.name) || f.name == "expect" && req.version == "HTTP/1.0" {
			continue
		}
		out = append(out, f.line...)
	}
	switch {
	case req.upgrade:
		out = append(out, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	case persist != "":
		out = append(append(append(out, "Connection: "...), persist...), "\r\n"...)
	}
	return out
}

// hop says whether a field is between two neighbours only (RFC 9110 §7.6.1).
// Keep-Alive stays: a client's connection is one of the service's.
func hop(name string) bool {
	switch name {
	case "connection", "proxy-connection", "te", "trailer", "upgrade", "http2-settings":
		return true
	}
	return false
}

// hopByHop reads Connection: what it says about the connection, and the fields
// that it names and that therefore go no further. Those which everything hangs
// on cannot be taken away by naming them.
func hopByHop(h *head) (persist string, named []string) {
	h.words("connection", func(word string) {
		switch word {
		case "close":
			persist = "close"
		case "keep-alive":
			if persist == "" {
				persist = "keep-alive"
			}
		case "host", "content-length", "transfer-encoding", "content-type", "expect", "upgrade", "date", "cookie", "set-cookie", "origin", "sec-websocket-key", "sec-websocket-accept", "sec-websocket-version":
		default:
			named = append(named, word)
		}
	})
	return persist, named
}

func contains(list []string, name string) bool {
	for _, s := range list {
		if s == name {
			return true
		}
	}
	return false
}
