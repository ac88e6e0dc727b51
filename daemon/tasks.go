package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/hal/sim"
	"github.com/keyholed/keyhole/systemd"
)

// newTasks lists who lives here: every long-lived part of the process.
func (d *Daemon) newTasks() ([]Task, error) {
	watchdog, err := systemd.NewWatchdog(d.Healthy, d.log.With("room", "watchdog"))
	if err != nil {
		return nil, err
	}
	tasks := []Task{
		newTask("sessions", d.serveSessions),
		newTask("control socket", d.serveControl),
		newTask("clock", d.followClock),
		newTask("limits", d.followLimits),
		newTask("audit log", d.lookThroughLog),
		d.monitor,
		watchdog,
	}
	if d.mdns != nil {
		tasks = append(tasks, d.mdns)
	}
	if d.station != nil {
		tasks = append(tasks, newTask("basestation", d.station.run))
	}
	if d.list != nil {
		tasks = append(tasks, newTask("vendor's list", d.list.run))
	}
	if d.board != nil {
		tasks = append(tasks, d.panel, hal.NewWatcher(d.board, d.gesture, d.log.With("room", "hal")))
	}
	if d.doors.face != nil {
		tasks = append(tasks, newTask("front panel page", d.serveFace))
	}
	return tasks, nil
}

// serveSessions serves every listener until ctx ends, then lets what is under
// way finish for drainDuration, or until Hurry.
func (d *Daemon) serveSessions(ctx context.Context, ready func()) error {
	failed := make(chan error, len(d.doors.tcp)+len(d.sockets))
	for _, l := range d.doors.tcp {
		go func() { failed <- d.server.ServeTCP(l) }()
	}
	for _, s := range d.sockets {
		go func() { failed <- d.server.ServeSocket(s) }()
	}
	ready()
	var first error
	running := cap(failed)
	select {
	case <-ctx.Done():
	case first = <-failed:
		running--
		if first == nil {
			first = errors.New("a listener ended by itself")
		}
	}
	d.beginStop()
	err := d.drain(context.WithoutCancel(ctx))
	for range running {
		err = errors.Join(err, <-failed)
	}
	return errors.Join(first, err)
}

// drain lets the requests and tunnels that are open finish. That they did not in
// time is no error.
func (d *Daemon) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainDuration)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() {
		select {
		case <-d.hurry:
			cancel()
		case <-ctx.Done():
		}
	})
	err := d.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (d *Daemon) serveControl(ctx context.Context, ready func()) error {
	s := control.Server{Handler: d.localHandler(), Log: d.log.With("room", "control")}
	ready()
	return s.Serve(ctx, d.doors.control)
}

func (d *Daemon) serveFace(ctx context.Context, ready func()) error {
	ready()
	d.log.Info("front panel", "url", d.faceURL())
	return d.doors.page.Serve(ctx, d.doors.face)
}

// faceURL is where the simulated board's page is, with its token; "" without one.
func (d *Daemon) faceURL() string {
	if d.doors.face == nil {
		return ""
	}
	return d.doors.page.URL(d.doors.face.Addr())
}

// openBoard makes the board that the configuration names.
func (d *Daemon) openBoard(opened *closers) {
	d.board = nil
	if d.config().Board.Profile == "simulated" {
		d.sim = sim.New(sim.Options{})
		d.board = d.sim.HAL()
		opened.add(d.sim.Close)
	}
	board := d.board
	if board == nil {
		board = &hal.Board{}
	}
	d.panel = newPanel(board, d.scene, d.log.With("room", "panel"))
	d.watching = startWatching(board.Watching, func() int { return d.bridge.Counts().Media }, d.log.With("room", "panel"))
	opened.add(d.watching.close)
	if d.doors.face != nil {
		d.doors.page = sim.NewFace(d.sim, sim.FaceOptions{
			Title: d.config().Device.Name, Log: d.log.With("room", "face"),
			Hints: map[string]string{
				hal.ButtonPair: "press to pair", hal.ButtonSupport: "hold 1-3 s", hal.ButtonReset: "hold 10 s",
			},
		})
	}
}

// scene is what the front panel tells, gathered from the rooms.
func (d *Daemon) scene() scene {
	s := scene{
		device: d.config().Device.Name, id: string(d.key.ID()), users: len(d.store.Users()),
		watching: d.watchers(), pairing: d.window.State(), away: d.station.attached(),
	}
	if d.support != nil {
		s.support, s.call, s.oneButton = d.support.State(), d.support.call.shown(), d.board != nil && len(d.board.Buttons) == 1
	}
	epoch, _ := d.store.Position()
	s.resets = epoch - 1
	seen := map[string]bool{}
	for _, live := range d.server.Sessions() {
		u, _ := d.store.UserOf(live.Peer)
		if name := d.nameOf(live.Peer); name != "" && u.Role != acl.RoleOwner && !seen[name] {
			seen[name] = true
			s.others = append(s.others, name)
		}
	}
	return s
}

// listening returns the addresses as bound.
func (d *Daemon) listening() []string {
	var out []string
	for _, l := range d.doors.tcp {
		out = append(out, l.Addr().String())
	}
	return out
}

// Port is the port number of the first listener.
func (d *Daemon) Port() int {
	if len(d.doors.tcp) == 0 {
		return 0
	}
	return d.doors.tcp[0].Addr().(*net.TCPAddr).Port
}

// Press holds a button of the simulated board.
func (d *Daemon) Press(ctx context.Context, button string) error {
	if d.sim == nil {
		return errors.New("the board is not simulated")
	}
	return d.sim.Press(ctx, button, nominal[button])
}

// maxHold bounds how long `keyholed press` may hold a button.
const maxHold = sim.MaxHold

// Healthy returns nil when the parts that must answer do, for a watchdog: a
// daemon that hangs on a lock fails here and is restarted.
func (d *Daemon) Healthy(ctx context.Context) error {
	done := make(chan struct{})
	go func() { // hangs with what hangs, and the process is then ended
		defer close(done)
		d.window.State()
		d.server.Sessions()
		d.bridge.Counts()
		d.store.Users()
		d.station.status()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the daemon does not answer itself: %w", ctx.Err())
	case <-d.stopping:
		return nil
	}
}
