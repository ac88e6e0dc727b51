package main

import (
	"fmt"
	"time"

	"github.com/keyholed/keyhole/daemon/control"
)

// authorityWords says how a certificate authority does.
func authorityWords(a control.Authority) string {
	words := a.State
	if a.Sessions > 0 {
		words += fmt.Sprintf(", %d sessions by its certificates", a.Sessions)
	}
	if !a.Ends.IsZero() {
		words += fmt.Sprintf("; %s ends on %s", a.What, a.Ends.UTC().Format(time.DateOnly))
	}
	return words
}

// refusedWords names somebody to whom the owner might give a role.
func refusedWords(r control.Refused) string {
	return fmt.Sprintf("%s, certified by %s: %s", r.ID, r.Authority, r.Why)
}
