package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholed/keyhole/client"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

const (
	// doctorWait bounds one check of the network that the device may be in.
	doctorWait = 5 * time.Second
	// doctorFind is how long it listens for devices: two questions and their answers.
	doctorFind = 1500 * time.Millisecond
)

func (a *app) doctorCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "doctor [DEVICE]", Short: "What works, what does not, which path and why", Args: words(0, 1),
		Example: "  keyhole doctor",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.doctor(cmd.Context(), args) },
	})
}

// State of a check.
const (
	ok      = "ok"
	warn    = "warning" // it works, but look at it
	failed  = "failed"
	skipped = "not asked" // what it needs has failed
)

// A check is a node of the tree. Its children are asked only when it has not failed.
type check struct {
	Name   string   `json:"name"`
	State  string   `json:"state"`
	Detail string   `json:"detail,omitempty"`
	Checks []*check `json:"checks,omitempty"`
}

func (c *check) add(name, state, format string, args ...any) *check {
	child := &check{Name: name, State: state, Detail: fmt.Sprintf(format, args...)}
	c.Checks = append(c.Checks, child)
	return child
}

// or adds the result of something that can only work or fail.
func (c *check) or(name string, err error, format string, args ...any) *check {
	if err == nil {
		return c.add(name, ok, format, args...)
	}
	_, what, _ := explain(err)
	return c.add(name, failed, "%s", what)
}

func (c *check) anyFailed() bool {
	if c.State == failed {
		return true
	}
	for _, child := range c.Checks {
		if child.anyFailed() {
			return true
		}
	}
	return false
}

func (a *app) doctor(ctx context.Context, args []string) error {
	top := &check{Name: "keyhole", State: ok}
	h, err := a.home()
	if err == nil {
		var devices []client.Device
		me := top.add("identity", ok, "%s in %s", h.Key().Fingerprint().Short(), h.Dir())
		devices, err = h.Devices()
		me.or("address book", err, "%s", count(len(devices), "device"))
		if err == nil {
			err = a.examineAll(ctx, h, top, devices, args)
		}
		if err != nil && len(args) > 0 {
			return err // it is about the word that was typed
		}
	} else {
		top.or("identity", err, "")
	}
	if a.json {
		err = a.document(top)
	} else {
		err = a.showTree(top)
	}
	if err == nil && top.anyFailed() {
		return errSilent(control.ExitFailed)
	}
	return err
}

// examineAll asks about one device or all, each in its own branch.
func (a *app) examineAll(ctx context.Context, h *client.Home, top *check, devices []client.Device, args []string) error {
	target := client.Target{}
	if len(args) == 1 {
		d, err := h.Lookup(args[0])
		var missing *client.NotFoundError
		switch {
		case err == nil:
			devices = []client.Device{d}
		case errors.As(err, &missing):
			if target, err = client.ParseTarget(args[0]); err != nil {
				return err
			}
			if target.Name != "" {
				return missing
			}
			d := client.Device{ID: target.ID}
			if target.Address != "" {
				d.Addresses = []string{target.Address}
			}
			devices = []client.Device{d}
		default:
			return err
		}
	}
	network := top.network()
	if network.State == failed {
		for _, d := range devices {
			top.add(d.String(), skipped, "no network")
		}
		return nil
	}
	defer a.waiting("asking the network")()
	heard, err := a.find(ctx, doctorFind)
	if err != nil {
		network.add("mDNS", warn, "%v: devices are found at remembered addresses only", err)
	} else {
		network.add("mDNS", ok, "%s answered", count(len(heard), "device"))
	}
	for _, d := range devices {
		e := examination{app: a, home: h, device: d, at: top.add(d.String(), ok, "%s", d.ID)}
		e.run(ctx, heard)
	}
	if len(devices) == 0 {
		top.add("devices", warn, "none is paired: press a device's pair button, then: keyhole pair")
	}
	return nil
}

// network tells by which interfaces devices could be reached.
func (c *check) network() *check {
	list, err := net.Interfaces()
	if err != nil {
		return c.or("network", err, "")
	}
	var up []string
	for _, i := range list {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		if addresses, err := i.Addrs(); err == nil && len(addresses) > 0 {
			up = append(up, i.Name)
		}
	}
	if len(up) == 0 {
		return c.add("network", warn, "no interface but loopback has an address: only devices on this machine can be reached")
	}
	return c.add("network", ok, "%s", strings.Join(up, ", "))
}

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

var marks = map[string]string{ok: "ok  ", warn: "warn", failed: "FAIL", skipped: " -  "}

func (a *app) showTree(c *check) error {
	var b strings.Builder
	for _, child := range c.Checks {
		child.draw(&b, 0)
	}
	_, err := io.WriteString(a.out, b.String())
	return err
}

func (c *check) draw(b *strings.Builder, depth int) {
	text := c.Name
	if c.State == skipped {
		text += " (not asked)"
	}
	if c.Detail != "" {
		text += ": " + c.Detail
	}
	fmt.Fprintf(b, "%s %s%s\n", marks[c.State], strings.Repeat("  ", depth), plain(text))
	for _, child := range c.Checks {
		child.draw(b, depth+1)
	}
}
