package tunnel

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// DefaultDial bounds finding and connecting to a service. Services are on
	// the board or beside it: what takes longer is down, and whoever waits for
	// it is better told.
	DefaultDial = 5 * time.Second
	// keepAliveIdle and the two after it find a service that vanished without
	// a word (a camera that lost its power) in 15 s + 3 x 15 s = one minute,
	// at one small packet each 15 s on the local network.
	keepAliveIdle     = 15 * time.Second
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 3
)

// A DownError says that a service could not be reached. Reason is fit for the
// peer: it has no address in it. Unwrap gives what the system said, for the
// log.
type DownError struct {
	Service string // its name
	Reason  string // "connection refused", "no answer", …
	Err     error
}

func (e *DownError) Error() string {
	return "service " + e.Service + " is down: " + e.Reason + ": " + e.Err.Error()
}
func (e *DownError) Unwrap() error { return e.Err }

// Dial connects to a service. The connection is a *net.TCPConn or a
// *net.UnixConn. The error is a *DownError, or ctx's when ctx ended first.
func (b *Bridge) Dial(ctx context.Context, s Service) (net.Conn, error) {
	d := net.Dialer{
		Timeout:         b.config.Dial,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount},
		Control:         b.refuseOwn,
	}
	if s.target.network == "unix" && b.config.Own != nil && b.config.Own("unix", s.target.address) {
		return nil, &DownError{s.Name, "misconfigured", errOwn}
	}
	conn, err := d.DialContext(ctx, s.target.network, s.target.address)
	if err == nil {
		return conn, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, &DownError{s.Name, reasonOf(err), err}
}

// refuseOwn is asked for each address a name resolved to, right before it is
// connected to.
func (b *Bridge) refuseOwn(network, address string, _ syscall.RawConn) error {
	if b.config.Own == nil || network == "unix" {
		return nil
	}
	if b.config.Own("tcp", (target{address: address}).literal()) {
		return errOwn
	}
	return nil
}

// reasonOf is the closed list of what peers are told.
func reasonOf(err error) string {
	var resolving *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, errOwn):
		return "misconfigured"
	case errors.As(err, &resolving) && !resolving.IsTimeout:
		return "its host name has no address"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, os.ErrNotExist):
		return "its socket is missing"
	case errors.Is(err, os.ErrPermission):
		return "permission denied"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to it"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer"
	}
	return "cannot be reached"
}

// Probe asks a service for a sign of life, as its type does. The error is a
// *DownError, or ctx's. The time allowed is that of Dial for connecting and the
// same again for the answer.
func (b *Bridge) Probe(ctx context.Context, s Service) error {
	conn, err := b.Dial(ctx, s)
	if err != nil {
		return err
	}
	defer conn.Close()
	if s.Type.probe == nil {
		return nil
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(b.config.Dial)); err != nil {
		return &DownError{s.Name, "cannot be reached", err}
	}
	err = s.Type.probe(conn)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &DownError{s.Name, "no answer", err}
	}
	return &DownError{s.Name, "connected, but it does not answer as " + s.Type.Name, err}
}
