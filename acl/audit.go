package acl

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// MaxPage is the most lines that Audit returns at once.
const MaxPage = 1000

// Audit returns up to limit lines (at most MaxPage; 0 is MaxPage) with a number
// above after, oldest first. Lines that cannot be read are left out: Verify
// tells of them.
func (s *Store) Audit(after uint64, limit int) ([]Entry, error) {
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	var page []Entry
	segments, path, _ := s.segments()
	for i, seg := range segments {
		if i+1 < len(segments) && segments[i+1].first != 0 && segments[i+1].first <= after+1 {
			continue
		}
		lines, err := readLines(path(seg.number))
		if missing(err) {
			continue // dropped meanwhile
		}
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			if l.entry == nil || l.end > seg.size || l.entry.Number <= after {
				continue
			}
			if page = append(page, *l.entry); len(page) == limit {
				return page, nil
			}
		}
	}
	return page, nil
}

// segments returns what to read, as it is now.
func (s *Store) segments() ([]segment, func(int) string, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.audit.segments), s.audit.path, s.audit.last
}

// A Verification is the result of Verify.
type Verification struct {
	First, Last uint64 // numbers of the first and last line
	Lines       int    // read
	Signed      int    // of them
	Bad         *BadLine
}

// A BadLine is the first line that does not hold.
type BadLine struct {
	File string // name of the segment
	Line int    // in the file, from 1
	Why  string
}

func (b *BadLine) String() string { return fmt.Sprintf("%s:%d: %s", b.File, b.Line, b.Why) }

// Verify reads the whole log and checks numbers, hashes and signatures. Bad is
// nil when all hold. It stops at the first line that does not.
func (s *Store) Verify() (Verification, error) {
	var v Verification
	segments, path, last := s.segments()
	_, checkpoint, err := s.audit.readCheckpoint()
	if err != nil {
		v.Bad = &BadLine{File: checkpointName, Line: 1, Why: err.Error()}
		return v, nil
	}
	var before *line
	if checkpoint != nil && len(segments) > 0 && segments[0].number != 1 {
		before = &line{entry: checkpoint}
	}
	for _, seg := range segments {
		lines, err := readLines(path(seg.number))
		if err != nil {
			return v, err
		}
		for i := range lines {
			if lines[i].end > seg.size && lines[i].entry == nil {
				break // being written just now
			}
			if why := s.wrong(before, &lines[i], i == 0); why != "" {
				v.Bad = &BadLine{File: fmt.Sprintf("%06d%s", seg.number, segmentSuffix), Line: i + 1, Why: why}
				return v, nil
			}
			v.count(lines[i].entry)
			before = &lines[i]
		}
	}
	if v.Last < last {
		v.Bad = &BadLine{File: "", Why: fmt.Sprintf("the log ends at line %d, it was at %d", v.Last, last)}
	}
	return v, nil
}

func (v *Verification) count(e *Entry) {
	if v.Lines == 0 {
		v.First = e.Number
	}
	v.Last = e.Number
	v.Lines++
	if e.Sig != nil {
		v.Signed++
	}
}

// wrong says why l cannot follow before (nil: it must be the very first line).
func (s *Store) wrong(before, l *line, head bool) string {
	e := l.entry
	if e == nil {
		return l.err.Error()
	}
	if head != (e.What == whatSegment) {
		return "a segment begins with its head, and only there"
	}
	number, prev := uint64(0), hash{}
	if before != nil {
		number = before.entry.Number
		prev = sha256.Sum256(before.raw)
		if before.entry.What == whatCheckpoint {
			prev = before.entry.Previous
		}
	}
	switch {
	case e.Number != number+1:
		return fmt.Sprintf("line %d follows line %d", e.Number, number)
	case e.Previous != prev:
		return "it does not follow from the line before: one of the two was changed"
	}
	if err := e.verify(s.audit.key); err != nil {
		return err.Error()
	}
	return ""
}

// Export writes the lines of the log as they are, oldest first. The heads of the
// segments carry the device's public key, so that anybody can check them.
func (s *Store) Export(w io.Writer) error {
	segments, path, _ := s.segments()
	for _, seg := range segments {
		data, err := os.ReadFile(path(seg.number))
		if errors.Is(err, os.ErrNotExist) {
			continue // dropped meanwhile
		}
		if err != nil {
			return err
		}
		if _, err := io.Copy(w, bytes.NewReader(data[:min(int64(len(data)), seg.size)])); err != nil {
			return err
		}
	}
	return nil
}
