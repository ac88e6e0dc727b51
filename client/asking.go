package client

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

const (
	// mostAsks is how often a basestation is asked in one race: a device that has lost
	// its network is back within seconds.
	mostAsks = 3

	// awayFor is when a device that is told to be offline is not asked for again.
	awayFor = 30 * time.Second
)

// introduce asks the basestation, after those attempts that may do without.
func (r *racing) introduce(h *Home, c call, o DialOptions) {
	if !o.RelayOnly && (nearby(c.addresses) && !r.waited(headStart)) {
		return
	}
	for asked := 1; ; asked++ {
		err := r.ask(h, c, o)
		var no *NotIntroducedError
		again := errors.As(err, &no) && asked < mostAsks && !(no.Offline && time.Since(no.Since) > awayFor)
		switch {
		case err == nil:
			return
		case r.ctx.Err() != nil || !again:
			r.failed(fmt.Errorf("%s: %w", c.device.Basestation, err))
			return
		}
	}
}

// nearby tells whether one of the addresses could answer at once, so that it
// deserves a head start: it is in a network that this machine is connected to, or
// reachable from everywhere. Private ones of other networks are tried all the same.
func nearby(addresses []string) bool {
	var ours []netip.Prefix
	anywhere := 0 // link-local ones: every network has them, and others beside them
	for _, text := range addresses {
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			return true // a name: who knows
		}
		a := at.Addr().Unmap()
		switch {
		case a.IsLinkLocalUnicast():
			anywhere++
			continue
		case a.IsLoopback() || !a.IsPrivate():
			return true
		}
		if ours == nil {
			ours = prefixes()
		}
		if slices.ContainsFunc(ours, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return true
		}
	}
	return anywhere > 0 && anywhere == len(addresses)
}

// ask is one introduction. It returns nil when a session came of it, and why not
// otherwise.
func (r *racing) ask(h *Home, c call, o DialOptions) error {
	m, err := h.meet(r.ctx, c, o)
	if err != nil {
		return err
	}
	defer m.release()
	defer m.rest()
	defer h.remember(m)
	select {
	case a := <-m.answers:
		if a.no != nil {
			return a.no
		}
		return r.try(m, a.yes, o)
	case <-r.ctx.Done():
		return m.silence()
	}
}

// try makes sessions of a meeting, and returns why there is none.
func (r *racing) try(m *meeting, yes attach.Introduced, o DialOptions) error {
	var mu sync.Mutex
	found := false
	var errs []error
	err := m.ways(r.ctx, yes, o, r.config, func(s *session.Client) {
		mu.Lock()
		found = true
		mu.Unlock()
		m.hold()
		r.offer(winner{Client: s, meeting: m})
	}, func(way string, err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, fmt.Errorf("%s: %w", way, err))
	})
	m.note(o)
	if err != nil || found {
		return err
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	err = errors.Join(append([]error{errNoWay}, errs...)...)
	var wrong *identity.MismatchError
	if errors.As(err, &wrong) {
		err = fmt.Errorf("%w: %w", ErrBasestation, err) // it has led us to somebody else
	}
	return err
}
