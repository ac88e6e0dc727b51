//go:build unix

package basestation

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockDir waits until nobody else makes keys in a directory: `key` and `serve` may
// be started at the same moment in one that is new.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil // which lets go of the lock
}
