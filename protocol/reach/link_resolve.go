package reach

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
)

const (
	lookupTime = 5 * time.Second
	// lookupApart is how long a name is not asked for again: a link that fails
	// wants to know whether it means another address by now.
	lookupApart = 10 * time.Second
	// When no name can be resolved: back-off with full jitter, as for attaching.
	minLookupWait, maxLookupWait = time.Second, time.Minute
	// addressesPerName bounds what one name may mean.
	addressesPerName = 4
)

// resolve keeps the addresses of the basestations up to date. The first that is
// known begins the link.
func (l *Link) resolve(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		if err := l.lookUp(ctx); err != nil {
			l.unresolved(err)
			ceiling := min(minLookupWait<<min(failures, 6), maxLookupWait)
			sleep(ctx, time.Duration(rand.Float64()*float64(ceiling)), l.looking)
			failures++
			continue
		}
		failures = 0
		sleep(ctx, lookupApart, nil)
		select {
		case <-l.looking:
		case <-ctx.Done():
		}
	}
}

// sleep waits for d, a token or the end of ctx.
func sleep(ctx context.Context, d time.Duration, token <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-token:
	case <-ctx.Done():
	}
}

// lookUp resolves all names at the same time; each counts as soon as it is known. It
// returns an error if none is.
func (l *Link) lookUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	errs := make([]error, len(l.c.Addresses))
	var all sync.WaitGroup
	for i, name := range l.c.Addresses {
		all.Go(func() {
			addresses, err := l.lookUpOne(ctx, name)
			if errs[i] = err; err == nil {
				l.found(name, addresses)
			}
		})
	}
	all.Wait()
	if slices.Contains(errs, nil) {
		return nil
	}
	return errors.Join(errs...)
}

func (l *Link) lookUpOne(ctx context.Context, name string) (all []netip.AddrPort, err error) {
	host, port, err := splitAddress(name)
	if err != nil {
		return nil, err
	}
	ips := make([]netip.Addr, 1)
	if ips[0], err = netip.ParseAddr(host); err != nil {
		if ips, err = l.c.Lookup(ctx, host); err != nil {
			return nil, err
		}
	}
	for _, ip := range ips {
		if len(all) < addressesPerName {
			all = append(all, netip.AddrPortFrom(ip.Unmap(), port))
		}
	}
	if len(all) == 0 {
		err = fmt.Errorf("basestation %q: no address", name)
	}
	return all, err
}

// splitAddress reads host:port with the port as a number.
func splitAddress(address string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("basestation: %w", err)
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil || number == 0 || host == "" {
		return "", 0, fmt.Errorf("basestation %q: want host:port", address)
	}
	return host, uint16(number), nil
}

// found takes what a name means now.
func (l *Link) found(name string, addresses []netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running == nil || slices.Equal(l.resolved[name], addresses) {
		return
	}
	l.resolved[name] = addresses
	var all []netip.AddrPort
	for _, n := range l.names {
		for _, a := range l.resolved[n] {
			if !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	if l.link != nil {
		l.link.SetBasestations(all)
		return
	}
	link, err := attach.NewLink(l.linkConfig(all))
	if err != nil {
		l.status.Err = err // cannot be: NewLink has tried it
		return
	}
	l.link = link
	poke(l.wake)
}

func (l *Link) unresolved(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.link == nil {
		l.status.Err = err
	}
	l.log.Debug("basestation's name", "error", err)
}

// goodLocked puts the name first that led to this controller.
func (l *Link) goodLocked(controller netip.AddrPort) {
	for i, name := range l.names {
		if slices.Contains(l.resolved[name], controller) {
			l.names = slices.Insert(slices.Delete(l.names, i, i+1), 0, name)
			l.status.Address = name
			return
		}
	}
}
