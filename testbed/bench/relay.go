package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/keyholed/keyhole/basestation/relay"
	"github.com/keyholed/keyhole/protocol/attach"
)

// The same tunnel is led through our relay and, in its place, through HAProxy:
//
//	viewer -> client ─TLS─> HAProxy -> device -> service
//	viewer -> client ─TLS─> relay <─ device -> service
//
// In place of a basestation the relay's process has a desk that hands out
// tickets: a client asks with a byte, the device is told by its standing
// connection when a client's leg is there.

// The first byte to the desk.
const (
	deskClient = 'c'
	deskDevice = 'd'
)

// relayRole is the relay and its desk.
func relayRole(string, string) (string, string, error) {
	r := relay.New(relay.Config{Limits: relay.Limits{Tunnels: roomy, Pairs: roomy, PairsPerDevice: roomy, Unjoined: roomy, UnjoinedPerSource: roomy}})
	address, err := listen(func(conn *net.TCPConn) {
		if kind, err := attach.ReadStreamKind(conn); err != nil || kind != attach.StreamRelay {
			conn.Close()
			return
		}
		r.Serve(conn)
	})
	if err != nil {
		return "", "", err
	}
	d := &desk{relay: r}
	at, err := listen(d.serve)
	return address, at, err
}

type desk struct {
	relay  *relay.Relay
	mu     sync.Mutex
	device net.Conn
}

func (d *desk) serve(conn *net.TCPConn) {
	who := make([]byte, 1)
	if _, err := io.ReadFull(conn, who); err != nil {
		return
	}
	if who[0] == deskDevice {
		d.mu.Lock()
		d.device = conn
		d.mu.Unlock()
		conn.Write(who) // it may be introduced from now on
		return
	}
	for {
		if _, err := io.ReadFull(conn, who); err != nil {
			conn.Close()
			return
		}
		var forDevice attach.Ticket
		forClient, forDevice, err := d.relay.Pair(relay.Who{Device: "bench"}, time.Minute, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.device.Write(forDevice[:])
		})
		if err != nil {
			conn.Close()
			return
		}
		conn.Write(forClient[:])
	}
}

// acceptLegs serves each leg that the relay asks the device for.
func acceptLegs(at string, serve func(net.Conn)) error {
	address, desk, _ := strings.Cut(at, " ")
	conn, err := net.Dial("tcp", desk)
	if err != nil {
		return err
	}
	if _, err := conn.Write([]byte{deskDevice}); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		return err
	}
	go func() {
		defer conn.Close()
		for {
			var t attach.Ticket
			if _, err := io.ReadFull(conn, t[:]); err != nil {
				return
			}
			go func() {
				if leg, err := dialLeg(background, address, t); err == nil {
					serve(leg)
				}
			}()
		}
	}()
	return nil
}

func dialLeg(ctx context.Context, address string, t attach.Ticket) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(attach.AppendRelayPreface(nil, t)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// openLegs returns what opens a client's legs: a ticket from the desk for each.
func openLegs(at string) (func(context.Context) (net.Conn, error), error) {
	address, desk, _ := strings.Cut(at, " ")
	conn, err := net.Dial("tcp", desk)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write([]byte{deskClient}); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	return func(ctx context.Context) (net.Conn, error) {
		mu.Lock()
		var t attach.Ticket
		_, err := conn.Write([]byte{'?'})
		if err == nil {
			_, err = io.ReadFull(conn, t[:])
		}
		mu.Unlock()
		if err != nil {
			return nil, err
		}
		return dialLeg(ctx, address, t)
	}, nil
}

// The rows of -relay. Raw TLS is a connection for each tunnel, so that it shows
// what a relayed connection costs; Keyhole's is what devices and clients run.
const (
	tlsRelay, tlsHAProxy, tlsSplicing = "tls via our relay", "tls via haproxy", "tls via splicing haproxy"
	ownRelay, ownHAProxy              = "keyhole via our relay", "keyhole via haproxy"
)

func (b *bench) relayContenders() []starter {
	return []starter{
		{tlsHAProxy, b.proxied("tls", "")},
		{tlsRelay, b.relayed("tls")},
		{tlsSplicing, b.proxied("tls", " option splice-auto\n")},
		{ownHAProxy, b.proxied("keyhole", "")},
		{ownRelay, b.relayed("keyhole")},
	}
}

// relayed leads both sides of a contender through our relay.
func (b *bench) relayed(kind string) func(context.Context, *contender) error {
	return func(_ context.Context, c *contender) error {
		r, at, err := b.startRole("relay", "", "")
		if err != nil {
			return err
		}
		c.relay = r
		return b.sides(c, kind, strings.Join(at, " "), "", "relay ")
	}
}

// proxied starts HAProxy between the two sides.
func (b *bench) proxied(kind, options string) func(context.Context, *contender) error {
	return func(ctx context.Context, c *contender) error {
		address, err := freePort()
		if err != nil {
			return err
		}
		return b.sides(c, kind, "", address, "tcp ", func(device string) (err error) {
			name := strings.NewReplacer(" ", "-").Replace(c.name) + ".conf"
			file, err := b.file(name, fmt.Sprintf("global\n maxconn 4000\ndefaults\n mode tcp\n%s timeout connect 5s\n timeout client 1h\n timeout server 1h\nlisten l\n bind %s\n server s %s\n", options, address, device))
			if err == nil {
				c.relay, err = b.startProgram(ctx, address, "/usr/sbin/haproxy", "-db", "-f", file)
			}
			return err
		})
	}
}

// sides starts device and client. At says where both meet; else the device
// listens, between is called with its address, and the client connects to
// target.
func (b *bench) sides(c *contender, kind, at, target, path string, between ...func(device string) error) error {
	d, said, err := b.startRole(kind+"-device", b.service, at)
	if err != nil {
		return err
	}
	for _, start := range between {
		if err := start(said[0]); err != nil {
			return err
		}
	}
	extra := said[len(said)-1]
	if at != "" {
		target = at
	}
	k, local, err := b.startRole(kind+"-client", target, path+extra)
	if err != nil {
		return err
	}
	c.device, c.client, c.local = d, k, local[0]
	return nil
}

// relayGoals compare the relay's process with HAProxy's in its place.
func (b *bench) relayGoals() []goal {
	var goals goalList
	for _, p := range [][2]string{{tlsRelay, tlsHAProxy}, {ownRelay, ownHAProxy}} {
		own, other := b.find(p[0]), b.find(p[1])
		if own == nil || other == nil {
			continue
		}
		kind, _, _ := strings.Cut(p[0], " via ")
		goals.least(kind+": bulk, one tunnel, x HAProxy", 0.95, own.ratio(other, func(r result) float64 { return r.One.MBs }))
		goals.least(kind+": bulk, eight tunnels, x HAProxy", 0.95, own.ratio(other, func(r result) float64 { return r.Eight.MBs }))
		goals.most(kind+": relay CPU per GB, one tunnel, x HAProxy", 1, own.ratio(other, func(r result) float64 { return r.One.Relay }))
		goals.most(kind+": relay CPU per GB, eight tunnels, x HAProxy", 1, own.ratio(other, func(r result) float64 { return r.Eight.Relay }))
		for _, h := range own.held {
			if kind == "tls" {
				goals.most(fmt.Sprintf("KiB in the relay per idle tunnel, of %d", h.Tunnels), 17, h.PerTunnel)
			}
		}
	}
	return goals
}

// relayTLS opens what a client's tunnels run on: a TLS connection each.
func relayTLS(at string, config *tls.Config) (func() (*tls.Conn, error), error) {
	open, err := openLegs(at)
	if err != nil {
		return nil, err
	}
	return func() (*tls.Conn, error) {
		leg, err := open(background)
		if err != nil {
			return nil, err
		}
		return tls.Client(leg, config), nil
	}, nil
}
