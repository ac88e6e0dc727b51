package daemon

import (
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/pairing"
)

// The presses of the support button (SECURITY: 1-3 s asks for a code and, again, ends; 3 s
// or more allows control while the display asks).
const (
	supportHoldMin = 1 * time.Second
	supportHoldMax = 3 * time.Second
)

// pressedForSupport gives a gesture its meaning for support; false: it has none. On boards
// with one button a double press asks for a code, and while a hotline is here a short one
// ends the session and nothing else.
func (d *Daemon) pressedForSupport(ev hal.Event, single bool) bool {
	state := d.support.State()
	phase := state.Phase
	switch {
	case !single && ev.Button != hal.ButtonSupport:
		return false
	case ev.Kind == hal.Press && ev.Held >= supportHoldMax:
		return d.allowControl() || !single
	case ev.Kind == hal.Press && state.Control == pairing.ControlAsked && !ev.Short():
		d.panel.tell("Too short", "nothing was", "allowed") // let go too early: neither a yes nor an end
		return true
	case ev.Kind == hal.Press && phase == pairing.SupportSession,
		!single && ev.Kind == hal.Press && phase == pairing.SupportWaiting,
		!single && ev.Kind == hal.Press && ev.Held >= supportHoldMin,
		single && ev.Kind == hal.Double:
		d.pressSupport()
		return true
	}
	return !single // a short press of the support button while there is nothing to end
}

// allowControl is the long hold. It reports whether the hold was an answer.
func (d *Daemon) allowControl() bool {
	allowed, meant := d.support.Allow()
	switch {
	case allowed:
		d.panel.tell("Allowed", "support may use", "the services")
	case meant:
		d.panel.tell("Too late", "nothing was", "allowed")
	}
	return meant
}

// pressSupport asks for a code, or ends what is. Two secrets never share the display: the
// later press is meant, so a pairing window that is open closes.
func (d *Daemon) pressSupport() {
	if why := d.support.why(); why != "" {
		d.log.Warn("the support button was pressed in vain", "why", why)
		d.panel.tell("Sorry", "no support:", "it is off")
		return
	}
	if d.support.State().Phase == pairing.SupportIdle {
		d.window.Close()
	}
	did, err := d.support.Press()
	d.log.Info("support button", "did", did.String())
	switch did {
	case pairing.SupportShown:
		d.record(acl.Event{What: acl.WhatSupportShown, By: acl.By{Via: "button"}})
	case pairing.SupportWithdrawn:
		d.panel.tell("Ended", "the code is gone")
	case pairing.SupportRefused:
		d.sayRefused(err)
	}
	d.panel.refresh()
}

func (d *Daemon) sayRefused(err error) {
	d.log.Warn("no support code", "error", err)
	wait := d.support.Wait()
	if wait == 0 {
		d.panel.tell("Error", "the disk cannot", "be written")
		return
	}
	d.panel.tell("Wait", "too many codes:", "next in "+hoursMinutes(wait))
}

func hoursMinutes(d time.Duration) string {
	m := int((d + time.Minute - 1) / time.Minute)
	if m < 60 {
		return plural(m, "minute")
	}
	return plural((m+59)/60, "hour")
}

// makeWayForPairing takes a support code from the display: the pair button was pressed
// later. A hotline that is here stays, and its question for control goes.
func (d *Daemon) makeWayForPairing() {
	if d.support == nil {
		return
	}
	if d.support.Waits() {
		d.support.Hang(pairing.SupportReplaced)
		return
	}
	d.support.Unask()
}

// supportPage is what the display shows of support; nil: something else.
func (s scene) supportPage() *hal.Picture {
	left := clock(time.Duration(s.support.SecondsLeft) * time.Second)
	switch {
	case s.support.Phase == pairing.SupportWaiting && !s.support.Code.IsZero():
		return hal.Page(hal.Line{Text: "Support code " + left}, hal.Line{Text: s.support.Code.Grouped(), Scale: 2}, hal.Line{Text: s.call.text()})
	case s.support.Control == pairing.ControlAsked:
		asked := clock(time.Duration(s.support.AskedLeft) * time.Second)
		hold := "Hold SUPPORT 3 s"
		if s.oneButton {
			hold = "Hold button 3 s"
		}
		return hal.Page(hal.Line{Text: "Allow control?"}, hal.Line{Text: hold}, hal.Line{Text: asked, Scale: 2}, hal.Line{Text: "Tap ends support"})
	}
	return nil
}

// text is the line below the code.
func (c callShown) text() string {
	switch c.state {
	case numberAsked:
		return "Call number: wait"
	case numberRefused:
		return "No call number"
	case numberGiven:
		return "Call no. " + c.number[:len(c.number)/2] + " " + c.number[len(c.number)/2:]
	}
	return "this network only"
}

// banner is what stands above everything while anybody but the owner is connected.
func (s scene) banner() string {
	if s.support.Phase != pairing.SupportSession {
		return ""
	}
	return "Support here " + clock(time.Duration(s.support.SecondsLeft)*time.Second)
}
