package main

import (
	"testing"

	"github.com/keyholed/keyhole/internal/testcmd"
)

// TestREADME pastes the operator's session of the README into a shell.
func TestREADME(t *testing.T) {
	t.Parallel()
	testcmd.Paste(t, "operator", "attached", `"state":"attached"`, "\nkeyhole_devices 1\n", `{"done":true}`, "3 live")
}
