package relay

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openPipes counts the pipes that this process holds.
func openPipes(t *testing.T) (n int) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "pipe:") {
			n++
		}
	}
	return n
}

func TestIdleTunnelsHoldNoPipe(t *testing.T) {
	w := newWorld(t, Config{Limits: Limits{PairsPerDevice: 1000}})
	w.joined(camera)
	before := openPipes(t)
	const tunnels = 100
	for range tunnels {
		w.joined(camera)
	}
	// Each carried a byte both ways, one after the other; the two flows of a
	// tunnel may have been at it at once.
	if more := openPipes(t) - before; more > 8 {
		t.Errorf("%d more pipe ends for %d idle tunnels", more, tunnels)
	}
}

// Bytes go through when there is no descriptor left for a pipe.
func TestWithoutPipesBytesAreCopied(t *testing.T) {
	w := newWorld(t, Config{})
	client, device := w.joined(camera)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	pipes.mu.Lock()
	for _, p := range pipes.spare {
		p.close()
	}
	pipes.spare = nil
	pipes.mu.Unlock()
	before := openPipes(t)
	none := unix.Rlimit{Cur: 0, Max: was.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	err := passes(client, device, "without a pipe")
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if n := openPipes(t); n != before {
		t.Errorf("%d more pipe ends: a pipe was made all the same", n-before)
	}
	w.carries(client, device)
}

func TestPipesAreUsedAgain(t *testing.T) {
	var held []*pipe
	for range maxSparePipes + 10 {
		p, err := borrowPipe()
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, p)
	}
	for _, p := range held {
		p.giveBack()
	}
	pipes.mu.Lock()
	defer pipes.mu.Unlock()
	if len(pipes.spare) != maxSparePipes {
		t.Errorf("%d spare pipes, want %d", len(pipes.spare), maxSparePipes)
	}
}
