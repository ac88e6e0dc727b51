package testnet

import (
	"os/exec"
	"testing"
)

// Program returns the path of a foreign program that a test needs.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Lacking(t, name+" is not installed: run testbed/prepare")
	}
	return path
}
