package main

import (
	"testing"

	"github.com/keyholed/keyhole/internal/testcmd"
)

// TestREADME pastes the README's session into a shell.
func TestREADME(t *testing.T) {
	testcmd.Paste(t, "", "Alice", "owner", "the log is whole", `"name":"Front door"`)
}

// TestREADMEAuthority is that of people with certificates.
func TestREADMEAuthority(t *testing.T) {
	testcmd.Paste(t, "authority", "installed: alice@example.net (e-mail)", "No need to pair with Front door. You are alice@example.net (authority), viewer.", "and is out")
}
