package acl

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keyholed/keyhole/protocol/identity"
)

// A line is one line of a segment as it was found.
type line struct {
	raw   []byte
	end   int64  // offset after its newline
	entry *Entry // nil when it cannot be read
	err   error
}

// readLines returns the lines of a segment. What follows the last newline is a
// line with an error. The lines are not verified.
func readLines(path string) ([]line, error) {
	data, err := readLimited(path, maxSegmentBytes)
	if err != nil {
		return nil, err
	}
	return splitLines(data, maxBatchBytes), nil
}

// splitLines finds the lines in data, each at most limit bytes long.
func splitLines(data []byte, limit int) []line {
	var lines []line
	end := int64(0)
	for len(data) > 0 {
		raw, rest, whole := bytes.Cut(data, []byte("\n"))
		end += int64(len(data) - len(rest))
		l := line{raw: raw, end: end}
		if whole {
			l.entry, l.err = parseEntry(raw, limit)
		} else {
			l.err = fmt.Errorf("%w: it is torn", errLine)
		}
		lines = append(lines, l)
		data = rest
	}
	return lines
}

func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, err
}

// openLog reads the end of the log and cuts off what a power cut tore. With
// readOnly it changes nothing on disk. A missing directory is an empty log.
func openLog(dir string, key *identity.Key, readOnly bool) (g *auditLog, cut int64, err error) {
	g = &auditLog{dir: dir, key: key, limit: segmentBytes}
	numbers, err := segmentNumbers(dir)
	if err != nil {
		return nil, 0, err
	}
	for _, n := range numbers {
		s, err := g.readHead(n)
		if err != nil {
			return nil, 0, err
		}
		g.segments = append(g.segments, s)
	}
	for len(g.segments) > 0 {
		lines, err := readLines(g.path(g.segments[len(g.segments)-1].number))
		if err != nil {
			return nil, 0, err
		}
		good := goodEnd(lines, key)
		if good < 0 { // not even its head: it was being made
			if err := g.forgetLast(readOnly); err != nil {
				return nil, 0, err
			}
			continue
		}
		n, err := g.resume(lines, good, readOnly)
		return g, n, err
	}
	return g, 0, nil
}

// goodEnd is the index of the last line that counts, -1 for none. Lines that were
// not synced can be torn, missing or zero after a power cut, so the first one that
// does not fit its neighbour ends the log, except where a signed change follows:
// that one was synced, and then the damage before it was no power cut.
func goodEnd(lines []line, key *identity.Key) int {
	good := -1
	for i := range lines {
		e := lines[i].entry
		switch {
		case e == nil:
		case i == good+1 && (i == 0 && e.What == whatSegment || i > 0 && follows(lines[i-1], e)):
			good = i
		case e.changes() && e.verify(key) == nil:
			good = i
		}
	}
	return good
}

func follows(before line, e *Entry) bool {
	return before.entry != nil && e.Number == before.entry.Number+1 && e.Previous == sha256.Sum256(before.raw)
}

// readHead reads the first line of a segment. A damaged one leaves zeros.
func (g *auditLog) readHead(number int) (segment, error) {
	f, err := os.Open(g.path(number))
	if err != nil {
		return segment{}, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return segment{}, err
	}
	s := segment{number: number, size: info.Size()}
	first, err := bufio.NewReader(io.LimitReader(f, maxLineBytes+1)).ReadBytes('\n')
	if err != nil && err != io.EOF {
		return segment{}, err
	}
	if e, err := parseEntry(bytes.TrimSuffix(first, []byte("\n")), maxLineBytes); err == nil {
		s.first, s.at, s.prev = e.Number, e.position, e.Previous
	}
	return s, nil
}

// forgetBefore lets go of segments that a checkpoint has covered: a power cut
// came before they were removed.
func (g *auditLog) forgetBefore(checkpoint *Entry, readOnly bool) error {
	if checkpoint == nil {
		return nil
	}
	for len(g.segments) > 1 && g.segments[0].first != 0 && g.segments[0].first <= checkpoint.Number {
		if !readOnly {
			if err := ignoreMissing(os.Remove(g.path(g.segments[0].number))); err != nil {
				return err
			}
		}
		g.segments = g.segments[1:]
	}
	return nil
}

func (g *auditLog) forgetLast(readOnly bool) error {
	s := g.segments[len(g.segments)-1]
	g.segments = g.segments[:len(g.segments)-1]
	if readOnly {
		return nil
	}
	return ignoreMissing(os.Remove(g.path(s.number)))
}

// resume makes the log ready for appending after line good, and says how many
// bytes it cut off.
func (g *auditLog) resume(lines []line, good int, readOnly bool) (int64, error) {
	l, s := lines[good], &g.segments[len(g.segments)-1]
	cut := s.size - l.end
	s.size, g.size = l.end, l.end
	g.last, g.tip, g.at, g.entered = l.entry.Number, sha256.Sum256(l.raw), l.entry.position, true
	if readOnly {
		return cut, nil
	}
	file, err := os.OpenFile(g.path(s.number), os.O_RDWR, 0o600)
	if err != nil {
		return cut, err
	}
	if cut > 0 {
		if err := errors.Join(file.Truncate(l.end), file.Sync()); err != nil {
			return cut, errors.Join(err, file.Close())
		}
	}
	g.file = file
	return cut, nil
}

// readCheckpoint returns the list of the checkpoint, nil when there is none, and
// its line.
func (g *auditLog) readCheckpoint() (*list, *Entry, error) {
	data, err := readLimited(filepath.Join(g.dir, checkpointName), maxCheckpointBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	e, err := parseEntry(bytes.TrimSuffix(data, []byte("\n")), maxCheckpointBytes)
	if err == nil && e.What != whatCheckpoint {
		err = errLine
	}
	if err == nil {
		err = e.verify(g.key)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("checkpoint: %w", err)
	}
	l := emptyList(e.Epoch)
	l.Sequence = e.Sequence
	for _, u := range e.List {
		if err := l.add(u, e.Sequence); err != nil {
			return nil, nil, fmt.Errorf("checkpoint: %w", err)
		}
	}
	for _, b := range e.Blocked {
		if err := l.blocks.add(b, e.Sequence); err != nil {
			return nil, nil, fmt.Errorf("checkpoint: %w", err)
		}
	}
	for _, i := range e.Invites {
		if err := l.addInvite(i, e.Sequence); err != nil {
			return nil, nil, fmt.Errorf("checkpoint: %w", err)
		}
	}
	l.nextID = max(l.nextID, e.NextID)
	return l, e, nil
}

// replay brings base up to the end of the log. A nil base needs a log that holds
// the beginning. A change that is missing in between is an error: it may have
// been a revocation.
func (g *auditLog) replay(base *list) (*list, error) {
	from := 0
	if base != nil {
		for i, s := range g.segments {
			if s.first != 0 && !base.position.before(s.at) {
				from = i
			}
		}
	}
	l := base
	for _, s := range g.segments[from:] {
		lines, err := readLines(g.path(s.number))
		if err != nil {
			return nil, err
		}
		for _, found := range lines {
			if found.entry == nil || found.end > s.size {
				continue // if it was a change, the gap shows
			}
			if l, err = g.apply(l, found.entry); err != nil {
				return nil, fmt.Errorf("line %d: %w", found.entry.Number, err)
			}
		}
	}
	if l == nil {
		return nil, errors.New("the audit log does not hold the beginning of the list")
	}
	return l, nil
}

func (g *auditLog) apply(l *list, e *Entry) (*list, error) {
	if l != nil && !l.position.before(e.position) {
		return l, nil
	}
	if !e.changes() {
		if l != nil {
			return nil, fmt.Errorf("the list is at %s, the log at %s: lines are missing", l.position, e.position)
		}
		return nil, nil
	}
	if err := e.verify(g.key); err != nil {
		return nil, err
	}
	switch {
	case e.begins():
		next := emptyList(e.Epoch)
		next.Sequence = e.Sequence
		return next, nil
	case l == nil || e.Epoch != l.Epoch || e.Sequence != l.Sequence+1:
		return nil, errors.New("changes before this one are missing")
	}
	return l.with(change{put: e.Put, gone: e.Gone, block: e.Block, unblock: e.Unblock, invite: e.Invite, ended: e.Ended, batch: e.Batch})
}
