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

// release makes room. It reports whether there was any ballast.
func (b ballast) release() bool { return os.Remove(b.path) == nil }

// keep makes the ballast again where it is missing or short. Its content is
// random so that no file system stores it in less. It is not synced: whether it
// survives a power cut does not matter.
func (b ballast) keep() error {
	if info, err := os.Lstat(b.path); err == nil && info.Size() == ballastBytes {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	data := make([]byte, ballastBytes)
	if _, err := rand.Read(data); err != nil {
		return err
	}
	if err := os.WriteFile(b.path, data, 0o600); err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(b.path)))
	}
	return nil
}

func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// keepBallast is called with mu held. A disk that stays full is no error: the
// next change tries again.
func (s *Store) keepBallast() {
	if err := s.ballast.keep(); err != nil {
		s.log.Warn("no room for the access list's reserve", "bytes", ballastBytes, "error", err)
	}
}
