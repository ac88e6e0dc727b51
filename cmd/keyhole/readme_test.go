package main

import (
	"testing"

	"github.com/keyholed/keyhole/internal/testcmd"
)

// TestREADME pastes the README's session into a shell.
func TestREADME(t *testing.T) {
	testcmd.Paste(t, "", "Alice", "owner", "the log is whole", `"name":"Front door"`)
}
