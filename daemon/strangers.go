package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
	"github.com/keyholed/keyhole/tunnel"
	"github.com/keyholed/keyhole/tunnel/tries"
)

// Services with access = "application" authenticate by themselves. Their tunnels
// are open to everybody who gets a session, and the passwords that go through them
// are counted: see tunnel/tries for how.

// doorsAjar is how long before a password could go on a tunnel is opened. Whoever
// comes earlier is told when to come back, and takes nobody's place meanwhile; those
// who come within it stand in line, and the one with the fewest failures goes first.
const doorsAjar = 30 * time.Second

// triesName is the ledger of failed passwords, in the state directory: a reset
// erases who succeeded at services as it erases who was paired.
const triesName = "tries.json"

// ledgerFile is the tries.Keeper of the daemon.
type ledgerFile string

// Load is part of tries.Keeper.
func (f ledgerFile) Load() ([]byte, error) {
	info, err := os.Stat(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && info.Size() > tries.MaxKeptBytes {
		err = fmt.Errorf("%s has %d bytes", triesName, info.Size())
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(string(f))
}

// Store is part of tries.Keeper.
func (f ledgerFile) Store(data []byte) error { return durable.WriteFile(string(f), data, 0o600) }

func (d *Daemon) openTries() {
	d.tries = tries.New(tries.Config{
		Keep: ledgerFile(filepath.Join(d.config().Device.State, triesName)), Log: d.log.With("room", "tries"), Failed: d.tryFailed,
	})
}

// tryFailed leaves a line of a password that was refused.
func (d *Daemon) tryFailed(w tries.Who, delay time.Duration) {
	e := acl.Event{What: acl.WhatTryFailed, Fingerprint: w.Key, Service: w.Service, Source: w.Source.String()}
	if w.User == "" {
		e.Kind = acl.KindAnonymous.String()
	} else {
		e.User = d.nameOf(w.Key)
	}
	if delay > 0 {
		e.Detail = "the next one waits " + delay.Round(time.Second).String()
	}
	d.record(e)
}

// openToAll says whether there is a service that authenticates by itself.
func (d *Daemon) openToAll() bool {
	return d.bridge.Services().Any(authenticatesItself)
}

func authenticatesItself(s tunnel.Service) bool { return s.Access == tunnel.AccessApplication }

// nobody is the principal that everybody may act as where a service is open to all.
func (d *Daemon) nobody(f identity.Fingerprint) []acl.Principal {
	if !d.openToAll() {
		return nil
	}
	return []acl.Principal{{Kind: acl.KindAnonymous, Fingerprint: f}}
}

// mayList says that a stranger may ask for the services: he is told of those that
// are open to him.
func (d *Daemon) mayList(c caller, r route) bool {
	return r.Action == string(acl.ActionServices) && !c.known() && len(c.principals) > 0
}

// watched says on whose account the passwords of a tunnel are counted, and which
// places it may take; nil where nobody counts. A problem says that it is too early.
func (d *Daemon) watched(c caller, service tunnel.Service, meta *tunnel.Meta) (*tries.Asker, *api.Problem) {
	if !authenticatesItself(service) {
		return nil, nil
	}
	info := c.session.Info()
	who := tries.Who{Service: service.Name, Key: info.Peer, Source: sourceOf(info)}
	c.principals = slices.DeleteFunc(slices.Clone(c.principals), func(p acl.Principal) bool { return p.Kind == acl.KindAnonymous })
	listed := len(c.principals) > 0 && d.decide(c, acl.ActionTunnel, aclService(service)).Allow
	if listed {
		who.User = c.account()
	}
	asker := d.tries.Asker(who)
	switch {
	case listed:
	case asker.Known():
		meta.Place, meta.Source = tunnel.PlaceKnown, meta.Peer
	default:
		meta.Place, meta.Source = tunnel.PlaceStranger, who.Source.String()
	}
	if wait := asker.Delay(); wait > doorsAjar {
		return nil, tooEarly(service.Name, wait)
	}
	return asker, nil
}

// account is on whose the passwords of a caller are counted who is let in by the list.
// It stays when he takes another name: else each would be good for a few tries more.
func (c caller) account() string {
	if c.paired {
		return fmt.Sprintf("#%d", c.user.ID)
	}
	return c.name()
}

// tooEarly sends somebody away until there is a line to stand in.
func tooEarly(service string, wait time.Duration) *api.Problem {
	p := api.Problemf(api.CodeLimit, "too many passwords were wrong at %q: the next one is taken in %s; come back shortly before", service, wait.Round(time.Second))
	p.RetryAfter = int(math.Ceil((wait - doorsAjar/2).Seconds()))
	return p
}

// sourceOf is the address that a session's peer has for itself. All who come by a
// relay share the relay's: what it says of them is not believed for this.
func sourceOf(info session.Info) netip.Addr {
	if info.Remote.IsValid() && info.Via != session.ViaRelay {
		return info.Remote.Addr()
	}
	return netip.Addr{}
}

// cutNobodies ends the tunnels of those who were let in without being anybody, to
// services that are not open to all any more.
func (d *Daemon) cutNobodies() {
	services := d.bridge.Services()
	n := d.bridge.Cut(func(t tunnel.Live) bool {
		s, there := services.Lookup(t.Service)
		return t.Meta.Place != tunnel.PlaceListed && !(there && authenticatesItself(s))
	}, errNotOpenToAll)
	if !d.openToAll() {
		d.station.dismissStrangers()
	}
	if n > 0 {
		d.log.Info("tunnels of strangers cut", "tunnels", n)
	}
}

var errNotOpenToAll = errors.New("the service is not open to everybody any more")
