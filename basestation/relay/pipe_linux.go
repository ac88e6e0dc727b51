package relay

import (
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// pipeBytes is the room of a pipe: 64 pages, each of which holds one
	// fragment of a packet. The kernel's own 16 hold 24 kB that came in
	// Ethernet frames, so that every wake-up would move that little.
	pipeBytes = 256 << 10
	// maxSparePipes are kept for the next flow. A pipe is two descriptors and,
	// while it is empty, 3 KiB of the kernel's memory.
	maxSparePipes = 64
)

// A pipe is where the kernel keeps bytes between two sockets.
type pipe struct{ read, write int }

func newPipe() (*pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	// A user with many pipes is refused more than the smallest ones: they
	// work as well, with more calls.
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeBytes)
	return &pipe{fds[0], fds[1]}, nil
}

func (p *pipe) close() {
	unix.Close(p.read)
	unix.Close(p.write)
}

// pipes are the empty ones of this process.
var pipes struct {
	mu    sync.Mutex
	spare []*pipe
}

func borrowPipe() (*pipe, error) {
	pipes.mu.Lock()
	if n := len(pipes.spare); n > 0 {
		p := pipes.spare[n-1]
		pipes.spare = pipes.spare[:n-1]
		pipes.mu.Unlock()
		return p, nil
	}
	pipes.mu.Unlock()
	return newPipe()
}

// giveBack takes an empty pipe.
func (p *pipe) giveBack() {
	pipes.mu.Lock()
	if len(pipes.spare) < maxSparePipes {
		pipes.spare = append(pipes.spare, p)
		p = nil
	}
	pipes.mu.Unlock()
	if p != nil {
		p.close()
	}
}
