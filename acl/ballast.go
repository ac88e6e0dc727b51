package acl

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ballastBytes is kept on the disk and given back when a change has begun, or
// takes permission away, and there is no other room: one change writes less.
const ballastBytes = 64 << 10

type ballast struct{ path string }

// ballastStep is given back at a time: a change needs a block of the log and two
// or three of each copy at most, and often none.
const ballastStep = 16 << 10

// release makes some room. It reports whether there was any ballast left. The
// sync makes journals give the room back now and not some seconds later; ext4
// was seen to refuse a write right after the file had been removed.
func (b ballast) release() bool {
	f, err := os.OpenFile(b.path, os.O_WRONLY, 0)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // nothing in it matters
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false
	}
	return f.Truncate(max(0, info.Size()-ballastStep)) == nil && f.Sync() == nil
}

// keep makes the ballast whole again. On a full disk it takes what there is and
// returns the error. Its content is random so that no file system stores it in
// less. It is not synced: whether it survives a power cut does not matter.
func (b ballast) keep() error {
	info, err := os.Lstat(b.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	size := int64(0)
	if err == nil {
		size = info.Size()
	}
	if size >= ballastBytes {
		return nil
	}
	f, err := os.OpenFile(b.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	data := make([]byte, ballastBytes-size)
	if _, err = rand.Read(data); err == nil {
		_, err = f.WriteAt(data, size)
	}
	return errors.Join(err, f.Close())
}

func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// keepBallast is called with mu held. A disk that stays full is no error of the
// change that was made: it says so to the next one that does not take permission away.
func (s *Store) keepBallast() {
	if err := s.ballast.keep(); err != nil {
		s.log.Warn("no room for the access list's reserve", "bytes", ballastBytes, "error", err)
	}
}
