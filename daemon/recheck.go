package daemon

import (
	"errors"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/tunnel"
)

// errNoLonger is why a tunnel was cut whose holder may not have it any more.
var errNoLonger = errors.New("no longer permitted")

// recheck cuts the tunnels of a key that it could not open now.
func (d *Daemon) recheck(f identity.Fingerprint) {
	peer := f.String()
	d.bridge.Cut(func(l tunnel.Live) bool { return l.Meta.Peer == peer && !d.mayStill(f, l) }, errNoLonger)
}

// mayStill asks whether the holder of a key could open a tunnel that is open. One to
// a service that authenticates by itself needs nobody's permission.
func (d *Daemon) mayStill(f identity.Fingerprint, l tunnel.Live) bool {
	service := acl.Service{Name: l.Service, Type: l.Type}
	if s, configured := d.bridge.Services().Lookup(l.Service); configured {
		service = aclService(s)
	}
	for _, p := range append(d.principalsOf(f), acl.Principal{Kind: acl.KindAnonymous, Fingerprint: f}) {
		if d.store.Decide(p, acl.ActionTunnel, service).Allow {
			return true
		}
	}
	return false
}

// recheckAll cuts every tunnel that its holder could not open now.
func (d *Daemon) recheckAll() {
	d.bridge.Cut(func(l tunnel.Live) bool {
		f, err := identity.ParseFingerprint(l.Meta.Peer)
		return err == nil && !d.mayStill(f, l)
	}, errNoLonger)
}
