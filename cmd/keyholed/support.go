package main

import (
	"fmt"
	"time"

	"github.com/keyholed/keyhole/daemon/control"
)

// supportWords says what the support button has begun. The code is on the display only.
func supportWords(s control.Support) string {
	left := time.Duration(s.SecondsLeft) * time.Second
	switch s.State {
	case control.SupportWaiting:
		words := fmt.Sprintf("a code is on the display for %v", left)
		if s.Call != "" {
			words += ", call number " + s.Call
		}
		return words
	case control.SupportSession:
		words := fmt.Sprintf("somebody is here from %s for %v: key %s, ", s.Source, left, s.Guest.Short())
		switch s.Control {
		case "allowed":
			return words + "may use the services"
		case "asked":
			return words + "asks to use the services"
		}
		return words + "sees the device and its logs"
	case control.SupportOff:
		return "off: " + s.Why
	}
	if s.WaitSeconds > 0 {
		return fmt.Sprintf("no code before %v", time.Duration(s.WaitSeconds)*time.Second)
	}
	return "a press of the support button shows a code"
}
