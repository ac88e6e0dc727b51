package daemon

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/keyholed/keyhole/daemon/config"
	"github.com/keyholed/keyhole/discovery"
	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/internal/netstate"
	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
)

// pairingChanged shows the window to everybody who looks: display, light, mDNS
// and event streams.
func (d *Daemon) pairingChanged(s pairing.State) {
	what := "closed"
	if s.Open {
		what = "open"
	}
	if s.Asking != nil {
		what = "asking"
	}
	d.events.publish(api.Event{Kind: "pairing", What: what})
	if d.mdns != nil {
		d.mdns.Set(d.mdnsRecord(s.Modes))
	}
	d.panel.refresh()
}

// listChanged shows that the access list is another one.
func (d *Daemon) listChanged() {
	d.inviteEnds.soon(0)
	d.panel.refresh()
	if d.station != nil {
		d.station.alarms.kick(false)
	}
}

func (d *Daemon) openAnnouncer() error {
	d.monitor = netstate.NewMonitor(d.log.With("room", "netstate"))
	if d.options.Quiet {
		return nil
	}
	d.mdns = discovery.NewAnnouncer(discovery.Config{
		Monitor: d.monitor, Interfaces: d.config().Pairing.Interfaces, Log: d.log.With("room", "discovery"),
	})
	d.mdns.Set(d.mdnsRecord(nil))
	return nil
}

func (d *Daemon) mdnsRecord(modes []string) discovery.Record {
	cfg := d.config()
	return discovery.Record{ID: d.key.ID(), Name: cfg.Device.Name, Product: cfg.Device.Product, Port: uint16(d.Port()), Pair: modes}
}

// Reload takes over what can change while running from a new configuration, and
// says what needs a restart. Live tunnels stay. On an error nothing has changed.
func (d *Daemon) Reload(next *config.Config) error {
	services, err := serviceTable(next, d.doors.own, d.passwordRefused)
	if err != nil {
		return err
	}
	takeAuthorities, err := d.reloadAuthorities(next)
	if err != nil {
		return err
	}
	roles, err := vendorRoles(next)
	if err != nil {
		return err
	}
	running := d.config()
	d.notify.Reloading()
	changes := config.Compare(running, next)
	merged := *running
	merged.Device.Name, merged.Pairing.Role, merged.Services = next.Device.Name, next.Pairing.Role, next.Services
	merged.Support.Enabled, merged.Support.Role = next.Support.Enabled, next.Support.Role
	merged.Authorities = next.Authorities
	merged.Roles, merged.Warnings = next.Roles, next.Warnings
	d.cfg.Store(&merged)
	if err := d.store.SetRoles(roles); err != nil {
		return err
	}
	d.recheckAll()
	d.bridge.SetServices(services)
	d.cutNobodies()
	takeAuthorities()
	if !merged.Support.Enabled || merged.Support.Role != running.Support.Role {
		d.support.hang(pairing.SupportClosed)
	}
	if d.mdns != nil {
		d.mdns.Set(d.mdnsRecord(d.window.State().Modes))
	}
	d.panel.refresh()
	d.log.Info("reloaded", "changed", changes.Live)
	d.recordReload(changes)
	d.notify.Ready(d.summary())
	if len(changes.Restart) > 0 {
		d.log.Warn("these changes need a restart", "keys", changes.Restart)
	}
	return nil
}

// tryCounter keeps the pairing tries of a lifetime in a file beside the
// device's key, where a factory reset leaves it.
type tryCounter string

// Load is part of pairing.Counter.
func (c tryCounter) Load() (int, error) {
	data, err := os.ReadFile(string(c))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

// Store is part of pairing.Counter.
func (c tryCounter) Store(n int) error {
	return durable.WriteFile(string(c), []byte(strconv.Itoa(n)+"\n"), 0o600)
}
