package acl

import (
	"crypto/sha256"
)

// A witness is the end of the audit log as something outside of it knows it: the
// number and the hash of its last line. Both copies of the store carry one, under
// their seal, so that a log which was cut off at its end, or put back from an
// earlier time, does not look whole.
//
// A change of the list writes it anyway, at no cost. Lines that follow (sessions,
// tunnels) are witnessed when the store is closed. After a power cut they are not:
// then nothing on the device can tell a line that was never synced from one that
// somebody took away, and Verification.Witnessed says up to where that is so.
type witness struct {
	Number uint64 `json:"n"`
	Tip    hash   `json:"tip"`
}

// later is the witness that knows more; copies may be nil.
func later(copies ...*list) witness {
	var last witness
	for _, l := range copies {
		if l != nil && l.seen.Number > last.Number {
			last = l.seen
		}
	}
	return last
}

// end is the witness of the log as it is.
func (g *auditLog) end() witness { return witness{g.last, g.tip} }

// furthest is the highest line that anybody knows of: the end of the log, what
// seen says, or where files were swapped the end of another segment.
func (g *auditLog) furthest(seen witness) witness {
	last := g.end()
	if len(g.segments) > 0 {
		high := g.segments[0]
		for _, s := range g.segments {
			if s.first > high.first {
				high = s
			}
		}
		if high.number != g.segments[len(g.segments)-1].number {
			last = maxWitness(last, g.endOf(high))
		}
	}
	return maxWitness(last, seen)
}

func maxWitness(a, b witness) witness {
	if b.Number > a.Number {
		return b
	}
	return a
}

// endOf reads the last line of a segment that can be read; zero for none.
func (g *auditLog) endOf(s segment) witness {
	lines, err := readLines(g.path(s.number))
	if err != nil {
		return witness{}
	}
	for i := len(lines) - 1; i >= 0; i-- {
		if e := lines[i].entry; e != nil {
			return witness{e.Number, sha256.Sum256(lines[i].raw)}
		}
	}
	return witness{}
}

// continueAfter has the next line follow one that the log does not hold any more.
// It is the first of a new segment, and the gap before it stays to be seen.
func (g *auditLog) continueAfter(end witness) error {
	if end == g.end() {
		return nil
	}
	if err := g.close(); err != nil {
		return err
	}
	g.last, g.tip = end.Number, end.Tip
	return nil
}

// rememberEnd has the copies know the last line of a log that is being closed.
// That it fails is no error of closing: they know an earlier one.
func (s *Store) rememberEnd() {
	l := s.current.Load()
	if l == nil || s.audit == nil || s.readOnly != nil || s.audit.broken != nil || s.audit.last <= l.seen.Number {
		return
	}
	if err := s.audit.sync(); err != nil {
		s.log.Warn("the last lines of the audit log are not synced", "error", err)
		return
	}
	next := *l
	next.seen = s.audit.end()
	for _, c := range s.copies {
		if c == nil || c.db == nil {
			continue
		}
		if err := c.commit(&next, change{}); err != nil {
			s.log.Warn("a copy of the access list does not know the end of the audit log", "file", c.path, "error", err)
		}
	}
}
