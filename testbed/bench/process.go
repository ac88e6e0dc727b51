package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A process is one that we started and will end.
type process struct {
	cmd  *exec.Cmd
	stop io.Closer // standard input: a role ends when it does
}

// startRole runs this program as one side of a contender and returns what it
// says when it is ready.
func (b *bench) startRole(role, target, extra string) (*process, []string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(self, "-role", role, "-target", target, "-extra", extra)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	p := &process{cmd, in}
	b.started = append(b.started, p)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, nil, fmt.Errorf("role %s: %w", role, err)
	}
	return p, strings.Fields(line), nil
}

// startProgram runs a foreign program until it listens on address.
func (b *bench) startProgram(ctx context.Context, address, name string, args ...string) (*process, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(b.dir, fmt.Sprintf("%s-%d.log", filepath.Base(name), len(b.started))))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd}
	b.started = append(b.started, p)
	for range 100 {
		if conn, err := net.Dial("tcp", address); err == nil {
			return p, conn.Close()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	said, _ := os.ReadFile(log.Name())
	return nil, fmt.Errorf("%s does not listen on %s: %s", name, address, said)
}

func (p *process) end() {
	if p.stop != nil {
		p.stop.Close()
	} else {
		p.cmd.Process.Signal(syscall.SIGTERM)
	}
	gone := time.AfterFunc(5*time.Second, func() { p.cmd.Process.Kill() })
	defer gone.Stop()
	p.cmd.Wait()
}

// freePort asks the kernel for a port that nobody has now.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// family is a process and its descendants: sshd makes one for each session.
func (p *process) family() []int {
	parents := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		if f := statFields(file); f != nil {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			parents[pid], _ = strconv.Atoi(f[1])
		}
	}
	var all []int
	for pid := range parents {
		for up := pid; up > 1; up = parents[up] {
			if up == p.cmd.Process.Pid {
				all = append(all, pid)
				break
			}
		}
	}
	return all
}

// statFields are those of proc(5) from state on, after the name in brackets.
func statFields(file string) []string {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	text := string(raw)
	return strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
}

// cpu is the time that the family has spent so far, in user and system mode.
func (p *process) cpu() time.Duration {
	if p == nil {
		return 0
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux
	var ticks int
	for _, pid := range p.family() {
		f := statFields(fmt.Sprintf("/proc/%d/stat", pid))
		if len(f) < 15 {
			continue
		}
		for _, s := range f[11:13] {
			n, _ := strconv.Atoi(s)
			ticks += n
		}
		if pid == p.cmd.Process.Pid { // and of children that are gone
			for _, s := range f[13:15] {
				n, _ := strconv.Atoi(s)
				ticks += n
			}
		}
	}
	return time.Duration(ticks) * tick
}

// resident is the family's memory in KiB; anonymous is the part of it that no
// file backs.
func (p *process) resident() (all, anonymous int) {
	for _, pid := range p.family() {
		raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		for line := range strings.Lines(string(raw)) {
			var kib int
			if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
				all += kib
			} else if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &kib); n == 1 {
				anonymous += kib
			}
		}
	}
	return all, anonymous
}
