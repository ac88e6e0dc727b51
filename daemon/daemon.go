// Package daemon is keyholed without its command line: it puts the rooms
// together and owns every long-lived task of the process.
//
// cmd/keyholed runs it on a board and `keyhole demo` runs it in one process with
// a client. Here, and only here, who (session) meets may (acl), and a press gets
// its meaning. Start reading at newTasks (who lives here) and table in routes.go
// (what a peer may ask).
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/discovery"
	"github.com/keyholed/keyhole/hal"
	"github.com/keyholed/keyhole/hal/sim"
	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/internal/netstate"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
	"github.com/keyholed/keyhole/systemd"
	"github.com/keyholed/keyhole/tunnel"
	"github.com/keyholed/keyhole/tunnel/tries"
)

// drainDuration is how long live tunnels may go on after the daemon was told to
// stop. It is well within systemd's TimeoutStopSec.
const drainDuration = 3 * time.Second

// Options of a daemon. Config is required.
type Options struct {
	Config *config.Config
	Log    *slog.Logger // nil: silent
	// Sockets that the service manager opened for us; nil, or what is empty in
	// it, is opened by Run.
	Sockets *systemd.Sockets
	// Quiet leaves mDNS out, for several devices in one test.
	Quiet bool
}

// A Daemon is one device. Its exported methods are for after Ready.
type Daemon struct {
	log     *slog.Logger
	notify  *systemd.Notifier
	options Options
	started time.Time
	ready   chan struct{}

	cfg atomic.Pointer[config.Config]

	key     *identity.Key
	reset   session.ResetKey
	store   *acl.Store
	window  *pairing.Window
	bridge  *tunnel.Bridge
	tries   *tries.Ledger // passwords of services that authenticate by themselves
	server  *session.Server
	routes  routes
	monitor *netstate.Monitor
	mdns    *discovery.Announcer // nil when quiet
	board   *hal.Board           // nil: no board
	sim     *sim.Board           // nil: the board is real or absent
	panel   *panel
	station *station // nil: no basestation
	support *support // nil before furnish
	guests  *guests
	memory  *stationFile // of the basestation, and of the time
	steady  steadyClock
	floor   atomic.Int64 // of time, in seconds; as in memory
	// kernel is systemClock; tests set it.
	kernel atomic.Pointer[func() (now time.Time, known bool)]

	asks     []askCheck // of introductions by strangers
	grants   *grantDesk // nil: no grant of the vendor counts
	list     *listDesk  // nil: no list of the vendor is fetched
	settings *settingsFile
	events   events
	present  presence
	refusals *refusals
	watching *watching
	exports  chan struct{}               // holds one for each export of the log under way
	logBad   atomic.Pointer[acl.BadLine] // where the audit log did not hold at the start; nil: nowhere
	locked   atomic.Bool                 // pairing was locked when it was looked at last
	doors    doors
	sockets  []*session.Socket // of doors.udp

	certified  *certified // who is here by a certificate
	invited    invited
	inviteEnds inviteEnds
	labelling  sync.Mutex // one label is made at a time; taken before no other lock of ours

	// changing is held from looking at a user to changing him, so that who may be
	// changed is still who is changed. It is taken before every other lock.
	changing sync.Mutex

	// erasing ends when a factory reset was begun, by endReset.
	erasing  context.Context
	endReset context.CancelFunc

	stopping  chan struct{} // closed by beginStop
	hurry     chan struct{} // closed by Hurry
	hurryOnce sync.Once
}

// New prepares a daemon from a checked configuration. It touches nothing on the
// machine; Run does.
func New(o Options) (*Daemon, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Sockets == nil {
		o.Sockets = &systemd.Sockets{}
	}
	d := &Daemon{
		log: o.Log, notify: &systemd.Notifier{Log: o.Log}, options: o, started: time.Now(), routes: table(),
		ready: make(chan struct{}), stopping: make(chan struct{}), hurry: make(chan struct{}),
		exports: make(chan struct{}, maxExports),
	}
	d.setKernelClock(systemClock)
	d.guests, d.asks = newGuests(func(p acl.Principal) bool { return d.store.IsBlocked(p) }, d.guestEnded), askChecks()
	d.erasing, d.endReset = context.WithCancel(context.Background())
	d.cfg.Store(o.Config)
	if err := Check(o.Config); err != nil {
		return nil, err
	}
	return d, nil
}

// config is the configuration in force; a reload replaces it whole.
func (d *Daemon) config() *config.Config { return d.cfg.Load() }

// Ready is closed when every task does its job.
func (d *Daemon) Ready() <-chan struct{} { return d.ready }

// ID of the device.
func (d *Daemon) ID() identity.ID { return d.key.ID() }

// Fingerprint of the device's key.
func (d *Daemon) Fingerprint() identity.Fingerprint { return d.key.Fingerprint() }

// Hurry skips what is left of the drain after Run's context has ended.
func (d *Daemon) Hurry() { d.hurryOnce.Do(func() { close(d.hurry) }) }

// Run is the device: it opens what it needs in the order of the lines below,
// runs until ctx ends or something fails, and closes in the opposite order. It
// may be called once.
func (d *Daemon) Run(ctx context.Context) (err error) {
	var opened closers
	defer func() { err = errors.Join(err, opened.close()) }()
	if err := d.openIdentity(); err != nil {
		return err
	}
	d.memory = openStationFile(d.config().Device.Identity, d.config().Basestation.Keys, d.log.With("room", "basestation"))
	d.floor.Store(d.memory.now().Time)
	if err := d.openStore(&opened); err != nil {
		return err
	}
	if err := d.openDoors(&opened); err != nil {
		return err
	}
	if err := d.furnish(&opened); err != nil {
		return err
	}
	tasks, err := d.newTasks()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(d.erasing, cancel)
	defer stop()
	err = runTasks(ctx, tasks, d.waiting)
	if d.erasing.Err() != nil {
		err = errors.Join(err, ErrReset)
	}
	return err
}

// waiting passes on to the service manager what is not ready yet.
func (d *Daemon) waiting(what string) {
	if what != "" {
		d.notify.Status(what)
		return
	}
	close(d.ready)
	d.log.Info("ready", "id", d.key.ID(), "listen", d.listening(), "users", len(d.store.Users()))
	d.notify.Ready(d.summary())
}

func (d *Daemon) summary() string {
	return fmt.Sprintf("%s, %s on %v", d.key.ID(), plural(len(d.store.Users()), "user"), d.listening())
}

// beginStop is the first thing that happens when the daemon has to stop: nobody
// pairs any more, event streams end, and the service manager knows.
func (d *Daemon) beginStop() {
	d.log.Info("stopping")
	d.notify.Stopping("letting open tunnels finish")
	close(d.stopping)
	d.window.Close()
	d.support.hang(pairing.SupportClosed)
}

func (d *Daemon) openIdentity() error {
	dir := d.config().Device.Identity
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("identity directory: %w", err)
	}
	path := filepath.Join(dir, "identity.pem")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && acl.Made(dir) {
		// A new key would be another device to everybody who knows this one.
		return fmt.Errorf("%s is missing, but this device had a key: put it back from a backup; or become a new device with nobody on its list: keyholed reset --erase-everything (and the --config it was started with)", path)
	}
	key, err := identity.LoadOrCreate(path)
	if err != nil {
		return err
	}
	d.key = key
	if d.reset, err = session.LoadResetKey(filepath.Join(dir, "quic.key")); err != nil {
		// Only convenience hangs on it, not the device.
		d.log.Warn("clients will notice late when this device restarts", "error", err)
	}
	return nil
}

func (d *Daemon) openStore(opened *closers) error {
	cfg := d.config()
	roles, err := vendorRoles(cfg)
	if err != nil {
		return err
	}
	store, err := acl.Open(acl.Options{
		Roles:    roles,
		StateDir: cfg.Device.State, IdentityDir: cfg.Device.Identity, Key: d.key, Clock: d.clock, Log: d.log.With("room", "acl"),
	})
	if err != nil {
		return err
	}
	d.store = store
	opened.add(store.Close)
	d.refusals = newRefusals(func(e acl.Event) { d.record(e) })
	opened.add(d.refusals.close)
	return nil
}

// furnish makes the rooms that only hold memory, in the order of their needs.
func (d *Daemon) furnish(opened *closers) error {
	cfg := d.config()
	d.bridge = tunnel.NewBridge(tunnel.Config{
		PerPeer: cfg.Limits.TunnelsPerPeer, Total: cfg.Limits.Tunnels, Idle: cfg.Limits.TunnelIdle,
		Own: d.doors.own, Log: d.log.With("room", "tunnel"),
		Changed: d.tunnelsChanged,
	})
	opened.add(d.bridge.Close)
	services, err := serviceTable(cfg, d.doors.own, d.passwordRefused)
	if err != nil {
		return err
	}
	d.bridge.SetServices(services)
	d.openTries()
	d.openBoard(opened)
	opened.add(d.guests.close)
	d.window, err = pairing.New(pairing.Config{
		Modes: cfg.Pairing.Modes, Display: d.board != nil && d.board.Display != nil, Device: d.key.Fingerprint(), Granter: granter{d}, Changed: d.pairingChanged,
		Counter: tryCounter(filepath.Join(cfg.Device.Identity, "pairing-tries")),
		Label:   d.readLabel(), LabelAlways: cfg.Pairing.LabelAlways, Failures: failures(filepath.Join(cfg.Device.Identity, failuresFile)),
		Log: d.log.With("room", "pairing"), Abandoned: d.pairingAbandoned,
	})
	if err != nil {
		return err
	}
	d.locked.Store(d.window.State().Locked)
	d.openAuthorities(opened)
	if err := d.openSupport(opened); err != nil {
		return err
	}
	d.server = session.NewServer(session.Config{
		Key: d.key, Handler: dispatch{d}, Log: d.log.With("room", "session"), Observe: d.sessionChanged,
		Known: d.known, Welcome: func(f identity.Fingerprint) bool { return d.tries.Knows(f) }, Vouch: d.certified.vouch, ResetKey: d.reset,
		Limits: session.Limits{
			Unauthenticated: cfg.Limits.Unauthenticated, Unpaired: cfg.Limits.Unpaired, Paired: cfg.Limits.Sessions,
		},
	})
	opened.add(d.server.Close)
	d.store.OnRevoke(d.cut)
	d.store.OnBlock(d.cutGuests)
	d.store.OnChange(d.listChanged)
	d.store.OnEntry(d.recorded)
	if err := d.openAnnouncer(); err != nil {
		return err
	}
	d.openSettings()
	if err := d.openSockets(opened); err != nil {
		return err
	}
	d.openInviteEnds(opened) // its timer asks the clock, and that the station
	if err := d.openGrants(); err != nil {
		return err
	}
	return d.openList()
}

// closers close what was opened, last first.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

func (c *closers) close() error {
	var errs []error
	for i := len(*c) - 1; i >= 0; i-- {
		errs = append(errs, (*c)[i]())
	}
	return errors.Join(errs...)
}
