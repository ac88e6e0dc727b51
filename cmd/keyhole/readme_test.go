package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
)

// TestREADME pastes the README's session into a shell, line by line as it
// stands there. It has fixed ports, so it runs in a network of its own where it
// may.
func TestREADME(t *testing.T) {
	if os.Getuid() == 0 && !testnet.Isolate(t) {
		return
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "<!-- tested -->\n```sh\n")
	script, _, ended := strings.Cut(rest, "\n```")
	if !found || !ended {
		t.Fatal("README.md has no block marked as tested")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // it takes 5 s once everything is built
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", "set -x\n"+script)
	shell.WaitDelay = time.Second // what the script left behind keeps the pipe open
	shell.Dir = root
	shell.Env = append(os.Environ(), "HOME="+t.TempDir(), "TMPDIR="+t.TempDir(), "GOFLAGS=-buildvcs=false")
	shell.Env = append(shell.Env, keepGoCaches(t)...)
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("the session in README.md fails: %v\n%s", err, out)
	}
	for _, want := range []string{"Alice", "owner", "the log is whole", `"name":"Front door"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the session does not print %q:\n%s", want, out)
		}
	}
}

// keepGoCaches lets `make build` use the caches although HOME is another.
func keepGoCaches(t *testing.T) []string {
	t.Helper()
	var env []string
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	return env
}
