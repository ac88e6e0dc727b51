package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/keyholed/keyhole/basestation"
	"github.com/keyholed/keyhole/basestation/admin"
	"github.com/keyholed/keyhole/basestation/config"
	"github.com/keyholed/keyhole/basestation/gate"
	"github.com/keyholed/keyhole/basestation/natsstore"
	"github.com/keyholed/keyhole/basestation/push"
	"github.com/keyholed/keyhole/basestation/relay"
	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/internal/version"
)

// storeDir is where embedded NATS keeps its files, below the data directory.
const storeDir = "store"

// node is one process: what it holds, in the order in which it is opened.
type node struct {
	cfg   *config.Config
	log   *slog.Logger
	began time.Time

	socket net.Listener
	store  *natsstore.Store
	pusher *push.Pusher
	asker  *push.Asker // nil: nobody is asked
	gate   *gate.Gate  // nil: nobody is kept out
	server *basestation.Server
	api    *admin.Server

	draining context.Context // ends readiness; set by run
}

// openNode opens everything and serves nothing yet. ctx ends the wait for an
// external store.
func openNode(ctx context.Context, cfg *config.Config, log *slog.Logger) (_ *node, err error) {
	n := &node{cfg: cfg, log: log, began: time.Now(), draining: ctx}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	data := cfg.Basestation.Data
	if err := durable.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if n.socket, err = admin.ListenLocal(data); err != nil {
		return nil, err
	}
	if n.store, err = openStore(ctx, cfg, log); err != nil {
		return nil, err
	}
	if err := n.openPush(); err != nil {
		return nil, err
	}
	if err := n.openServer(); err != nil {
		return nil, err
	}
	return n, n.openAPI()
}

func openStore(ctx context.Context, cfg *config.Config, log *slog.Logger) (*natsstore.Store, error) {
	c := natsstore.Config{Log: log}
	if cfg.Store.NATS == "" {
		c.Dir = filepath.Join(cfg.Basestation.Data, storeDir)
	} else {
		c.URL, c.Credentials, c.CA, c.Replicas = cfg.Store.NATS, cfg.Store.Credentials, cfg.Store.Roots, cfg.Store.Replicas
		c.Certificate, c.Key, c.Plain = cfg.Store.Certificate, cfg.Store.Key, cfg.Store.Plain
	}
	s, err := natsstore.Open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	return s, nil
}

func (n *node) openPush() error {
	ring, err := basestation.OpenKeyring(n.cfg.Basestation.Data)
	if err != nil {
		return err
	}
	var hooks []push.Webhook
	for _, w := range n.cfg.Webhooks {
		secrets, err := push.LoadSecrets(w.SecretFile)
		if err != nil {
			return fmt.Errorf("webhook %q: %w", w.Name, err)
		}
		roots, err := push.LoadRoots(w.Roots)
		if err != nil {
			return fmt.Errorf("webhook %q: %w", w.Name, err)
		}
		hooks = append(hooks, push.Webhook{
			Name: w.Name, URL: w.URL, Secrets: secrets, Kinds: w.Events, Roots: roots, Timeout: w.Timeout, Workers: w.Workers, GiveUp: w.GiveUp,
		})
	}
	name := cmp.Or(n.cfg.Basestation.Name, ring.NodeID())
	if n.pusher, err = push.New(push.Config{Store: n.store, Node: name, Webhooks: hooks, Log: n.log}); err != nil {
		return err
	}
	a := n.cfg.Authorize
	if a.Deny != "" || a.Countries != "" {
		if n.gate, err = gate.Open(gate.Config{Deny: a.Deny, Countries: a.Countries, Log: n.log}); err != nil {
			return err
		}
	}
	if a.URL == "" {
		return nil
	}
	secrets, err := push.LoadSecrets(a.SecretFile)
	if err != nil {
		return fmt.Errorf("authorization webhook: %w", err)
	}
	roots, err := push.LoadRoots(a.Roots)
	if err != nil {
		return fmt.Errorf("authorization webhook: %w", err)
	}
	n.asker, err = push.NewAsker(push.AskConfig{URL: a.URL, Secrets: secrets, Roots: roots, Timeout: a.Timeout, Log: n.log})
	return err
}

func (n *node) openServer() error {
	c := basestation.Config{
		Listen: n.cfg.Basestation.Listen, Data: n.cfg.Basestation.Data, Drain: n.cfg.Basestation.Drain,
		Store: n.store, Fleet: n.cfg.Store.NATS != "", Events: n.pusher, Log: n.log,
		Limits: basestation.Limits{Devices: n.cfg.Limits.Devices, Connections: n.cfg.Limits.Connections, Introductions: n.cfg.Limits.Introductions},
	}
	for _, text := range n.cfg.Basestation.Advertise {
		address, err := netip.ParseAddrPort(text)
		if err != nil {
			return err // cannot be: the configuration was checked
		}
		c.Advertise = append(c.Advertise, address)
	}
	var err error
	if c.Enrol, err = basestation.ParseEnrol(n.cfg.Enrol.Mode); err != nil {
		return err
	}
	if c.Enrol == basestation.EnrolSecret {
		var made bool
		if c.Master, made, err = loadMaster(n.cfg.Enrol.Master); err != nil {
			return err
		}
		if made {
			n.log.Info("made a master secret: keep a copy", "file", n.cfg.Enrol.Master)
		}
	}
	if n.asker != nil {
		c.Authorize = n.asker.Ask
	}
	if n.gate != nil {
		c.Gate = n.gate
	}
	if r := n.cfg.Relay; r.Enabled {
		c.Relay = &relay.Config{Log: n.log, Limits: relay.Limits{
			Tunnels:   r.Tunnels,
			PerDevice: relay.Quota{Tunnels: r.PerDevice, Time: r.Life, Bytes: int64(r.DailyMB) * 1_000_000, Every: 24 * time.Hour},
			PerVendor: vendorQuota(r),
		}}
	}
	n.server, err = basestation.New(c)
	return err
}

// vendorQuota is the zero Quota where there is no bound: then nobody looks whose a
// device is.
func vendorQuota(r config.Relay) relay.Quota {
	if r.VendorTunnels == 0 && r.VendorDailyMB == 0 {
		return relay.Quota{}
	}
	return relay.Quota{Tunnels: r.VendorTunnels, Bytes: int64(r.VendorDailyMB) * 1_000_000, Every: 24 * time.Hour}
}

func (n *node) openAPI() error {
	c := admin.Config{
		Records: n.server.Registry(), Events: n.store, Pattern: push.LivePattern,
		About: n.about, Nodes: n.nodes, Ready: n.ready, Metrics: []func(io.Writer){n.server.WriteMetrics, n.metrics().Write},
		Socket: n.socket, Version: version.String(), Log: n.log,
	}
	if n.cfg.API.Listen != "" {
		certificate, err := n.certificate()
		if err != nil {
			return fmt.Errorf("certificate of the API: %w", err)
		}
		if c.Listener, err = net.Listen("tcp", n.cfg.API.Listen); err != nil {
			return fmt.Errorf("listen for the API: %w", err)
		}
		c.TLS = certificate
	}
	var err error
	n.api, err = admin.New(c)
	return err
}
