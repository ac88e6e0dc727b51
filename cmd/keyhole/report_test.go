package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A basestation that leads to another device is no reason to give up the key that
// was pinned.
func TestLiesOfABasestationDoNotAskToForget(t *testing.T) {
	swapped := fmt.Errorf("%w: %w", client.ErrBasestation, &identity.MismatchError{})
	code, what, try := explain(&client.UnreachableError{Device: "front", Err: swapped})
	if all := strings.Join(try, " "); code != control.ExitNotReachable || strings.Contains(all, "forget") || !strings.Contains(all, "doctor") {
		t.Errorf("%d, %s, try %q", code, what, try)
	}
	if got := why(swapped); !strings.Contains(got, "basestation") {
		t.Errorf("in a list: %s", got)
	}
	if code, _, try := explain(&identity.MismatchError{}); code != control.ExitRefused || !strings.Contains(strings.Join(try, " "), "forget") {
		t.Errorf("another device at its address: %d, try %q", code, try)
	}
}
