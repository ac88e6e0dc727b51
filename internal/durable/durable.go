// Package durable replaces and removes files so that a power cut leaves either
// the old state or the new one, never a mixture and never an empty file.
//
// The rooms that keep state on disk use it: identity, acl, the daemon's
// settings and the client's address book. It does not lock: each file has one
// writing process.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// asideSuffix marks a file that is being written. One left behind by a power
// cut is overwritten by the next write of the same name.
const asideSuffix = ".new"

// WriteFile replaces the file at path: written aside, synced, renamed, and the
// directory synced, so that when it returns nil the new content survives a
// power cut. On an error the old file is untouched.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	aside := path + asideSuffix
	if err := writeSynced(aside, data, perm); err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(aside)))
	}
	if err := os.Rename(aside, path); err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(aside)))
	}
	return SyncDir(filepath.Dir(path))
}

// Remove deletes path and syncs its directory. A missing file is no error, so
// that a removal that was cut short can be run again.
func Remove(path string) error {
	if err := ignoreMissing(os.Remove(path)); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// MkdirAll makes dir with perm and syncs its parent, so that the directory
// itself survives a power cut.
func MkdirAll(dir string, perm fs.FileMode) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		return nil
	}
	if err := os.MkdirAll(dir, perm); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(dir))
}

// SyncDir makes renames, creations and removals in dir durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writeSynced always makes a new inode: an old aside file might be open, linked
// or have wider permissions than perm.
func writeSynced(path string, data []byte, perm fs.FileMode) error {
	if err := ignoreMissing(os.Remove(path)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ReadPrivate reads a file that only its owner may read, a key for example, of
// at most most bytes. A missing file is fs.ErrNotExist; one that others may read
// is refused, as ssh does, and so is a longer one.
func ReadPrivate(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" { // which has no such modes
		return nil, fmt.Errorf("%s may be read by others (mode %04o): run `chmod 600 %s`", path, mode, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return data, err
}
