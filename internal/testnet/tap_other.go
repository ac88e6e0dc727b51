//go:build !linux

package testnet

import (
	"os"
	"testing"
)

// tap needs Linux.
func (n *Namespace) tap(t testing.TB, _ string) *os.File {
	t.Skip("TAP devices need Linux")
	return nil
}
