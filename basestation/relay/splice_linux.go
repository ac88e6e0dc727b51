package relay

import (
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// spliceBytes is the most that one call is asked to move; what a pipe
	// holds is less.
	spliceBytes = 1 << 20
	spliceFlags = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK
)

// A splicer has the kernel move bytes from one socket to another by way of a
// pipe, which it holds only while there are bytes in it.
type splicer struct {
	flow     *flow
	from, to syscall.RawConn
	pipe     *pipe
	held     int // bytes in pipe

	// The callbacks of from and to are made once, a closure for each call
	// would be an allocation for each call; n and err are their results.
	onReadable, onWritable, onWritableWait func(fd uintptr) bool
	err                                    error
}

// newMover returns a splicer, or a copier where there is no splice.
func newMover(f *flow) mover {
	from, err := f.from.SyscallConn()
	if err != nil {
		return newCopier(f)
	}
	to, err := f.to.SyscallConn()
	if err != nil {
		return newCopier(f)
	}
	s := &splicer{flow: f, from: from, to: to}
	s.onReadable, s.onWritable, s.onWritableWait = s.fill, s.drain, s.drainAll
	return s
}

func (s *splicer) take() (int, error) {
	s.err = nil
	if err := s.from.Read(s.onReadable); err != nil {
		return 0, err
	}
	if s.err != nil {
		return 0, s.err
	}
	if s.held == 0 {
		return 0, io.EOF
	}
	return s.held, nil
}

// fill moves what is there into a pipe. It returns false to be called again
// when there is more; no pipe is held then.
func (s *splicer) fill(fd uintptr) bool {
	t := s.flow.tunnel
	p, err := borrowPipe()
	if err != nil {
		s.err = errNoPipe
		return true
	}
	granted := t.reserve(spliceBytes)
	if granted == 0 {
		p.giveBack()
		s.err = errQuota
		return true
	}
	n, err := splice(int(fd), p.write, granted)
	t.took(s.flow.side, granted, n)
	if n > 0 {
		s.pipe, s.held = p, n
		return true
	}
	p.giveBack()
	if err == unix.EAGAIN {
		return false
	}
	if err != nil {
		s.err = os.NewSyscallError("splice", err)
	}
	return true
}

func (s *splicer) pass() (int, error) { return s.put(s.onWritable) }

func (s *splicer) wait() (int, error) { return s.put(s.onWritableWait) }

func (s *splicer) put(callback func(fd uintptr) bool) (int, error) {
	s.err = nil
	err := s.to.Write(callback)
	if err == nil {
		err = s.err
	}
	if s.held == 0 && s.pipe != nil {
		s.pipe.giveBack()
		s.pipe = nil
	}
	return s.held, err
}

// drain puts into the socket what it takes now.
func (s *splicer) drain(fd uintptr) bool {
	s.drainAll(fd)
	return true
}

// drainAll reports whether all is through.
func (s *splicer) drainAll(fd uintptr) bool {
	for s.held > 0 {
		n, err := splice(s.pipe.read, int(fd), s.held)
		switch {
		case err == unix.EAGAIN:
			return false
		case err != nil:
			s.err = os.NewSyscallError("splice", err)
			return true
		case n == 0:
			s.err = net.ErrClosed // cannot be: the pipe holds bytes
			return true
		}
		s.held -= n
	}
	return true
}

// release throws away what is in the pipe, and the pipe with it.
func (s *splicer) release() {
	if s.pipe != nil {
		s.pipe.close()
		s.pipe, s.held = nil, 0
	}
}

func splice(from, to, n int) (int, error) {
	for {
		moved, err := unix.Splice(from, nil, to, nil, n, spliceFlags)
		if err != unix.EINTR {
			return int(max(moved, 0)), err
		}
	}
}
