package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// DialConfig says who dials whom.
type DialConfig struct {
	// Key is the client's.
	Key *identity.Key
	// Pin decides whether the device is the right one, before anything is sent.
	Pin identity.Pin
	// Paths to try, in this order of preference; nil is TCP, then QUIC.
	Paths []Path
	// Resumption may be shared between Dials; nil is one of its own.
	Resumption *Resumption
	// WarmConns is how many TLS connections wait for bulk tunnels: 0 is 4, less
	// is none.
	WarmConns int
	// Log; nil is silence.
	Log *slog.Logger
}

const (
	// attemptDelay is how long an attempt has for itself before the next one
	// starts beside it (RFC 8305 §5 recommends 250 ms).
	attemptDelay = 250 * time.Millisecond
	// dialTimeout bounds one attempt.
	dialTimeout = 10 * time.Second
	// maxAttempts bounds what a list of addresses can cost.
	maxAttempts = 32
)

// ErrNoAddress means that there was nothing to dial.
var ErrNoAddress = errors.New("no address to dial")

// Dial connects to a device that answers at one of addresses (host:port). It
// tries them one after the other, each after the last failed or has had 250 ms,
// on the first path, then on the next; the first on which both sides have
// proven their keys is taken. Where none is, the error has every reason; an
// *identity.MismatchError among them says that somebody else answered.
func Dial(ctx context.Context, addresses []string, c DialConfig) (*Client, error) {
	c = c.withDefaults()
	attempts := plan(addresses, c.Paths)
	if len(attempts) == 0 {
		return nil, ErrNoAddress
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result)
	running, next := 0, 0
	start := func() {
		a := attempts[next]
		next++
		running++
		go a.run(ctx, &c, results)
	}
	start()
	timer := time.NewTimer(attemptDelay)
	defer timer.Stop()
	var errs []error
	for running > 0 {
		select {
		case <-timer.C:
			if next < len(attempts) {
				start()
				timer.Reset(attemptDelay)
			}
		case r := <-results:
			running--
			if r.err == nil {
				cancel()
				go closeLosers(results, running)
				return r.client, nil
			}
			errs = append(errs, r.err)
			if next < len(attempts) && ctx.Err() == nil {
				start()
				timer.Reset(attemptDelay)
			}
		}
	}
	return nil, errors.Join(errs...)
}

func (c DialConfig) withDefaults() DialConfig {
	if len(c.Paths) == 0 {
		c.Paths = []Path{PathTCP, PathQUIC}
	}
	if c.Resumption == nil {
		c.Resumption = NewResumption()
	}
	if c.WarmConns == 0 {
		c.WarmConns = defaultWarm
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

type attempt struct {
	path    Path
	address string
}

type result struct {
	client *Client
	err    error
}

func plan(addresses []string, paths []Path) []attempt {
	var list []attempt
	for _, p := range paths {
		for _, a := range addresses {
			if one := (attempt{p, a}); !slices.Contains(list, one) && len(list) < maxAttempts {
				list = append(list, one)
			}
		}
	}
	return list
}

func (a attempt) run(ctx context.Context, c *DialConfig, to chan<- result) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var client *Client
	var err error
	switch a.path {
	case PathTCP:
		client, err = dialTCP(ctx, a.address, c)
	case PathQUIC:
		client, err = dialQUIC(ctx, a.address, c)
	default:
		err = fmt.Errorf("unknown path %q", a.path)
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w", a.path, a.address, err)
	}
	to <- result{client, err}
}

// closeLosers ends the attempts that were too late.
func closeLosers(results <-chan result, running int) {
	for range running {
		if r := <-results; r.err == nil {
			r.client.Close()
		}
	}
}

// tcpDialer has no happy eyeballs of its own for the many addresses of one
// name beyond net.Dialer's.
var tcpDialer = net.Dialer{KeepAliveConfig: keepAlive}
