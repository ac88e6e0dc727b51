package daemon

import (
	"fmt"
	"net/http"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/internal/version"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
)

// localHandler answers on the control socket, where the kernel has said who asks
// and package control has let in only those who may.
func (d *Daemon) localHandler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, serve func(w http.ResponseWriter, r *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r, done := d.commanded(r)
			err := serve(w, r)
			if err != nil {
				d.answerError(w, r, err)
			}
			done(err)
		})
	}
	handle("GET "+control.StatusRoute, d.localStatus)
	handle("POST "+control.PairingRoute, d.localPairing)
	handle("POST "+control.PressRoute, d.localPress)
	handle("GET "+control.DisplayRoute, d.localDisplay)
	handle("GET "+control.UsersRoute, d.localUsers)
	handle("GET "+control.WhyRoute, d.localWhy)
	handle("POST "+control.RevokeRoute, d.localRevoke)
	handle("GET "+control.AuditRoute, d.localAudit)
	handle("GET "+control.VerifyRoute, d.localVerify)
	handle("GET "+control.SessionsRoute, d.localSessions)
	handle("POST "+control.LabelRoute, d.localLabel)
	handle("POST "+control.ResetRoute, d.localReset)
	handle("/", func(http.ResponseWriter, *http.Request) error {
		return api.Problemf(api.CodeNotFound, "this keyholed (%s) does not know the command: the program and the daemon are of different versions", version.String())
	})
	return mux
}

func (d *Daemon) localStatus(w http.ResponseWriter, _ *http.Request) error {
	api.WriteJSON(w, d.Status())
	return nil
}

// Status tells how the daemon is.
func (d *Daemon) Status() control.Status {
	me := d.describe()
	clock := d.clock()
	s := control.Status{
		ID: me.ID, Fingerprint: me.Fingerprint, Name: me.Name, Product: me.Product, Version: me.Version, Uptime: me.Uptime,
		Listen: d.listening(), Pairing: localPairingState(d.window.State()), Support: d.support.status(),
		Basestation: d.station.status(),
		Users:       len(d.store.Users()), Sessions: len(d.server.Sessions()), Tunnels: d.bridge.Counts().Total, Watching: d.watchers(),
		Clock:       control.Clock{State: "unknown", Now: clock.Now},
		Warnings:    d.warnings(),
		Authorities: d.certified.status(), Refused: d.certified.refusals(),
	}
	s.Central = d.centralStatus()
	if clock.Known {
		s.Clock.State = "known"
	}
	if d.board != nil {
		s.Board = &control.Board{Profile: d.config().Board.Profile, Light: d.panel.current().light().String(), Web: d.faceURL()}
		if d.sim != nil && d.board.Watching != nil {
			on := d.sim.State().Watching
			s.Board.Watching = &on
		}
	}
	return s
}

func localPairingState(s pairing.State) control.Pairing {
	p := control.Pairing{Open: s.Open, Modes: append([]string{}, s.Modes...), SecondsLeft: s.SecondsLeft}
	if a := s.Asking; a != nil {
		p.Asking = &control.Asking{Name: a.Name, Fingerprint: a.Fingerprint, Check: string(a.Check)}
	}
	return p
}

func (d *Daemon) localPairing(w http.ResponseWriter, r *http.Request) error {
	var order control.PairingOrder
	if err := api.DecodeRequest(w, r, &order); err != nil {
		return err
	}
	d.log.Info("local command", "pair", order.Do, "by", localUser(r))
	describe(r, "pair %s", order.Do)
	if err := d.order(order); err != nil {
		return err
	}
	d.panel.refresh()
	api.WriteJSON(w, localPairingState(d.window.State()))
	return nil
}

// order does what a press of the pair button would, said in words.
func (d *Daemon) order(order control.PairingOrder) error {
	switch order.Do {
	case "open":
		d.makeWayForPairing()
		if err := d.window.Open(); err != nil {
			return api.Problemf(api.CodeConflict, "%v", err)
		}
		return nil
	case "close":
		d.window.Close()
		return nil
	case "accept":
		asking := d.window.State().Asking
		if asking == nil {
			return api.Problemf(api.CodeNotFound, "nobody asks to pair now: run `keyholed pair open`, then `keyhole pair` on the client")
		}
		if !order.Fingerprint.IsZero() && order.Fingerprint != asking.Fingerprint {
			return api.Problemf(api.CodeConflict, "another key asks: %s", asking.Fingerprint)
		}
		if !d.window.Accept(order.Fingerprint) {
			return api.Problemf(api.CodeConflict, "the client has just vanished: nobody was accepted")
		}
		return nil
	}
	return api.Problemf(api.CodeMalformed, "pair wants open, accept or close")
}

// nominal is the gesture that each button means without --hold.
var nominal = map[string]time.Duration{
	hal.ButtonPair:    200 * time.Millisecond,
	hal.ButtonSupport: 1500 * time.Millisecond,
	hal.ButtonReset:   hal.ConfirmHold + 300*time.Millisecond, // a hand that holds for 10 s holds a little longer
}

func (d *Daemon) localPress(w http.ResponseWriter, r *http.Request) error {
	var press control.Press
	if err := api.DecodeRequest(w, r, &press); err != nil {
		return err
	}
	if d.sim == nil {
		return api.Problemf(api.CodeConflict, "this board is not simulated: press the real button, or use `keyholed pair open`")
	}
	hold, known := nominal[press.Button]
	if !known {
		return api.Problemf(api.CodeNotFound, "there is no button %q: the buttons are pair, support and reset", press.Button)
	}
	if press.HoldMillis != 0 {
		hold = time.Duration(press.HoldMillis) * time.Millisecond
	}
	if hold <= 0 || hold > maxHold {
		return api.Problemf(api.CodeMalformed, "a button can be held for up to %v", maxHold)
	}
	d.log.Info("local command", "press", press.Button, "hold", hold, "by", localUser(r))
	describe(r, "press %s for %v", press.Button, hold)
	if err := d.sim.Press(r.Context(), press.Button, hold); err != nil {
		return api.Problemf(api.CodeConflict, "%v", err)
	}
	api.WriteJSON(w, control.Pressed{Did: fmt.Sprintf("pressed %s for %v", press.Button, hold)})
	return nil
}

func (d *Daemon) localDisplay(w http.ResponseWriter, _ *http.Request) error {
	if d.sim == nil {
		return api.Problemf(api.CodeConflict, "this board has no simulated display: look at the real one")
	}
	w.Header().Set("Content-Type", "image/png")
	return ignoreGone(d.sim.State().Picture.PNG(w, displayScale))
}

// displayScale enlarges the 128x64 display to what is easy to look at.
const displayScale = 4

func (d *Daemon) localUsers(w http.ResponseWriter, _ *http.Request) error {
	api.WriteJSON(w, d.people())
	return nil
}

func (d *Daemon) localRevoke(w http.ResponseWriter, r *http.Request) error {
	var order control.Revoke
	if err := api.DecodeRequest(w, r, &order); err != nil {
		return err
	}
	describe(r, "revoke %s", order.Who)
	anybody := func(acl.User, bool) error { return nil }
	revoked, err := d.revoke(order.Who, localBy(r), anybody)
	if err != nil {
		return err
	}
	api.WriteJSON(w, revoked)
	return nil
}

// warnings are what the owner should look at.
func (d *Daemon) warnings() []string {
	var w []string
	if n := d.store.Degraded(); n > 0 {
		w = append(w, fmt.Sprintf("%d of the 2 copies of the access list cannot be written: look at the log and at the disk", n))
	}
	if d.window.State().Locked {
		w = append(w, "pairing is locked after too many tries: hold the pair button for 10 s")
	}
	if bad := d.logBad.Load(); bad != nil {
		w = append(w, "the audit log is not whole: "+bad.String()+"; keyholed audit --verify looks again")
	}
	w = append(w, d.labelWarning()...)
	w = append(w, d.station.warnings()...)
	w = append(w, d.centralWarnings()...)
	w = append(w, d.certified.warnings()...)
	for _, later := range d.config().Warnings {
		w = append(w, later.Error())
	}
	if len(d.bridge.Services().All()) == 0 {
		w = append(w, "no service is configured: add [[service]] to "+d.config().File)
	}
	return w
}
