package acl

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keyholed/keyhole/internal/durable"
)

// recover finds the newest list that can be proven and makes everything on disk
// agree with it.
//
//	store.key   copies and log        then
//	no          none                  first boot: an empty list
//	no          log says only that    a power cut during the first boot: again
//	            it was created
//	no          anything else         ErrLost: the key is gone
//	yes         none                  ErrLost: the state is gone (not mounted?)
//	yes         a good copy           newest copy, and the log's later changes
//	yes         no good copy          the log alone, if it is whole; else ErrLost
//
// Before all that, a factory reset that was begun is carried on (reset.go).
func (s *Store) recover(o Options) error {
	begun, err := s.resumeReset(o)
	if err != nil {
		return err
	}
	keyPath := filepath.Join(o.IdentityDir, storeKeyName)
	key, err := readStoreKey(keyPath)
	if err != nil {
		return err
	}
	audit, cut, err := openLog(filepath.Join(o.StateDir, auditName), o.Key, s.readOnly != nil)
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	s.audit = audit
	for i, name := range copyNames {
		s.copies[i] = &storeCopy{path: filepath.Join(o.StateDir, name)}
	}
	if key == nil {
		return s.firstOrReset(o, keyPath, begun)
	}
	sealer, err := newSealer(key)
	if err != nil {
		return err
	}
	for _, c := range s.copies {
		c.sealer = sealer
	}
	return s.restore(o.StateDir, cut)
}

// first makes the empty list of a new device: log, copies, and last the key,
// which says that there is a list.
func (s *Store) first(keyPath string, epoch uint64, why Event) error {
	if err := s.nothingToLose(); err != nil {
		return fmt.Errorf("%w: %s is missing: %w; put it back from a backup, or erase it with: keyholed reset --erase-everything (and the --config it was started with)", ErrLost, keyPath, err)
	}
	if s.readOnly != nil {
		return fmt.Errorf("%w: no access list yet, and none can be made: %w", ErrReadOnly, s.readOnly)
	}
	if err := durable.MkdirAll(s.audit.dir, 0o700); err != nil {
		return err
	}
	if err := s.audit.erase(); err != nil {
		return err
	}
	key := make([]byte, storeKeyBytes)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	sealer, err := newSealer(key)
	if err != nil {
		return err
	}
	l := emptyList(epoch)
	created := &Entry{Event: why}
	s.stamp(created)
	if err := s.audit.append(created, l.position, true); err != nil {
		return err
	}
	for _, c := range s.copies {
		c.sealer = sealer
		if err := c.rebuild(l); err != nil {
			return fmt.Errorf("access list %s: %w", c.path, err)
		}
	}
	if err := durable.WriteFile(keyPath, key, 0o600); err != nil {
		return fmt.Errorf("store key: %w", err)
	}
	s.current.Store(l)
	return nil
}

// nothingToLose says what there is to lose without a store key: anything but
// what a first boot leaves that was cut short.
func (s *Store) nothingToLose() error {
	copies := 0
	for _, c := range s.copies {
		if _, err := os.Lstat(c.path); err == nil {
			copies++
		}
	}
	_, checkpoint, err := s.audit.readCheckpoint()
	if err != nil || checkpoint != nil {
		return errors.New("the audit log knows of a list")
	}
	if len(s.audit.segments) == 0 {
		if copies > 0 {
			return errors.New("there are copies of a list")
		}
		return nil
	}
	if g := s.audit; copies == 0 && g.segments[0].number == 1 && g.last == 1 {
		return nil // the head of the first segment, and no more
	}
	if l, err := s.audit.replay(nil); err != nil || l.Epoch != 1 || l.Sequence != 0 {
		return errors.New("the audit log knows of a list")
	}
	return nil
}

// restore is recover where there is a key.
func (s *Store) restore(stateDir string, cut int64) error {
	var lists [2]*list
	var problems [2]error
	for i, c := range s.copies {
		lists[i], problems[i] = c.load(s.readOnly != nil)
	}
	base := newer(lists[0], lists[1])
	if base == nil && len(s.audit.segments) == 0 && missing(problems[0]) && missing(problems[1]) {
		return fmt.Errorf("%w: %s is empty, but there was an access list: is it mounted? If the list is really gone, erase it with: keyholed reset --erase-everything (and the --config it was started with)", ErrLost, stateDir)
	}
	if base == nil && (errors.Is(problems[0], errOtherKey) || errors.Is(problems[1], errOtherKey)) {
		return fmt.Errorf("%w: %s: %w; put identity and state of one device together, or erase it with: keyholed reset --erase-everything (and the --config it was started with)", ErrLost, stateDir, errOtherKey)
	}
	checkpoint, covered, cpErr := s.audit.readCheckpoint()
	if err := s.audit.forgetBefore(covered, s.readOnly != nil); err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	l, err := s.audit.replay(newer(base, checkpoint))
	if err != nil {
		return fmt.Errorf("%w: copy a: %v; copy b: %v; checkpoint: %v; log: %w; put %s back from a backup, or erase it with: keyholed reset --erase-everything (and the --config it was started with)",
			ErrLost, reason(problems[0]), reason(problems[1]), reason(cpErr), err, stateDir)
	}
	l.seen = later(lists[0], lists[1])
	s.current.Store(l)
	if s.readOnly != nil {
		return nil
	}
	for i, c := range s.copies {
		if problems[i] == nil && lists[i].position == l.position {
			continue
		}
		s.log.Warn("copy of the access list is made anew", "file", c.path, "at", l.position.String(), "error", stale(problems[i]))
		if err := s.remake(c, l, problems[i]); err != nil {
			s.log.Error("copy of the access list cannot be made", "file", c.path, "error", err)
		}
	}
	return s.mendLog(l, cut, covered, cpErr)
}

// remake replaces a copy that is damaged or older. With the other copy and the
// log as they are, a power cut now loses nothing.
func (s *Store) remake(c *storeCopy, l *list, problem error) error {
	if problem != nil && !missing(problem) {
		if err := c.setAside(); err != nil {
			return err
		}
	}
	err := c.rebuild(l)
	for full(err) && s.ballast.release() {
		err = c.rebuild(l)
	}
	return err
}

// mendLog makes the log able to lead to l again where its end was lost, and says
// so in it. What is missing stays visible: no number is given twice, and the
// checkpoint says of nothing that it was dropped which it did not say before.
func (s *Store) mendLog(l *list, cut int64, covered *Entry, cpErr error) error {
	if cut > 0 {
		s.log.Warn("cut off the torn end of the audit log", "bytes", cut)
	}
	end := s.audit.furthest(l.seen)
	if s.audit.at == l.position && len(s.audit.segments) > 0 && cpErr == nil && end == s.audit.end() {
		return s.audit.prune(l, s.now())
	}
	s.log.Warn("the audit log is mended", "log", s.audit.at.String(), "line", s.audit.last,
		"list", l.position.String(), "known_line", end.Number, "checkpoint", cpErr)
	if err := durable.MkdirAll(s.audit.dir, 0o700); err != nil {
		return err
	}
	detail := fmt.Sprintf("log was at %s line %d, list is at %s and knows of line %d", s.audit.at, s.audit.last, l.position, end.Number)
	if err := s.audit.continueAfter(end); err != nil {
		return err
	}
	dropped := witness{}
	if covered != nil {
		dropped = witness{covered.Number, covered.Previous}
	}
	e := &Entry{Event: Event{What: WhatRepaired, Detail: detail}}
	s.stamp(e)
	err := s.audit.checkpoint(l, dropped, e.Time)
	if err == nil {
		err = s.audit.append(e, l.position, true)
	}
	if full(err) {
		s.log.Warn("no room to mend the audit log", "error", err)
		return nil
	}
	return err
}

func newer(a, b *list) *list {
	if a == nil || b != nil && a.position.before(b.position) {
		return b
	}
	return a
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func reason(err error) string {
	switch {
	case err == nil:
		return "good"
	case missing(err):
		return "missing"
	}
	return err.Error()
}

func stale(err error) error {
	if err == nil {
		return errors.New("older than the audit log")
	}
	return err
}
