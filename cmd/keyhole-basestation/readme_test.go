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

// TestREADME pastes the operator's session of the README into a shell, line by
// line as it stands there. It has fixed ports, so it runs in a network of its own
// where it may.
func TestREADME(t *testing.T) {
	t.Parallel()
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
	_, rest, found := strings.Cut(string(page), "<!-- tested: operator -->\n```sh\n")
	script, _, ended := strings.Cut(rest, "\n```")
	if !found || !ended {
		t.Fatal("README.md has no block marked as tested for the operator")
	}
	home, err := os.MkdirTemp("", "kh") // short: there are Unix sockets in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute) // it takes 8 s once everything is built
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", "set -x\ntrap 'kill $(jobs -p) 2>/dev/null; tail -n 5 $HERE/*.log' ERR\n"+script)
	shell.WaitDelay = time.Second // what the script left behind keeps the pipe open
	shell.Dir = root
	shell.Env = append(os.Environ(), "HOME="+home, "TMPDIR="+home, "GOFLAGS=-buildvcs=false")
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		shell.Env = append(shell.Env, name+"="+strings.TrimSpace(string(value)))
	}
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("the operator's session in README.md fails: %v\n%s", err, out)
	}
	for _, want := range []string{"attached", `"state":"attached"`, "\nkeyhole_devices 1\n", `{"done":true}`, "3 live"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the session does not print %q:\n%s", want, out)
		}
	}
}
