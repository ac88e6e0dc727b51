//go:build unix

package client

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock waits for the exclusive lock of f. It goes with the last descriptor of f,
// so a process that dies leaves none behind.
func lock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
			return err
		}
	}
}
