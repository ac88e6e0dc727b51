package daemon

import (
	"net/http"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/version"
	"github.com/keyholed/keyhole/protocol/api"
)

// hello is what strangers are told: protocol version, the id that the session
// has proven anyway, and how they themselves could pair now.
func (d *Daemon) hello(w http.ResponseWriter, r *http.Request, c caller) error {
	offer := api.Offer{Modes: []string{}}
	if !c.known() {
		if asker, err := d.asker(c); err == nil {
			offer = d.offer(asker, d.offersInvite(c, asker.Local))
		}
	}
	api.WriteJSON(w, api.Hello{Protocol: api.Version, ID: d.key.ID(), Pairing: offer, Support: d.supportOffer()})
	return nil
}

func (d *Daemon) device(w http.ResponseWriter, _ *http.Request, _ caller) error {
	api.WriteJSON(w, d.describe())
	return nil
}

func (d *Daemon) describe() api.Device {
	cfg := d.config()
	return api.Device{
		ID: d.key.ID(), Fingerprint: d.key.Fingerprint(), Name: cfg.Device.Name, Product: cfg.Device.Product,
		Version: version.String(), Uptime: int64(time.Since(d.started).Seconds()),
	}
}

func (d *Daemon) services(w http.ResponseWriter, _ *http.Request, c caller) error {
	list := api.Services{Services: []api.Service{}}
	for _, s := range d.bridge.Services().All() {
		if !c.known() && !authenticatesItself(s) {
			continue
		}
		list.Services = append(list.Services, api.Service{
			Name: s.Name, Type: s.Type.Name, Port: int(s.Type.Port),
			Allowed: d.decide(c, acl.ActionTunnel, aclService(s)).Allow,
		})
	}
	api.WriteJSON(w, list)
	return nil
}

func (d *Daemon) me(w http.ResponseWriter, _ *http.Request, c caller) error {
	info := c.session.Info()
	me := api.Me{User: c.name(), Role: d.decide(c, acl.ActionMe, acl.Service{}).Role, Fingerprint: info.Peer, Path: string(info.Path), Via: string(info.Via), Remote: info.Remote.String(),
		Basestation: d.station.forCaller(info.Peer, c.paired)}
	if !c.paired && c.known() {
		me.Kind = c.principals[0].Kind.String()
	}
	for _, k := range c.user.Keys {
		if k.Fingerprint == info.Peer {
			me.KeyName = k.Name
		}
	}
	api.WriteJSON(w, me)
	return nil
}
