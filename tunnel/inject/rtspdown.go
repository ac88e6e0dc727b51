package inject

import (
	"bytes"
	"io"
	"slices"
)

// through is part of talk: the frames of a stream that plays, and what is left
// of a body.
func (s *stream) through(p []byte) int {
	if len(s.heldDown) > 0 || s.swallow > 0 {
		return 0
	}
	at := 0
	for {
		n := int(min(s.skip, int64(len(p)-at)))
		s.skip -= int64(n)
		at += n
		if len(p)-at < frameHead || p[at] != '$' {
			return at
		}
		s.skip = int64(frameLength(p[at:]))
		at += frameHead
	}
}

// between is part of talk.
func (s *stream) between() bool { return s.skip == 0 }

// fromService is part of talk.
func (s *stream) fromService(p []byte) error {
	for len(p) > 0 && !s.anew && !s.over.Load() {
		n, err := s.down(p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// down takes the next piece of what the service says.
func (s *stream) down(p []byte) (n int, err error) {
	switch {
	case s.skip > 0:
		n = int(min(s.skip, int64(len(p))))
		s.skip -= int64(n)
		s.out = append(s.out, p[:n]...)
		return n, nil
	case s.swallow > 0:
		n = int(min(s.swallow, int64(len(p))))
		if s.swallow -= int64(n); s.swallow == 0 {
			err = s.sendAgain()
		}
		return n, err
	case len(s.heldDown) == 0 && (p[0] == '\r' || p[0] == '\n'):
		return 1, nil
	}
	before := len(s.heldDown)
	s.heldDown = append(s.heldDown, p[:min(len(p), MaxHead+1-before)]...)
	raw := s.heldDown
	if raw[0] == '$' {
		if len(raw) < frameHead {
			return len(p), nil
		}
		s.heldDown = nil
		s.skip = int64(frameLength(raw))
		s.out = append(s.out, raw[:frameHead]...)
		return frameHead - before, nil
	}
	end, _ := headEnd(raw[:min(len(raw), MaxHead)], max(0, min(before-3, MaxHead)), false)
	switch {
	case end < 0 && len(raw) > MaxHead:
		return len(p), &MessageError{false, "a head larger than 32 KiB"}
	case end < 0:
		return len(p), nil
	}
	s.heldDown = nil
	return end - before, s.respond(raw[:end])
}

// respond decides what becomes of a whole head of the service.
func (s *stream) respond(raw []byte) error {
	h := &s.answer
	h.method, h.status = "", 0
	reason := h.parse(raw)
	if reason == "" && bytes.HasPrefix(h.first, []byte("RTSP/")) {
		reason = h.statusLine()
	} else if reason == "" {
		reason = h.requestLine()
	}
	var length int64
	if reason == "" {
		length, reason = h.rtspBody()
	}
	if reason != "" {
		return &MessageError{false, reason}
	}
	var a *asked
	if h.method == "" && h.status >= 200 {
		a = s.answered(h.cseq())
	}
	if h.status == 401 {
		return s.challenged(a, length)
	}
	if a != nil {
		if r := s.judged(a, h.status); r != nil {
			s.conclude(refusedPassword(r).rtsp(a.cseq), r)
			return nil
		}
	}
	mark := ""
	if a != nil {
		mark = a.auth.mark
	}
	s.out = append(append(s.out, h.first...), "\r\n"...)
	s.out = rewriteRTSP(s.out, h, func(value []byte) bool { return s.vault.reveals(value, mark) })
	s.out = append(s.out, "\r\n"...)
	s.skip = length
	s.rest()
	return nil
}

// answered takes the request that an answer belongs to off the list. An answer
// without a number is that to the oldest.
func (s *stream) answered(cseq string) *asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := 0
	if cseq != "" {
		i = slices.IndexFunc(s.asked, func(a *asked) bool { return a.cseq == cseq })
	}
	if i < 0 || i >= len(s.asked) {
		return nil
	}
	a := s.asked[i]
	s.asked = slices.Delete(s.asked, i, i+1)
	return a
}

// rest passes on the client's end when nothing is left to be answered.
func (s *stream) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.half && len(s.asked) == 0 && !s.over.Load() {
		_ = s.up.CloseWrite() // an error is for the reader to meet
	}
}

// judged notes what an answer says about the password.
func (s *stream) judged(a *asked, status int) *Refusal {
	if a.auth.value == "" {
		return nil
	}
	s.mu.Lock()
	for i := range s.answer.fields {
		if f := &s.answer.fields[i]; f.name == "authentication-info" && a.auth.nonce != "" && s.answers != nil {
			if next := nextNonce(string(f.value)); next != "" && !s.answers.basic() && s.answers.nonce() != next {
				s.answers.renew(next)
			}
		}
	}
	mine, accepted := s.mine, s.accepted
	s.mine = false
	s.accepted = accepted || status < 400
	s.mu.Unlock()
	switch {
	case status == 403 && !accepted:
		return s.vault.forbid(mine)
	case status < 400 && !accepted:
		s.vault.accept(mine)
	case mine:
		s.vault.leave() // says nothing about the password
	}
	return nil
}

// challenged answers a 401 in the client's place, or tells it why not.
func (s *stream) challenged(a *asked, length int64) error {
	if a == nil {
		return &MessageError{false, "a challenge to no request"}
	}
	giveUp := func(r *Refusal) error {
		s.conclude(refusedPassword(r).rtsp(a.cseq), r)
		return nil
	}
	o, err := choose(s.answer.challenges())
	a.tries++
	s.mu.Lock()
	mine, accepted := s.mine, s.accepted
	s.mu.Unlock()
	switch {
	case err == nil && (a.auth.wrong(o) || a.tries >= maxTries), err == errNoChallenge && a.auth.value != "":
		s.setMine(false)
		return giveUp(s.vault.refuse(mine, ErrWrongPassword))
	case err != nil:
		return giveUp(&Refusal{Why: err})
	case length > maxSwallowed:
		return &MessageError{false, "a challenge with a long body"}
	}
	if !mine && !accepted {
		var r *Refusal
		if mine, r = s.vault.try(s.ctx); r != nil {
			return giveUp(r)
		}
		s.setMine(mine)
	}
	s.mu.Lock()
	if s.answers == nil || s.answers.nonce() != o.of("nonce") || s.answers.offer.rank != o.rank {
		s.answers = newAnswers(o, s.vault.who)
	}
	a.auth = s.answers.authorize(a.method, a.uri)
	a.auth.fresh = true
	s.mu.Unlock()
	s.retry, s.swallow = a, length
	persist, _ := hopByHop(&s.answer)
	if persist == "close" && !a.session {
		s.swallow = 0
		if err := s.again(); err != nil {
			s.conclude(refusedAnswer("it ended the connection to be asked again, and then could not be reached").rtsp(a.cseq), err)
			return nil
		}
	}
	if s.swallow > 0 {
		return nil
	}
	return s.sendAgain()
}

// sendAgain sends the request that was challenged with its authorization.
func (s *stream) sendAgain() error {
	a := s.retry
	s.retry = nil
	s.mu.Lock()
	s.asked = append(s.asked, a)
	up := s.up
	s.mu.Unlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	return send(up, a.whole())
}

// ended is part of talk.
func (s *stream) ended() error {
	if s.skip > 0 || len(s.heldDown) > 0 {
		return io.ErrUnexpectedEOF
	}
	return io.EOF
}
