package tunnel

import "sync"

// A ProtocolError ends a tunnel whose client does not speak the protocol of the
// service's type. What it sent last has not been passed on.
type ProtocolError struct {
	Protocol string // "RTSP"
	Reason   string
}

func (e *ProtocolError) Error() string { return "not " + e.Protocol + ": " + e.Reason }

// maxRefusals is how many answers may wait for their turn: players wait for
// each answer before they go on, so one is usual.
const maxRefusals = 8

// watch lets an RTSP watcher follow both directions of a tunnel, with a guard if
// the service authenticates by itself. Two locks: writing is taken before mu.
func watch(up, down *flow, g *guard) {
	d := &dialogue{down: down, between: true, guard: g}
	up.follow, down.follow = &rtspUp{d: d}, &rtspDown{d: d}
}

// dialogue is what the two directions must know of each other.
//
// An answer of ours may only stand between two messages of the service, and
// after the answers to everything asked before it (RFC 2326 §9.1 keeps their
// order). So it waits in refusals until both is so; whichever goroutine then
// comes first writes it.
type dialogue struct {
	down    *flow
	guard   *guard     // nil: nobody counts passwords
	writing sync.Mutex // held while writing to the client

	mu       sync.Mutex
	asked    uint64 // requests passed on
	answered uint64 // of those, answered
	lastCSeq string // of the last one passed on
	refusals []refusal
	between  bool // the service's bytes stand between two messages
	lost     bool // … can no longer be told apart
	blind    bool // RTSP inside HTTP: nothing is watched
	playing  bool // a SETUP was answered by yes
}

type refusal struct {
	after  uint64 // goes out when so many were answered
	answer []byte
}

// ask notes a request that is about to be passed on.
func (d *dialogue) ask(m *rtspMessage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	d.lastCSeq = m.cseq
}

// answeredBy notes a response of the service. One that carries the number of
// the last request answers all before it, should the service have left any
// unanswered.
func (d *dialogue) answeredBy(m *rtspMessage) {
	if m.method != "" || m.status < 200 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.answered++; d.answered > d.asked || m.cseq != "" && m.cseq == d.lastCSeq {
		d.answered = d.asked
	}
}

// refuse answers a SETUP now or as soon as it is its turn.
func (d *dialogue) refuse(m *rtspMessage) error {
	if m.cseq == "" {
		return badRTSP("a SETUP without a CSeq")
	}
	d.mu.Lock()
	if d.lost || len(d.refusals) >= maxRefusals {
		d.mu.Unlock()
		return badRTSP("a SETUP for UDP that cannot be answered")
	}
	d.refusals = append(d.refusals, refusal{d.asked, m.refusal()})
	d.mu.Unlock()
	d.writing.Lock()
	defer d.writing.Unlock()
	if err, failed := d.flushLocked().(*writeError); failed {
		return err.err // the client is this direction's own side
	}
	return nil
}

// flushLocked writes the answers whose turn it is. The caller holds writing.
func (d *dialogue) flushLocked() error {
	for {
		d.mu.Lock()
		if !d.between || len(d.refusals) == 0 || d.refusals[0].after > d.answered {
			d.mu.Unlock()
			return nil
		}
		answer := d.refusals[0].answer
		d.refusals = d.refusals[1:]
		d.mu.Unlock()
		if err := d.down.write(answer); err != nil {
			return err
		}
	}
}

// waiting says whether an answer waits for its turn.
func (d *dialogue) waiting() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.refusals) > 0
}

// stand notes whether the service's bytes stand between two messages, and
// whether an answer is due there.
func (d *dialogue) stand(between bool) (due bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.between = between
	return between && len(d.refusals) > 0 && d.refusals[0].after <= d.answered
}

// rtspUp follows client to service: requests, responses to the service's own
// requests, and frames (receiver reports).
type rtspUp struct {
	d       *dialogue
	scan    rtspScanner
	begun   bool
	blind   bool
	dropped bool // the body that passes belongs to a refused request
}

func (w *rtspUp) pass(f *flow, p []byte) error {
	if w.blind {
		return f.write(p)
	}
	kept := 0 // p[kept:at] may go on and has not
	for at := 0; at < len(p); {
		x, err := w.scan.step(p[at:])
		if err != nil {
			return err
		}
		end := at + x.n
		whole := len(x.raw) == x.n || len(x.frame) == x.n // nothing of it was held
		switch {
		case x.message != nil:
			if held, err := w.d.guarded(f, x, p[kept:at]); err != nil {
				return err
			} else if held {
				kept = at
			}
			out, err := w.message(x)
			if err != nil {
				return err
			}
			if whole && len(out) > 0 && &out[0] == &x.raw[0] {
				break // stays part of p
			}
			if err := writeAll(f, p[kept:at], out); err != nil {
				return err
			}
			kept = end
		case x.partial:
			if err := writeAll(f, p[kept:at]); err != nil {
				return err
			}
			kept = end
		case x.frame != nil && !w.d.mayFrame():
			return badRTSP("a frame before anything plays")
		case x.frame != nil && !whole:
			if err := writeAll(f, p[kept:at], x.frame); err != nil {
				return err
			}
			kept = end
		case x.frame == nil && w.dropped:
			if err := writeAll(f, p[kept:at]); err != nil {
				return err
			}
			kept = end
		}
		w.dropped = w.dropped && w.scan.skip > 0
		at = end
		if w.blind {
			break
		}
	}
	return writeAll(f, p[kept:])
}

// message decides about a request: it returns its header, another one, or
// nothing if it has been answered here.
func (w *rtspUp) message(x piece) ([]byte, error) {
	m := x.message
	if isHTTPVersion(m.version) {
		if w.begun || m.method != "GET" && m.method != "POST" {
			return nil, badRTSP("HTTP in the midst of it")
		}
		if w.d.guard != nil {
			return nil, badRTSP("RTSP inside HTTP, which cannot be followed")
		}
		w.blind = true
		w.d.mu.Lock()
		w.d.blind = true
		w.d.mu.Unlock()
		return x.raw, nil
	}
	w.begun = true
	if m.method == "" {
		return x.raw, nil
	}
	verdict, tcp := m.judge()
	if verdict == setupRefuse {
		w.dropped = w.scan.skip > 0
		return nil, w.d.refuse(m)
	}
	w.d.ask(m)
	if verdict == setupRewrite {
		return m.rewrite(x.raw, tcp), nil
	}
	return x.raw, nil
}

// rtspDown follows service to client. All bytes pass, at once; it only needs to
// know where messages end. A service whose bytes cannot be followed is left in
// peace: players forgive cameras a lot.
type rtspDown struct {
	d    *dialogue
	scan rtspScanner
	lost bool
}

func (w *rtspDown) pass(f *flow, p []byte) error {
	w.d.writing.Lock()
	defer w.d.writing.Unlock()
	if w.unseen() {
		return f.write(p)
	}
	kept, at := 0, 0
	if !w.d.waiting() {
		// The fast path of a stream that plays. An answer that comes to wait
		// meanwhile has its place after p.
		at = w.scan.frames(p)
	}
	for at < len(p) {
		x, err := w.scan.step(p[at:])
		if err != nil {
			if w.d.guard != nil {
				return err
			}
			w.lost = true
			if w.d.lose() {
				return badRTSP("a SETUP for UDP that cannot be answered")
			}
			break
		}
		at += x.n
		if x.message != nil {
			w.d.answeredBy(x.message)
			if err := w.d.judged(x.message); err != nil {
				return err
			}
		}
		if w.scan.between() && w.d.stand(true) {
			if err := writeAll(f, p[kept:at]); err != nil {
				return err
			}
			kept = at
			if err := w.d.flushLocked(); err != nil {
				return err
			}
		}
	}
	w.d.stand(false) // until p has been written
	if err := writeAll(f, p[kept:]); err != nil {
		return err
	}
	if w.lost || !w.scan.between() {
		return nil
	}
	w.d.stand(true)
	return w.d.flushLocked()
}

// unseen says that the bytes are not looked at.
func (w *rtspDown) unseen() bool {
	if !w.lost {
		w.d.mu.Lock()
		w.lost = w.d.blind
		w.d.mu.Unlock()
	}
	return w.lost
}

// lose notes that the service cannot be followed any more. It returns true if
// an answer was waiting, which now has no place.
func (d *dialogue) lose() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost, d.between = true, false
	return len(d.refusals) > 0
}

func (w *rtspUp) ended(outcome) {}

func (w *rtspDown) ended(o outcome) {
	if w.d.guard != nil {
		w.d.guard.serviceEnded(o)
	}
}

func writeAll(f *flow, parts ...[]byte) error {
	for _, p := range parts {
		if len(p) > 0 {
			if err := f.write(p); err != nil {
				return err
			}
		}
	}
	return nil
}
