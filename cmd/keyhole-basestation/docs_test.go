package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/internal/testnet"
)

// keys returns what `key --all` prints for a data directory.
func keys(t *testing.T, dir string) []string {
	t.Helper()
	var out, words bytes.Buffer
	if code := run([]string{"key", "--all", "--data", dir}, &out, &words); code != exitDone {
		t.Fatalf("exit code %d: %s", code, &words)
	}
	return strings.Fields(out.String())
}

// The change of root keys that docs/operator.md shows makes the second key the
// first, and a new one the second.
func TestDocumentedRotation(t *testing.T) {
	testnet.Program(t, "openssl")
	page, err := os.ReadFile("../../docs/operator.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "<!-- tested: rotation -->\n```sh\n")
	script, _, ended := strings.Cut(rest, "\n```")
	if !found || !ended {
		t.Fatal("docs/operator.md has no block marked as tested")
	}
	dir := filepath.Join(t.TempDir(), "d")
	before := keys(t, dir)
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	after := keys(t, dir)
	if len(before) != 2 || len(after) != 2 || after[0] != before[1] || after[1] == before[0] {
		t.Errorf("before %v, after %v", before, after)
	}
}
