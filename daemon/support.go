package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
)

// support is help by a hotline: package pairing decides about codes and times, and here
// they get their surroundings, which are the guests, the audit log, the display and the
// call number.
type support struct {
	*pairing.Support
	d    *Daemon
	call calling

	mu     sync.Mutex // taken before no other lock
	guest  pairing.SupportGuest
	here   bool
	leaves []func() // of the guest's stays
}

// openSupport makes the support of this device. What was used of codes stays where a reset
// keeps it: a person with the reset button has no more tries than without.
func (d *Daemon) openSupport(opened *closers) error {
	cfg := d.config()
	var vendor identity.Fingerprint
	if cfg.Support.Key != "" {
		var err error
		if vendor, err = identity.ParseFingerprint(cfg.Support.Key); err != nil {
			return err // checked with the rest of the configuration
		}
	}
	s := &support{d: d}
	s.call.d = d
	var err error
	s.Support, err = pairing.NewSupport(pairing.SupportConfig{
		Device: d.key.Fingerprint(), Digits: cfg.Support.Digits, Vendor: vendor, Supporter: supporter{s}, Changed: s.changed,
		Ledger: supportLedger(filepath.Join(cfg.Device.Identity, "support-codes")), Log: d.log.With("room", "support"),
	})
	if err != nil {
		return err
	}
	d.support = s
	opened.add(s.Close)
	return nil
}

// changed shows what is true now to everybody who looks.
func (s *support) changed() {
	s.call.follow()
	s.d.panel.refresh()
}

// A supporter is the daemon as package pairing sees it.
type supporter struct{ *support }

// Enter is part of pairing.Supporter. That a hotline is here is on the disk before it hears
// so: a power cut does not hide it.
func (p supporter) Enter(g pairing.SupportGuest) error {
	s, d := p.support, p.d
	if !d.config().Support.Enabled {
		return errSupportOff
	}
	leave, err := d.guests.enter(s.stay(g))
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.guest, s.here, s.leaves = g, true, []func(){leave}
	s.mu.Unlock()
	d.record(acl.Event{What: acl.WhatSupportBegan, User: supportName, Fingerprint: g.Fingerprint, Source: g.Source})
	d.events.publish(api.Event{Kind: "support", What: "begun", User: supportName, Detail: g.Source})
	d.panel.tell("Support", "is connected.", "Tap SUPPORT to end")
	return nil
}

// supportName is who a hotline is in lists and logs: whoever proves a code is nobody in
// particular.
const supportName = "support"

var errSupportOff = errors.New("support is switched off")

// guestGrace is how much longer the guests would keep a hotline than package pairing does,
// whose timer knows why it goes. They are there for when that one should fail.
const guestGrace = time.Second

// stay is what a hotline is as a guest; more are roles beside the configured one.
func (s *support) stay(g pairing.SupportGuest, more ...string) guest {
	roles := append([]string{s.d.config().Support.Role}, more...)
	return guest{
		principal:   acl.Principal{Kind: acl.KindSupport, Name: supportName, Roles: roles},
		fingerprint: g.Fingerprint, until: g.Until.Add(guestGrace), info: "support code, from " + g.Source,
	}
}

// Allow is part of pairing.Supporter.
func (p supporter) Allow(g pairing.SupportGuest) error {
	s := p.support
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.here || s.guest != g {
		return errors.New("the session is over")
	}
	leave, err := s.d.guests.enter(s.stay(g, acl.RoleSupportControl))
	if err != nil {
		return err
	}
	s.leaves = append(s.leaves, leave)
	s.d.record(acl.Event{What: acl.WhatControlAllowed, User: supportName, Fingerprint: g.Fingerprint, Source: g.Source, By: acl.By{Via: "button"}})
	s.d.events.publish(api.Event{Kind: "support", What: "control allowed", User: supportName})
	return nil
}

// Leave is part of pairing.Supporter. What the hotline has open ends before it returns.
func (p supporter) Leave(g pairing.SupportGuest, why pairing.SupportEnd) {
	s := p.support
	s.mu.Lock()
	if !s.here || s.guest != g {
		s.mu.Unlock()
		return
	}
	leaves := s.leaves
	s.here, s.leaves = false, nil
	s.mu.Unlock()
	for _, leave := range leaves {
		leave()
	}
	s.d.record(acl.Event{What: acl.WhatSupportEnded, User: supportName, Fingerprint: g.Fingerprint, Source: g.Source, Why: string(why)})
	s.d.events.publish(api.Event{Kind: "support", What: "ended", User: supportName, Detail: string(why)})
	s.d.panel.tell("Support", "has ended")
}

// guestGone ends the session of a guest who was put out by somebody else.
func (s *support) guestGone(f identity.Fingerprint) {
	if s == nil {
		return
	}
	state := s.State()
	if state.Phase != pairing.SupportSession || state.Guest != f {
		return
	}
	for _, p := range s.d.guests.principals(f) {
		if p.Kind == acl.KindSupport {
			return
		}
	}
	s.Hang(pairing.SupportTaken)
}

// hang ends everything, for a reset, a reload and the end.
func (s *support) hang(why pairing.SupportEnd) {
	if s != nil {
		s.Hang(why)
	}
}

// why says in words why the button shows no code; "" if it would, as far as that is known
// beforehand.
func (s *support) why() string {
	switch {
	case !s.d.config().Support.Enabled:
		return "it is switched off in the configuration"
	case s.d.board == nil || s.d.board.Display == nil:
		return "this board has no display to show a code on"
	}
	return ""
}

// status is what `keyholed status` says.
func (s *support) status() control.Support {
	out := control.Support{State: control.SupportIdle, Why: s.why()}
	if out.Why != "" {
		out.State = control.SupportOff
	}
	state := s.State()
	switch state.Phase {
	case pairing.SupportWaiting:
		out.State, out.Call = control.SupportWaiting, s.call.shown().number
	case pairing.SupportSession:
		out.State, out.Guest, out.Source, out.Control = control.SupportSession, state.Guest, state.Source, state.Control.String()
	case pairing.SupportIdle:
		out.WaitSeconds = int(s.Wait().Seconds())
	}
	out.SecondsLeft = state.SecondsLeft
	return out
}

// supportLedger keeps what was used of support codes in a file beside the device's key.
type supportLedger string

// Load is part of pairing.Ledger.
func (f supportLedger) Load() ([]byte, error) {
	data, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// Store is part of pairing.Ledger.
func (f supportLedger) Store(b []byte) error { return durable.WriteFile(string(f), b, 0o600) }
