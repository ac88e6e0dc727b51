package client

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// DialOptions say how to look for a device. The zero value is the usual way.
type DialOptions struct {
	// Paths to try in this order; nil is TCP, then QUIC.
	Paths []session.Path
	// Tunnels says that bulk tunnels will be opened, so that a few connections
	// are kept warm for them.
	Tunnels bool
	// Find is how long to listen for the device by mDNS: 0 is FindTime, less is
	// not at all.
	Find time.Duration
	// NoBasestation keeps to what can be reached without one: remembered addresses
	// and the local network.
	NoBasestation bool
	// RelayOnly takes no path but the basestation's relay, to see what it is like.
	RelayOnly bool
	// Log; nil is silence.
	Log *slog.Logger

	directOnly bool // nothing relayed: what a Line that is relayed looks for
}

// Trust says why a device's key is believed to be the right one.
type Trust int

// From the weakest to the strongest.
const (
	TrustFound  Trust = iota // nothing was known: the key is trusted as found
	TrustHeard               // it has the id that was announced, which anybody can do
	TrustID                  // it has the id that the caller named
	TrustPinned              // it is the one in the address book
)

func (t Trust) String() string {
	return [...]string{"trusted as found", "the announced id", "the given id", "the pinned key"}[t]
}

// Dial opens a session with a device named as for ParseTarget. A device of the
// address book must have the key that is pinned there; a whole id is a pin too.
// A bare address that the book does not know is trusted as found: see Conn.Trust.
//
// The remembered addresses are tried, the local network is asked, and, when the
// device is not there at once, so is its basestation: it introduces the two, and
// relays what cannot go directly. The error is a *NotFoundError, an *AmbiguousError or an
// *UnreachableError.
func (h *Home) Dial(ctx context.Context, target string, o DialOptions) (*Conn, error) {
	call, err := h.plan(target)
	if err != nil {
		return nil, err
	}
	return h.dial(ctx, call, o)
}

// DialDevice opens a session with a device of the address book.
func (h *Home) DialDevice(ctx context.Context, d Device, o DialOptions) (*Conn, error) {
	return h.dial(ctx, callOf(d), o)
}

// call is whom to dial and what to insist on.
type call struct {
	device    Device // what is known; may be little
	addresses []string
	hearing   identity.ID // ask the network for this one; "": do not
	pin       identity.Pin
	trust     Trust
	pass      []byte                                   // shown to the device with an introduction
	prove     func(handshake [32]byte) ([]byte, error) // makes such a pass for each handshake; nil: there is none
}

func callOf(d Device) call {
	return call{device: d, addresses: d.Addresses, hearing: d.ID, pin: identity.PinFingerprint(d.Fingerprint), trust: TrustPinned}
}

// plan finds out who is meant by what a person typed.
func (h *Home) plan(target string) (call, error) {
	t, err := ParseTarget(target)
	if err != nil {
		return call{}, err
	}
	devices, err := h.Devices()
	if err != nil {
		return call{}, err
	}
	d, err := lookup(devices, target, t)
	var missing *NotFoundError
	switch {
	case err == nil:
		c := callOf(d)
		if t.Address != "" && !slices.Contains(c.addresses, t.Address) {
			c.addresses = append([]string{t.Address}, c.addresses...)
		}
		return c, nil
	case !errors.As(err, &missing) || t.Name != "":
		return call{}, err
	}
	return strange(t), nil
}

// strange is the call to a device that is not in the address book.
func strange(t Target) call {
	c := call{device: Device{ID: t.ID}, hearing: t.ID, pin: identity.TrustAsFound, trust: TrustFound}
	if t.ID != "" {
		c.pin, c.trust = identity.PinID(t.ID), TrustID
	}
	if t.Address != "" {
		c.addresses = []string{t.Address}
		c.device.Addresses = c.addresses
	}
	return c
}

// DialStranger opens a session with a device that is not in the address book, known by its
// id alone, which a basestation introduces; pass is what the device wants to see before
// it lets itself be introduced. The device must prove a key of that id.
func (h *Home) DialStranger(ctx context.Context, id identity.ID, b Basestation, pass []byte, o DialOptions) (*Conn, error) {
	if _, err := identity.ParseID(string(id)); err != nil {
		return nil, err
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	conn, err := h.dial(ctx, call{
		device: Device{ID: id, Basestation: b}, hearing: id, pin: identity.PinID(id), trust: TrustID, pass: pass,
	}, o)
	if err == nil && conn.device.Basestation.IsZero() {
		conn.device.Basestation = b // for who dials again
	}
	return conn, err
}

func (h *Home) dial(ctx context.Context, c call, o DialOptions) (*Conn, error) {
	w, err := h.race(ctx, c, o)
	if err != nil {
		return nil, &UnreachableError{Device: c.device.String(), Err: err}
	}
	return h.connOf(w, c.trust, o), nil
}

// connOf is what a session becomes whose device has proven a key that may be trusted so.
func (h *Home) connOf(w winner, trust Trust, o DialOptions) *Conn {
	conn := &Conn{Client: w.Client, home: h, trust: trust, log: o.log(), stands: w}
	d, known := h.byFingerprint(w.Peer())
	if known {
		conn.device, conn.trust = d, TrustPinned
	} else {
		conn.device = Device{ID: w.Peer().ID(), Fingerprint: w.Peer(), Addresses: []string{w.RemoteAddr().String()}}
	}
	if w.Via() == session.ViaDirect { // else it is an address of a router, or of a relay
		if err := h.reached(w.Peer(), w.RemoteAddr().String()); err != nil {
			conn.log.Warn("address not remembered", "error", err)
		}
	}
	if known {
		conn.refresh()
	}
	return conn
}

func (o DialOptions) log() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}

func (o DialOptions) findTime() time.Duration {
	if o.Find == 0 {
		return FindTime
	}
	return max(o.Find, 0)
}

func (o DialOptions) allows(p session.Path) bool {
	return len(o.Paths) == 0 || slices.Contains(o.Paths, p)
}
