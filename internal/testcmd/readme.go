package testcmd

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

// Paste runs a block of README.md, the one behind the comment "<!-- tested -->", or "<!-- tested:
// name -->", line by line as it stands there, from the root of the repository,
// and looks for each of want in what is printed. On an error the last lines of the
// logs in $HERE are printed too. It has fixed ports, so it runs in a
// network of its own where it may. Tests that call it are two folders below the root.
func Paste(t *testing.T, name string, want ...string) {
	t.Helper()
	if os.Getuid() == 0 && !testnet.Isolate(t) {
		return
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.MkdirTemp("", "kh") // short: there are Unix sockets in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute) // it takes 8 s once everything is built
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c",
		"set -x\ntrap 'kill $(jobs -p) 2>/dev/null; tail -n 5 ${HERE:-$PWD}/*.log' ERR\n"+block(t, root, name))
	shell.WaitDelay = time.Second // what the script left behind keeps the pipe open
	shell.Dir = root
	shell.Env = append(os.Environ(), "HOME="+home, "TMPDIR="+home, "GOFLAGS=-buildvcs=false")
	shell.Env = append(shell.Env, goCaches(t)...)
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("the session %q in README.md fails: %v\n%s", name, err, out)
	}
	for _, w := range want {
		if !strings.Contains(string(out), w) {
			t.Errorf("the session %q does not print %q:\n%s", name, w, out)
		}
	}
}

func block(t *testing.T, root, name string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	mark := "<!-- tested -->"
	if name != "" {
		mark = "<!-- tested: " + name + " -->"
	}
	_, rest, found := strings.Cut(string(page), mark+"\n```sh\n")
	script, _, ended := strings.Cut(rest, "\n```")
	if !found || !ended {
		t.Fatalf("README.md has no block behind %s", mark)
	}
	return script
}

// goCaches lets `make build` use the caches although HOME is another.
func goCaches(t *testing.T) (env []string) {
	t.Helper()
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	return env
}
