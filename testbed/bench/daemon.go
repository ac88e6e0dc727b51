package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"
)

// daemonIdle runs the real keyholed with an empty state, lets it come to rest
// and returns its resident memory in KiB; 0 when there is none to run.
func (b *bench) daemonIdle(ctx context.Context) int {
	program := filepath.Join(b.bin, "keyholed")
	if b.bin == "" {
		return 0
	}
	if _, err := exec.LookPath(program); err != nil {
		return 0
	}
	listen, err := freePort()
	if err != nil {
		return 0
	}
	config, err := b.file("keyholed.toml", fmt.Sprintf(`[[service]]
name = "bench"
type = "tcp"
address = %q

[board]
profile = "simulated"
`, b.service))
	if err != nil {
		return 0
	}
	p, err := b.startProgram(ctx, listen, program, "run", "--config", config, "--state", filepath.Join(b.dir, "state"),
		"--identity", filepath.Join(b.dir, "identity"), "--listen", listen, "--socket", filepath.Join(b.dir, "keyholed.sock"))
	if err != nil {
		b.missing = append(b.missing, fmt.Sprintf("idle keyholed: %v", err))
		return 0
	}
	b.pause(ctx, 5*time.Second) // past its start
	all, _ := p.resident()
	return all
}
