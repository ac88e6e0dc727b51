package testnet

import (
	"os"
	"os/exec"
	"testing"
)

// Program returns the path of a foreign program that a test needs. Where it is
// missing the test fails for root, who can run testbed/prepare, and is skipped
// for others.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
	case os.Getuid() == 0:
		t.Fatalf("%s is not installed: run testbed/prepare", name)
	default:
		t.Skipf("%s is not installed: testbed/prepare names the package", name)
	}
	return path
}
