package acl

import (
	"fmt"
	"os"
	"testing"
)

// TestReplayOverSegments: a change that begins a segment follows the one before it, so
// that the log alone brings the list back.
func TestReplayOverSegments(t *testing.T) {
	b := newBench(t)
	b.audit.limit = 1
	b.enter(1, "Alice", "")
	for i := 2; i < 6; i++ {
		b.enter(i, fmt.Sprintf("User %d", i), RoleViewer)
	}
	b.mustClose(t)
	for _, name := range copyNames {
		if err := os.Remove(b.state(name)); err != nil {
			t.Fatal(err)
		}
	}
	b.open()
	if n := len(b.Users()); n != 5 {
		t.Errorf("%d users, want 5", n)
	}
	b.sound()
}
