package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/keyholed/keyhole/basestation/admin"
	"github.com/keyholed/keyhole/internal/metrics"
	"github.com/keyholed/keyhole/systemd"
)

// run serves until ctx ends, then drains, or not any longer once hurried ends.
// What comes in ends first: the server, then what it tells (push), then what
// tells of it (the API); the store is closed by close.
func (n *node) run(ctx, hurried context.Context, notify *systemd.Notifier) error {
	n.draining = ctx
	watchdog, err := systemd.NewWatchdog(n.alive, n.log)
	if err != nil {
		return err
	}
	ctx, fail := context.WithCancel(ctx) // the end of one part is the end of all
	defer fail()
	after, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	server := start(ctx, n.server.Run, fail)
	rest := []<-chan error{start(after, n.pusher.Run, fail), start(after, n.api.Run, fail), start(after, watchdog.Run, fail)}
	if n.gate != nil {
		rest = append(rest, start(after, n.gate.Run, fail))
	}
	select {
	case <-n.server.Ready():
		n.announce(notify)
	case <-ctx.Done():
	}
	<-ctx.Done()
	notify.Stopping("devices move to other nodes, relayed tunnels end")
	var errs []error
	select {
	case err := <-server:
		errs = append(errs, err)
	case <-hurried.Done():
		n.server.Hurry()
		errs = append(errs, <-server)
	}
	end()
	for _, part := range rest {
		errs = append(errs, <-part)
	}
	return errors.Join(errs...)
}

// start runs one part; whoever reads its channel waits for it.
func start(ctx context.Context, run func(context.Context) error, ended func()) <-chan error {
	done := make(chan error, 1)
	go func() {
		defer ended()
		done <- run(ctx)
	}()
	return done
}

func (n *node) announce(notify *systemd.Notifier) {
	status := fmt.Sprintf("serving at %s", n.server.Address())
	args := []any{"node", n.server.NodeID(), "enrol", n.cfg.Enrol.Mode}
	for _, a := range n.server.Addresses() {
		args = append(args, slog.String("address", a.String()))
	}
	if n.api.Listener != nil {
		args = append(args, "api", n.api.Listener.Addr().String())
	}
	n.log.Info("serving", args...)
	notify.Ready(status)
}

// alive is the watchdog's question: does the loop that serves devices turn? A
// store that does not answer is no reason to be killed.
func (n *node) alive(ctx context.Context) error {
	select {
	case <-n.server.Ready():
	default:
		return nil // systemd has a limit for the start itself
	}
	if n.draining.Err() != nil {
		return nil // and one for the stop
	}
	_, err := n.server.Devices(ctx)
	return err
}

// ready is what a load balancer asks.
func (n *node) ready(ctx context.Context) error {
	if n.draining.Err() != nil {
		return errors.New("draining")
	}
	select {
	case <-n.server.Ready():
	default:
		return errors.New("starting")
	}
	return n.store.Check(ctx)
}

// askTimeout bounds a question to the loop, which answers in microseconds.
const askTimeout = time.Second

func (n *node) devices() int {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	count, err := n.server.Devices(ctx)
	if err != nil {
		return 0 // starting or stopping
	}
	return count
}

func (n *node) about() admin.About {
	a := admin.About{
		Node: n.server.NodeID(), Name: n.cfg.Basestation.Name, Keys: n.server.Keys(), Enrol: n.cfg.Enrol.Mode,
		Devices: n.devices(), Tunnels: n.server.RelayCounters().Tunnels, Uptime: int64(time.Since(n.began).Seconds()),
	}
	for _, address := range n.server.Addresses() {
		a.Addresses = append(a.Addresses, address.String())
	}
	return a
}

func (n *node) nodes() []admin.Node {
	var all []admin.Node
	for _, live := range n.server.Nodes() {
		node := admin.Node{ID: live.ID, Self: live.ID == n.server.NodeID()}
		for _, address := range live.Address {
			node.Addresses = append(node.Addresses, address.String())
		}
		all = append(all, node)
	}
	return all
}

// certificate is the API's: the operator's own, or one that is made.
func (n *node) certificate() (*tls.Certificate, error) {
	if n.cfg.API.Certificate != "" {
		return admin.LoadCertificate(n.cfg.API.Certificate, n.cfg.API.Key)
	}
	return admin.OwnCertificate(n.cfg.Basestation.Data, n.cfg.API.Names)
}

// metrics are what the rooms count that know nothing of Prometheus.
func (n *node) metrics() *metrics.Set {
	s := metrics.NewSet()
	s.GaugeFunc("keyhole_uptime_seconds", func() float64 { return time.Since(n.began).Seconds() })
	s.GaugeFunc("keyhole_relay_tunnels", func() float64 { return float64(n.server.RelayCounters().Tunnels) })
	s.CounterFunc("keyhole_relay_bytes_total", func() float64 { return float64(n.server.RelayCounters().Bytes) })
	s.CounterFunc("keyhole_relay_tunnels_total", func() float64 { return float64(n.server.RelayCounters().Joined) })
	s.CounterFunc("keyhole_relay_refused_total", func() float64 { return float64(n.server.RelayCounters().Refused) })
	s.CounterFunc("keyhole_events_logged_total", func() float64 { return float64(n.pusher.Stats().Logged) })
	s.CounterFunc("keyhole_events_lost_total", func() float64 { return float64(n.pusher.Stats().Lost) })
	for _, w := range n.cfg.Webhooks {
		label := `{webhook="` + w.Name + `"}`
		s.CounterFunc("keyhole_webhook_delivered_total"+label, func() float64 { return float64(n.pusher.Stats().Hooks[w.Name].Delivered) })
		s.CounterFunc("keyhole_webhook_failures_total"+label, func() float64 { return float64(n.pusher.Stats().Hooks[w.Name].Failed) })
		s.CounterFunc("keyhole_webhook_dropped_total"+label, func() float64 { return float64(n.pusher.Stats().Hooks[w.Name].Dropped) })
		s.GaugeFunc("keyhole_webhook_waiting"+label, func() float64 {
			if n.pusher.Stats().Hooks[w.Name].Waiting {
				return 1
			}
			return 0
		})
	}
	if n.asker != nil {
		for result, of := range map[string]func() uint64{
			"asked": func() uint64 { return n.asker.Stats().Asked }, "reused": func() uint64 { return n.asker.Stats().Reused },
			"refused": func() uint64 { return n.asker.Stats().Refused }, "failed": func() uint64 { return n.asker.Stats().Failed },
		} {
			s.CounterFunc(`keyhole_authorize_total{result="`+result+`"}`, func() float64 { return float64(of()) })
		}
	}
	return s
}

// close releases what openNode took, the store last.
func (n *node) close() error {
	var errs []error
	if n.server != nil {
		n.server.Close()
	}
	if n.asker != nil {
		n.asker.Close()
	}
	if n.api != nil && n.api.Listener != nil {
		_ = n.api.Listener.Close() // closed already, unless run was not called
	}
	if n.store != nil {
		if err := n.store.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close the store: %w", err))
		}
	}
	if n.socket != nil {
		_ = n.socket.Close() // the same
	}
	return errors.Join(errs...)
}
