package acl

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/protocol/identity"
)

// The audit log is a directory of segments 000001.log, 000002.log, … that are
// only appended to, each at most a little over segmentBytes. When all of them
// are over maxLogBytes the oldest go; what they said about permission is then in
// the file checkpoint.
const (
	segmentBytes    = 256 << 10
	maxLogBytes     = 4 << 20 // 15,000 lines and more
	keptLogBytes    = 3 << 20 // after dropping, so that it happens seldom
	maxSegmentBytes = segmentBytes + 4*maxLineBytes + maxBatchBytes
	checkpointName  = "checkpoint"
	segmentSuffix   = ".log"
)

// A segment is one file of the log.
type segment struct {
	number int
	first  uint64 // number of its first line
	at     position
	prev   hash // of its first line
	size   int64
}

// auditLog appends; reading is in logread.go. Guarded by Store.mu.
type auditLog struct {
	dir      string
	key      *identity.Key
	segments []segment // the last one is appended to

	file    *os.File // of the last segment; nil before the first
	size    int64    // of what is good in it
	dirty   bool     // lines are written but not synced
	entered bool     // its name in the directory is synced
	broken  error    // an append that could not be taken back: no more are made

	last uint64   // number of the last line
	tip  hash     // of the last line
	at   position // after the last line
	// segmentBytes, so that tests need not write much.
	limit int64
}

func (g *auditLog) path(number int) string {
	return filepath.Join(g.dir, fmt.Sprintf("%06d%s", number, segmentSuffix))
}

// append writes e as the next line, with the list at position at. With sync it is
// on the disk when append returns, and so is every line before it. On an error
// the log is as it was.
func (g *auditLog) append(e *Entry, at position, sync bool) error {
	if g.broken != nil {
		return fmt.Errorf("%w: %w", ErrBroken, g.broken)
	}
	// A full segment is followed by a new one, but not in a change that would
	// have to sync both: then the next change does it, and syncs 6 times in all.
	if g.file == nil || g.size >= g.limit && !(g.dirty && sync) {
		if err := g.begin(at, e); err != nil {
			return err
		}
	}
	size, last, tip, before := g.size, g.last, g.tip, g.at
	err := g.write(e, at)
	if err == nil && sync {
		err = g.sync()
	}
	if err != nil {
		g.last, g.tip, g.at = last, tip, before
		g.takeBack(size)
	}
	return err
}

// write puts the line into the file, without syncing.
func (g *auditLog) write(e *Entry, at position) error {
	e.Number, e.Previous, e.position = g.last+1, g.tip, at
	var line []byte
	var err error
	if e.signed() {
		line, err = e.sign(g.key)
	} else {
		line, err = e.encode()
	}
	if err != nil {
		return err
	}
	if most := e.most(); len(line) > most {
		return fmt.Errorf("a log line of %d bytes", len(line))
	}
	if _, err := g.file.WriteAt(append(line, '\n'), g.size); err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	g.size += int64(len(line)) + 1
	g.last, g.tip, g.at, g.dirty = e.Number, sha256.Sum256(line), at, true
	g.segments[len(g.segments)-1].size = g.size
	return nil
}

// sync makes every line durable, and the file's name.
func (g *auditLog) sync() error {
	if g.file == nil || !g.dirty && g.entered {
		return nil
	}
	if err := g.file.Sync(); err != nil {
		return fmt.Errorf("sync audit log: %w", err)
	}
	if !g.entered {
		if err := durable.SyncDir(g.dir); err != nil {
			return fmt.Errorf("sync audit log: %w", err)
		}
		g.entered = true
	}
	g.dirty = false
	return nil
}

// takeBack removes what a failed append may have left. What cannot be removed
// could be read as a change that nobody was told of, so nothing may follow it.
func (g *auditLog) takeBack(size int64) {
	g.size = size
	g.segments[len(g.segments)-1].size = size
	if err := errors.Join(g.file.Truncate(size), g.file.Sync()); err != nil {
		g.broken = err
	}
}

// begin starts the next segment, for the line that is about to be written.
func (g *auditLog) begin(at position, cause *Entry) error {
	if err := g.sync(); err != nil {
		return err
	}
	number := 1
	if len(g.segments) > 0 {
		number = g.segments[len(g.segments)-1].number + 1
		at = g.at // the head changes nothing: the change that follows is still to come
	}
	public, err := x509.MarshalPKIXPublicKey(g.key.Public())
	if err != nil {
		return err
	}
	file, err := os.OpenFile(g.path(number), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	old, size, entered := g.file, g.size, g.entered
	g.file, g.size, g.entered = file, 0, false
	g.segments = append(g.segments, segment{number: number, first: g.last + 1, at: at, prev: g.tip})
	head := &Entry{Time: cause.Time, Unset: cause.Unset, Event: Event{What: whatSegment}, Device: public}
	if err := g.write(head, at); err != nil {
		g.file, g.size, g.entered = old, size, entered
		g.segments = g.segments[:len(g.segments)-1]
		return errors.Join(err, file.Close(), os.Remove(g.path(number)))
	}
	if old != nil {
		return old.Close() // synced
	}
	return nil
}

// bytes is the size of all segments.
func (g *auditLog) bytes() int64 {
	sum := int64(0)
	for _, s := range g.segments {
		sum += s.size
	}
	return sum
}

// prune drops the oldest segments when there are too many, after the list they
// led to is safe in the checkpoint.
func (g *auditLog) prune(l *list, now time.Time) error {
	if g.bytes() <= g.limit*(maxLogBytes/segmentBytes) {
		return nil
	}
	keep := 0
	for left := g.bytes(); left > g.limit*(keptLogBytes/segmentBytes) && keep < len(g.segments)-1; keep++ {
		left -= g.segments[keep].size
	}
	for g.segments[keep].first == 0 && keep < len(g.segments)-1 {
		keep++ // a damaged head cannot say where the chain goes on
	}
	from := witness{g.segments[keep].first - 1, g.segments[keep].prev}
	if err := g.checkpoint(l, from, now); err != nil {
		return err
	}
	for _, s := range g.segments[:keep] {
		if err := ignoreMissing(os.Remove(g.path(s.number))); err != nil {
			return err
		}
	}
	g.segments = slices.Clone(g.segments[keep:])
	return nil
}

// checkpoint writes the whole list beside the log. dropped is the last line that
// is meant to be gone, so that the chain of what is left has a beginning.
func (g *auditLog) checkpoint(l *list, dropped witness, now time.Time) error {
	e := &Entry{Time: now, Event: Event{What: whatCheckpoint}, NextID: l.nextID}
	e.Number, e.Previous = dropped.Number, dropped.Tip
	e.position = l.position
	for _, id := range l.ids() {
		e.List = append(e.List, l.users[id].User)
	}
	for _, id := range l.blocks.ids() {
		e.Blocked = append(e.Blocked, l.blocks.byID[id].Block)
	}
	for _, name := range l.inviteNames() {
		e.Invites = append(e.Invites, l.invites[name].Invite)
	}
	line, err := e.sign(g.key)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(g.dir, checkpointName), append(line, '\n'), 0o600)
}

// erase removes every file of the log.
func (g *auditLog) erase() error {
	if g.file != nil {
		_ = g.file.Close() // it goes anyway
		g.file = nil
	}
	numbers, err := segmentNumbers(g.dir)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if err := ignoreMissing(os.Remove(g.path(n))); err != nil {
			return err
		}
	}
	*g = auditLog{dir: g.dir, key: g.key, limit: g.limit}
	return durable.Remove(filepath.Join(g.dir, checkpointName))
}

func (g *auditLog) close() error {
	if g.file == nil {
		return nil
	}
	var err error
	if g.broken == nil {
		err = g.sync()
	}
	err = errors.Join(err, g.file.Close())
	g.file = nil
	return err
}

// segmentNumbers lists the segments in dir, in order.
func segmentNumbers(dir string) ([]int, error) {
	names, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, name := range names {
		digits, ok := strings.CutSuffix(name.Name(), segmentSuffix)
		n, err := strconv.Atoi(digits)
		if ok && err == nil && n > 0 && fmt.Sprintf("%06d", n) == digits {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}
