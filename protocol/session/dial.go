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
	// is none. Where one was missing it is 8 until the client has been quiet.
	WarmConns int
	// Log; nil is silence.
	Log *slog.Logger

	lookup func(ctx context.Context, host string) ([]net.IPAddr, error) // for QUIC; nil is the system's
}

const (
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
	return race(ctx, len(attempts), func(ctx context.Context, i int) (*Client, error) {
		return attempts[i].run(ctx, &c)
	})
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
	if c.lookup == nil {
		c.lookup = net.DefaultResolver.LookupIPAddr
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

func (a attempt) run(ctx context.Context, c *DialConfig) (*Client, error) {
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
	return client, err
}

// tcpDialer has no happy eyeballs of its own for the many addresses of one
// name beyond net.Dialer's.
var tcpDialer = net.Dialer{KeepAliveConfig: keepAlive}
