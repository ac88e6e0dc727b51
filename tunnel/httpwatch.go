package tunnel

// watchHTTP lets a guard follow both directions of a tunnel to an http service.
func watchHTTP(up, down *flow, g *guard) {
	w := &httpWatch{guard: g}
	up.follow, down.follow = &httpUp{httpWatch: w, scan: httpScanner{requests: true}}, &httpDown{httpWatch: w}
}

// httpWatch is what the two directions must know of each other. All of it is
// guarded by guard.mu.
type httpWatch struct {
	*guard
	blind bool // a WebSocket: nothing is HTTP any more
	last  bool // the service answers no more requests on this connection
}

func (w *httpWatch) isBlind() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.blind
}

// httpUp follows client to service.
type httpUp struct {
	*httpWatch
	scan     httpScanner
	blind    bool
	upgraded bool // the request before asked for another protocol
}

// errEnded ends a direction that waited when the other was over.
var errEnded = &writeError{errServiceGone}

func (w *httpUp) pass(f *flow, p []byte) error {
	x := passage{f: f, p: p}
	for x.at < len(p) && !w.blind {
		if w.upgraded && w.scan.between() {
			// Only the answer tells what the next bytes are.
			if err := x.send(); err != nil {
				return err
			}
			if !w.settled() {
				return errEnded
			}
			w.upgraded, w.blind = false, w.isBlind()
			continue
		}
		if err := x.step(&w.scan, func(head []byte) error { return w.request(&x, head) }); err != nil {
			return err
		}
	}
	return x.rest()
}

// request decides when a request may go on. What came before it goes first.
func (w *httpUp) request(x *passage, head []byte) error {
	h, err := parseRequest(head)
	if err != nil {
		return err
	}
	if err := x.send(); err != nil {
		return err
	}
	w.mu.Lock()
	last := w.last
	w.mu.Unlock()
	if last {
		return badHTTP("a request behind the last answer")
	}
	password := h.password
	if h.user && password == nil {
		password = h.target
	}
	asked, credential := marked(h.method, h.target, password)
	asked.bodyless, asked.upgrade = string(h.method) == "HEAD", h.upgrade
	if !w.ask(asked, h.hasPassword(), credential) {
		return errEnded
	}
	w.upgraded = h.upgrade != noUpgrade
	w.scan.body(h.length, h.chunked, false)
	return nil
}

func (w *httpUp) ended(outcome) {}

// httpDown follows service to client.
type httpDown struct {
	*httpWatch
	scan  httpScanner
	blind bool
}

func (w *httpDown) pass(f *flow, p []byte) error {
	x := passage{f: f, p: p}
	for x.at < len(p) && !w.blind {
		if err := x.step(&w.scan, w.answer); err != nil {
			return err
		}
	}
	return x.rest()
}

// answer notes what an answer says, before it goes on.
func (w *httpDown) answer(head []byte) error {
	h, err := parseResponse(head)
	if err != nil {
		return err
	}
	if h.status == 101 {
		return w.switched()
	}
	if h.status < 200 {
		return nil
	}
	x, asked := w.take(func(exchange) bool { return true })
	if !asked {
		return w.unasked(h)
	}
	w.judge(x, h.status, h.stale)
	none := x.bodyless || h.status == 204 || h.status == 304
	switch {
	case none:
		return nil
	case h.chunked || h.length >= 0 && !h.coded:
		w.scan.body(h.length, h.chunked, false)
		return nil
	}
	return w.untilEnd()
}

// unasked is an answer to nothing. A service that has waited too long may say so
// (408); any other belongs to a request that it saw and the guard did not.
func (w *httpDown) unasked(h httpHead) error {
	if h.status != 408 {
		w.fault()
		return badHTTP("an answer to what was not asked")
	}
	return w.untilEnd()
}

// untilEnd lets all that follows pass as one body: there is no other answer.
func (w *httpDown) untilEnd() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.open) > 0 {
		return badHTTP("an answer without an end, and more to be answered")
	}
	w.last = true
	w.scan.body(0, false, true)
	return nil
}

// switched is the answer to a request for another protocol. After it nothing is
// looked at, so only WebSocket may be what follows: it asks for no password by 401.
func (w *httpDown) switched() error {
	w.mu.Lock()
	single := len(w.open) == 1 && w.open[0].upgrade == webSocket
	w.blind = single
	w.httpWatch.blind = single
	w.mu.Unlock()
	if !single {
		return badHTTP("a protocol that cannot be followed")
	}
	x, _ := w.take(func(exchange) bool { return true })
	w.judge(x, 101, false)
	return nil
}

func (w *httpDown) ended(o outcome) { w.serviceEnded(o) }
