package daemon

import (
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/pairing"
)

// liftHold of the pair button lifts the lifetime lock.
const liftHold = 10 * time.Second

// gesture is where presses get their meaning. hal says what the hand did.
func (d *Daemon) gesture(ev hal.Event) {
	if !ev.Kind.Gesture() {
		d.halfDone(ev)
		return
	}
	d.log.Info("button", "button", ev.Button, "gesture", ev.String())
	d.panel.progress(hal.Event{})
	single := len(d.board.Buttons) == 1
	switch {
	case ev.Kind == hal.Confirmed:
		if err := d.beginReset("button", atTheDevice); err != nil {
			d.log.Error("factory reset", "error", err)
			d.panel.tell("Error", "nothing was erased")
			return
		}
		d.panel.tell("Erasing", "do not cut power")
		d.endReset()
	case ev.Button == hal.ButtonPair && ev.Kind == hal.Press && ev.Held >= liftHold && !single:
		d.liftLock()
	case d.pressedForSupport(ev, single):
	case ev.Button == hal.ButtonPair && ev.Short():
		d.pressPair()
	}
}

// halfDone shows how far a gesture is that takes several steps.
func (d *Daemon) halfDone(ev hal.Event) {
	if ev.Kind == hal.Cancelled {
		ev = hal.Event{}
	}
	d.panel.progress(ev)
}

func (d *Daemon) pressPair() {
	d.makeWayForPairing()
	did := d.window.Press()
	d.log.Info("pair button", "did", did.String())
	switch did {
	case pairing.PressOpened:
		d.record(acl.Event{What: acl.WhatPairingOpened, By: acl.By{Via: "button"}})
	case pairing.PressClosed:
		d.panel.tell("Closed", "pairing is over")
	case pairing.PressLocked:
		d.panel.tell("Locked", "too many tries:", "hold PAIR for 10 s")
	}
	d.panel.refresh()
}

func (d *Daemon) liftLock() {
	did, err := d.window.LongPress()
	if err != nil {
		d.log.Error("pairing stays locked", "error", err)
		d.panel.tell("Error", "the lock cannot", "be lifted")
		return
	}
	d.log.Info("pair button held", "did", did.String())
	d.noteLock()
}
