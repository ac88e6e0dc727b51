package testnet

import (
	"errors"
	"time"
)

// patience is how long a condition is waited for: far more than anything here
// takes on a busy machine, so that only what never happens fails.
const patience = 60 * time.Second

// look is how often a condition is looked at.
const look = 2 * time.Millisecond

// A Failer is a test, a benchmark or a script of testscript.
type Failer interface {
	Fatalf(format string, args ...any)
}

// Eventually waits until try returns nil, and fails the test with the last error
// if it never does.
func Eventually(t Failer, what string, try func() error) {
	if h, ok := t.(interface{ Helper() }); ok {
		h.Helper()
	}
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s: %v", patience, what, err)
		}
		time.Sleep(look)
	}
}

var errNotYet = errors.New("not so")

// Until waits until something is so.
func Until(t Failer, what string, so func() bool) {
	if h, ok := t.(interface{ Helper() }); ok {
		h.Helper()
	}
	Eventually(t, what, func() error {
		if so() {
			return nil
		}
		return errNotYet
	})
}
