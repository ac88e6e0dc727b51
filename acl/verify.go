package acl

import (
	"fmt"
	"slices"
)

// verifyTries is how often Verify begins anew when old segments were dropped
// while it read. After that it has writers wait, a moment.
const verifyTries = 4

// Verify reads the whole log and checks numbers, hashes and signatures, that it
// begins where older lines were dropped and not later, and that it goes on at
// least as far as the copies of the list know. It stops at the first line that
// does not hold.
func (s *Store) Verify() (Verification, error) {
	for range verifyTries {
		segments, path, last := s.segments()
		v, err := s.verify(segments, path, last)
		now, _, _ := s.segments()
		dropped := len(segments) > 0 && (len(now) == 0 || now[0].number != segments[0].number)
		if !dropped {
			return v, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.verify(slices.Clone(s.audit.segments), s.audit.path, s.audit.last)
}

func (s *Store) verify(segments []segment, path func(int) string, last uint64) (Verification, error) {
	c := chain{key: s.audit.key.Public(), known: true, seen: s.current.Load().seen}
	_, checkpoint, err := s.audit.readCheckpoint()
	if err != nil {
		c.result.Bad = &BadLine{File: checkpointName, Line: 1, Why: err.Error()}
		return c.result, nil
	}
	if checkpoint != nil {
		c.last = witness{checkpoint.Number, checkpoint.Previous}
	}
	for _, seg := range segments {
		if err := s.verifySegment(&c, seg, path(seg.number)); err != nil || c.result.Bad != nil {
			return c.result, err
		}
	}
	if end := max(last, c.seen.Number); c.result.Last < end {
		c.result.Bad = &BadLine{Why: fmt.Sprintf("the log ends at line %d, and there was a line %d", c.result.Last, end)}
	}
	return c.result, nil
}

func (s *Store) verifySegment(c *chain, seg segment, path string) error {
	file := fmt.Sprintf("%06d%s", seg.number, segmentSuffix)
	bad := func(line int, why string) { c.result.Bad = &BadLine{File: file, Line: line, Why: why} }
	lines, err := readLines(path)
	if missing(err) {
		bad(1, "the file is gone")
		return nil
	}
	if err != nil {
		return err
	}
	for i, l := range lines {
		switch e := l.entry; {
		case l.end > seg.size && e == nil:
			return nil // being written just now
		case e == nil:
			bad(i+1, l.err.Error())
		case (i == 0) != (e.What == whatSegment):
			bad(i+1, "a segment begins with its head, and only there")
		case slices.Contains(notInLog, e.What):
			bad(i+1, "a line of this kind is not written into the log")
		default:
			if why := c.next(l.raw, e); why != "" {
				bad(i+1, why)
			}
		}
		if c.result.Bad != nil {
			return nil
		}
	}
	return nil
}

// notInLog are signed statements that are kept elsewhere: nobody may have put
// one among the lines.
var notInLog = []What{whatCheckpoint, whatEnd}
