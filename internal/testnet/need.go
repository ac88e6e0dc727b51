package testnet

import (
	"os"
	"runtime"
	"testing"
)

// Root is for tests that make namespaces or mount: they are skipped for who is not
// root on Linux, and fail for him in CI, where nothing may be skipped.
func Root(t testing.TB) {
	t.Helper()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		lacking(t, "this test needs Linux and root")
	}
}

// Lacking says that the machine has not what a test needs. It fails for root, who can
// run testbed/prepare, and in CI; others skip the test.
func Lacking(t testing.TB, what string) {
	t.Helper()
	if os.Getuid() == 0 {
		t.Fatal(what)
	}
	lacking(t, what)
}

func lacking(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}
