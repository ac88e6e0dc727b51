package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
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
// The remembered addresses are tried and the local network is asked at the same
// time. The error is a *NotFoundError, an *AmbiguousError or an
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

func (h *Home) dial(ctx context.Context, c call, o DialOptions) (*Conn, error) {
	config := session.DialConfig{Key: h.key, Pin: c.pin, Paths: o.Paths, Resumption: h.resumption, WarmConns: -1, Log: o.Log}
	if o.Tunnels {
		config.WarmConns = 0
	}
	s, err := race(ctx, c, o.findTime(), config)
	if err != nil {
		return nil, &UnreachableError{Device: c.device.String(), Err: err}
	}
	conn := &Conn{Client: s, home: h, trust: c.trust, log: o.log()}
	d, known := h.byFingerprint(s.Peer())
	if known {
		conn.device, conn.trust = d, TrustPinned
	} else {
		conn.device = Device{ID: s.Peer().ID(), Fingerprint: s.Peer(), Addresses: []string{s.RemoteAddr().String()}}
	}
	if err := h.reached(s.Peer(), s.RemoteAddr().String()); err != nil {
		conn.log.Warn("address not remembered", "error", err)
	}
	if known {
		conn.refresh()
	}
	return conn, nil
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

const (
	// headStart is what remembered addresses have before the network is asked:
	// in most cases it need not be bothered.
	headStart = 250 * time.Millisecond

	// dialTime bounds everything until a session stands. A device itself waits
	// 5 s for a handshake.
	dialTime = 6 * time.Second
)

// race dials the known addresses and each one that is heard. The first session
// wins; without one the error has every reason.
func race(parent context.Context, c call, find time.Duration, config session.DialConfig) (*session.Client, error) {
	ctx, cancel := context.WithTimeout(parent, dialTime)
	defer cancel()
	r := &racing{ctx: ctx, config: config, won: make(chan *session.Client), lost: make(chan struct{})}
	if len(c.addresses) > 0 {
		r.start(c.addresses)
	}
	if c.hearing != "" && find > 0 {
		r.running.Go(func() { r.listen(c, find) })
	}
	over := make(chan struct{})
	go func() {
		r.running.Wait()
		close(over)
	}()
	select {
	case s := <-r.won:
		cancel()
		return s, nil
	case <-over:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := parent.Err(); err != nil {
		return nil, err
	}
	if len(r.errs) == 0 {
		return nil, session.ErrNoAddress
	}
	return nil, errors.Join(r.errs...)
}

type racing struct {
	ctx     context.Context
	config  session.DialConfig
	won     chan *session.Client
	running sync.WaitGroup
	lost    chan struct{} // closed when the first attempt has failed

	mu   sync.Mutex
	errs []error
}

func (r *racing) start(addresses []string) {
	r.running.Go(func() {
		s, err := session.Dial(r.ctx, addresses, r.config)
		if err != nil {
			r.failed(err)
			return
		}
		select {
		case r.won <- s:
		case <-r.ctx.Done():
			s.Close()
		}
	})
}

// listen asks the network, and dials what it hears as long as it is no address
// that is being tried already.
func (r *racing) listen(c call, find time.Duration) {
	if len(c.addresses) > 0 {
		select {
		case <-time.After(headStart):
		case <-r.lost:
		case <-r.ctx.Done():
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.ctx, find)
	defer cancel()
	heard := false
	err := hear(ctx, c.hearing, func(address string) {
		heard = true
		if !slices.Contains(c.addresses, address) {
			r.start([]string{address})
		}
	})
	switch {
	case err != nil:
		r.failed(fmt.Errorf("mDNS: %w", err))
	case !heard && r.ctx.Err() == nil:
		r.failed(ErrNotAnswered)
	}
}

func (r *racing) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.errs = append(r.errs, err); len(r.errs) == 1 {
		close(r.lost)
	}
}
