package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// An examination is the branch of one device, from its address to its services.
type examination struct {
	app    *app
	home   *client.Home
	device client.Device
	at     *check
}

func (e *examination) run(ctx context.Context, heard []client.Found) {
	away := e.diagnoseLater(ctx)
	near := e.near(ctx, heard)
	if away != nil {
		e.away(ctx, <-away, near)
	}
}

// failure is how bad it is not to be reached directly.
func (e *examination) failure() string {
	if e.device.Basestation.IsZero() {
		return failed
	}
	return warn
}

// near looks for the device directly, and tells whether a session came of it.
func (e *examination) near(ctx context.Context, heard []client.Found) bool {
	addresses, how := e.addresses(heard)
	if len(addresses) == 0 {
		e.at.add("address", e.failure(), "none is known, and it does not answer to mDNS: is it on, and on this network?")
		e.skip(e.at, "TCP", "key", "services")
		return false
	}
	found := e.at.add("address", ok, "%s (%s)", strings.Join(addresses, ", "), how)
	open := e.tcp(ctx, found, addresses)
	quic := e.quicLater(ctx, addresses)
	stands := false
	if len(open) == 0 {
		e.skip(found, "key", "services")
	} else {
		stands = e.session(ctx, found, open)
	}
	found.Checks = append(found.Checks, <-quic)
	return stands
}

func (e *examination) skip(at *check, names ...string) {
	for _, n := range names {
		at.add(n, skipped, "")
	}
}

func (e *examination) addresses(heard []client.Found) (list []string, how string) {
	list = append(list, e.device.Addresses...)
	how = "remembered"
	for _, f := range heard {
		if f.ID != e.device.ID {
			continue
		}
		how = "heard by mDNS"
		for _, a := range f.Addresses {
			if s := a.String(); !contains(list, s) {
				list = append(list, s)
			}
		}
	}
	return list, how
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// tcp tells at which addresses something listens.
func (e *examination) tcp(ctx context.Context, at *check, addresses []string) (open []string) {
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	var why []string
	for _, a := range addresses {
		began := time.Now()
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", a)
		if err != nil {
			why = append(why, a+": "+reason(err))
			continue
		}
		_ = conn.Close()
		open = append(open, a)
		why = append(why, fmt.Sprintf("%s answers in %v", a, time.Since(began).Round(100*time.Microsecond)))
	}
	state := ok
	if len(open) == 0 {
		state = e.failure()
	}
	at.add("TCP", state, "%s", strings.Join(why, "; "))
	return open
}

// reason is what the system says, without what was said before it.
func reason(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err
	}
	return strings.TrimPrefix(err.Error(), "connect: ")
}

func (e *examination) pin() (identity.Pin, string) {
	switch {
	case !e.device.Fingerprint.IsZero():
		return identity.PinFingerprint(e.device.Fingerprint), "it is the pinned one"
	case e.device.ID != "":
		return identity.PinID(e.device.ID), "it has the given id"
	}
	return identity.TrustAsFound, "trusted as found: nothing was known"
}

// quicLater tries the other path meanwhile: a firewall that drops UDP takes its time.
func (e *examination) quicLater(ctx context.Context, addresses []string) <-chan *check {
	done := make(chan *check, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, doctorWait)
		defer cancel()
		pin, _ := e.pin()
		s, err := session.Dial(ctx, addresses, session.DialConfig{Key: e.home.Key(), Pin: pin, Paths: []session.Path{session.PathQUIC}})
		if err != nil {
			done <- &check{Name: "QUIC", State: warn, Detail: "no answer by UDP: TCP is used"}
			return
		}
		s.Close()
		done <- &check{Name: "QUIC", State: ok, Detail: s.RemoteAddr().String() + " answers: used where TCP does not get through"}
	}()
	return done
}

// session goes on from an open port to the services, and tells whether it got there.
func (e *examination) session(ctx context.Context, at *check, open []string) bool {
	pin, says := e.pin()
	dialling, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	began := time.Now()
	s, err := session.Dial(dialling, open, session.DialConfig{Key: e.home.Key(), Pin: pin, Paths: []session.Path{session.PathTCP}, WarmConns: -1})
	key := at.or("key", err, "%s", says)
	if err != nil {
		e.skip(key, "hello", "services")
		return false
	}
	s.Close()
	took := time.Since(began)
	target := e.device
	target.Fingerprint, target.ID = s.Peer(), s.Peer().ID()
	target.Addresses = []string{s.RemoteAddr().String()}
	conn, err := e.home.DialDevice(dialling, target, client.DialOptions{Find: -1, NoBasestation: true, Log: e.app.log()})
	if err != nil {
		key.or("session", err, "")
		return false
	}
	defer conn.Close()
	key.add("path", ok, "%s to %s, %s; handshake %v", conn.Path(), conn.RemoteAddr(), pathWhy(conn.RemoteAddr()), took.Round(100*time.Microsecond))
	e.ask(ctx, key, conn)
	return true
}

// pathWhy says why a path is the one.
func pathWhy(remote net.Addr) string {
	a, err := netip.ParseAddrPort(remote.String())
	switch {
	case err != nil:
		return "direct"
	case a.Addr().IsLoopback():
		return "direct, on this machine"
	case a.Addr().IsPrivate(), a.Addr().IsLinkLocalUnicast():
		return "direct: the device is on a local network"
	}
	return "direct: the address is reachable from here"
}

func (e *examination) ask(ctx context.Context, at *check, conn *client.Conn) {
	ctx, cancel := context.WithTimeout(ctx, 2*doctorWait)
	defer cancel()
	hello, err := conn.Hello(ctx)
	at.or("hello", err, "protocol %d%s", hello.Protocol, yes(hello.Pairing.Open, ", open for pairing by "+strings.Join(hello.Pairing.Modes, ", ")))
	if err != nil {
		e.skip(at, "paired", "services")
		return
	}
	me, err := conn.Me(ctx)
	if api.IsCode(err, api.CodeForbidden) {
		at.add("paired", failed, "no: press its pair button, then: keyhole pair")
		e.skip(at, "services")
		return
	}
	paired := at.or("paired", err, "as %s, %s; it sees you at %s", me.User, me.Role, me.Remote)
	if err != nil {
		return
	}
	list, err := conn.Services(ctx)
	services := paired.or("services", err, "%s", count(len(list), "service"))
	for _, s := range list {
		if !s.Allowed {
			services.add(s.Name, warn, "not for you")
			continue
		}
		began := time.Now()
		stream, err := conn.Connect(ctx, s.Name, s.Type)
		if err == nil {
			err = stream.Close()
		}
		services.or(s.Name, err, "%s, connects in %v", s.Type, time.Since(began).Round(100*time.Microsecond))
	}
}
