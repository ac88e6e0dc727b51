package tunnel

import (
	"bytes"
	"slices"
	"strings"
)

// guarded notes a request for the guard, if there is one, and waits until it may go
// on; before, what came before it has gone, which the result says. Whatever servers
// might read in two ways does not go on.
func (d *dialogue) guarded(f *flow, x piece, before []byte) (written bool, err error) {
	m := x.message
	if d.guard == nil || m.method == "" || isHTTPVersion(m.version) {
		return false, nil
	}
	password, err := m.password(x.raw)
	if err != nil {
		return false, err
	}
	if verdict, _ := m.judge(); verdict == setupRefuse {
		return false, nil // answered here
	}
	if err := writeAll(f, before); err != nil {
		return false, err
	}
	e, credential := marked([]byte(m.method), []byte(m.target), password)
	e.setup, e.cseq = m.method == "SETUP", m.cseq
	d.guard.shed()
	if !d.guard.ask(e, password != nil, credential) {
		return false, errEnded
	}
	return true, nil
}

// password is what a request shows to be somebody, nil if nothing.
func (m *rtspMessage) password(raw []byte) ([]byte, error) {
	if bytes.Count(raw, []byte("\r")) != bytes.Count(raw, []byte("\r\n")) {
		return nil, badRTSP("a CR without LF")
	}
	if m.folded {
		return nil, badRTSP("a folded line, which servers read in different ways")
	}
	if m.body > 0 && !slices.Contains([]string{"GET_PARAMETER", "SET_PARAMETER", "ANNOUNCE"}, m.method) {
		return nil, badRTSP("a body where none belongs") // servers would read it as the next request
	}
	var password []byte
	for _, f := range m.fields {
		if f.name != "authorization" {
			continue
		}
		if password != nil {
			return nil, badRTSP("two Authorizations")
		}
		password = []byte(f.value)
	}
	if password == nil && namesUser([]byte(m.target)) {
		password = []byte(m.target)
	}
	return password, nil
}

// judged tells the guard of an answer.
func (d *dialogue) judged(m *rtspMessage) error {
	if d.guard == nil || m.method != "" || m.status < 200 {
		return nil
	}
	e, asked := d.guard.take(func(e exchange) bool { return m.cseq == "" || e.cseq == m.cseq })
	if !asked { // a number of its own: the oldest question it is
		e, asked = d.guard.take(func(exchange) bool { return true })
	}
	if !asked {
		d.guard.fault()
		return badRTSP("an answer to what was not asked")
	}
	if e.setup && m.status < 300 {
		d.mu.Lock()
		d.playing = true
		d.mu.Unlock()
	}
	stale := false
	for _, f := range m.fields {
		stale = stale || f.name == "www-authenticate" && isStale([]byte(strings.ToLower(f.value)))
	}
	d.guard.judge(e, m.status, stale)
	return nil
}

// mayFrame says whether a frame of the client may go on. A server that plays
// nothing expects none, and might find requests in it.
func (d *dialogue) mayFrame() bool {
	if d.guard == nil {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.playing
}
