//go:build !linux

package netstate

import (
	"context"
	"errors"
	"net"
	"time"
)

// pollEvery is how often changes are looked for where nothing reports them.
const pollEvery = 5 * time.Second

// errNoInterface says that this platform cannot tell the receiving interface.
var errNoInterface = errors.New("not known on this platform")

// Receiving is known on Linux only.
func Receiving(net.Conn) (int, error) { return 0, errNoInterface }

// read lists interfaces with the standard library. Kinds and routes are
// unknown, so that nobody is local but the machine itself.
func read() (*table, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	t := &table{}
	for _, i := range interfaces {
		t.links = append(t.links, link{
			index:        i.Index,
			name:         i.Name,
			ethernet:     len(i.HardwareAddr) == 6,
			up:           i.Flags&net.FlagUp != 0,
			multicast:    i.Flags&net.FlagMulticast != 0,
			loopback:     i.Flags&net.FlagLoopback != 0,
			pointToPoint: i.Flags&net.FlagPointToPoint != 0,
			mtu:          i.MTU,
			hardware:     i.HardwareAddr,
			flags:        i.Flags,
		})
		addresses, err := i.Addrs()
		if err != nil {
			continue // the interface went away meanwhile
		}
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok {
				if p, ok := prefixOf(n); ok {
					t.addresses = append(t.addresses, address{link: i.Index, prefix: p})
				}
			}
		}
	}
	return t, nil
}

// listen looks for changes now and then: there is no netlink here.
func listen(ctx context.Context, ready func(), event func()) error {
	ready()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			event()
		}
	}
}
