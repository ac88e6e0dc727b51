package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketMode lets the owner and the group connect: on Linux, connecting needs
// write permission.
const socketMode = 0o660

// maxPathBytes is sun_path without its final zero byte (unix(7)).
const maxPathBytes = 107

// probeTimeout bounds the question whether a daemon lives at a socket that is
// already there. A frozen one has not answered by then, and lives.
const probeTimeout = 2 * time.Second

// ErrInUse is wrapped by Listen's error when another daemon serves the socket.
var ErrInUse = errors.New("another keyholed serves this socket")

// Listen makes the socket at path with mode 0660, owned by group keyhole where
// there is one and we may. A socket that a dead daemon left behind is replaced;
// where one still lives, or where there is something else, Listen refuses.
//
// Close removes the socket. A file path.lock stays, which the kernel unlocks
// when its process ends, however it ends.
func Listen(path string) (net.Listener, error) {
	if len(path) > maxPathBytes {
		return nil, fmt.Errorf("control socket %s: the path has %d bytes, and a Unix socket takes at most %d (choose another with --socket FILE)", path, len(path), maxPathBytes)
	}
	lock, err := lockFor(path)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	l, err := bind(path)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, errors.Join(err, lock.Close()))
	}
	return &listener{Listener: l, lock: lock}, nil
}

// listener gives the lock back after the socket is gone.
type listener struct {
	net.Listener
	lock *os.File
	once sync.Once
	err  error
}

func (l *listener) Close() error {
	l.once.Do(func() { l.err = errors.Join(l.Listener.Close(), l.lock.Close()) })
	return l.err
}

// lockFor settles which of two daemons that start at once may have the socket.
func lockFor(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if _, none := os.Stat(filepath.Dir(path)); errors.Is(none, fs.ErrNotExist) {
		return nil, fmt.Errorf("the directory %s does not exist (systemd makes it; by hand choose another with --socket FILE)", filepath.Dir(path))
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func bind(path string) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var fault error
		err := c.Control(func(fd uintptr) {
			// Linux takes the mode of the new file from the socket's own inode
			// (less the umask), so it is never open to more people than it
			// should be; setting the process's umask would race with others.
			fault = unix.Fchmod(int(fd), 0o600)
		})
		return errors.Join(err, fault)
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if group, ok := groupID(); ok {
		// Not allowed for a developer who is not in the group: then the socket
		// keeps the developer's own group, and Server admits nobody of it.
		if err := os.Lchown(path, -1, int(group)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return nil, errors.Join(err, l.Close())
		}
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeStale removes a socket that nobody answers at. It runs under the lock;
// a daemon that got its socket from systemd holds no lock, but answers.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("something else than a socket is there already")
	}
	conn, err := net.DialTimeout("unix", path, probeTimeout)
	if err == nil {
		return errors.Join(ErrInUse, conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("find out whether the socket that is there already is in use: %w", err)
	}
	return os.Remove(path)
}
