package client

import (
	"fmt"
	"net/netip"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/reach"
)

// checked returns where the device may be met, once it is clear that the offer is the
// pinned device's own and made for this introduction. Seen is where the node sees
// the device over UDP, the only address that comes from the node.
func (m *meeting) checked(o *attach.Offer, t attach.Transport, seen netip.AddrPort) ([]netip.AddrPort, error) {
	hash, ok := m.link.Hash()
	if !ok {
		return nil, fmt.Errorf("%w: the link has ended", ErrBasestation)
	}
	f, err := o.CheckDevice(hash, m.id, m.key.Fingerprint())
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrBasestation, err)
	case m.device.IsZero():
		m.device = f // it has the id that was asked for; the first offer comes before everything else
	case f != m.device:
		return nil, fmt.Errorf("%w: %w", ErrBasestation, &identity.MismatchError{Got: f})
	}
	if o.Transport != t {
		return nil, fmt.Errorf("%w: it offers %s addresses where %s is asked for", ErrBasestation, o.Transport, t)
	}
	candidates := o.Addresses()
	if t == attach.UDP && seen.IsValid() {
		candidates = append([]netip.AddrPort{seen}, candidates...)
	}
	return m.usable(seen, candidates), nil
}

// usable drops the candidates that a peer may not send us to. Where the node itself
// is at a public address it sees nobody at a private one, whatever it says.
func (m *meeting) usable(theirs netip.AddrPort, candidates []netip.AddrPort) (list []netip.AddrPort) {
	status := m.link.Status()
	mine, node := status.Observed, status.Node.Addr().Unmap()
	if !plausible(mine, node) {
		mine = netip.AddrPort{}
	}
	if !plausible(theirs, node) {
		theirs = netip.AddrPort{}
	}
	ours := prefixes()
	for _, c := range candidates {
		if reach.Usable(c, mine, theirs, ours) {
			list = append(list, c)
		}
	}
	return list
}

// plausible tells whether a node at an address can see somebody at another: from
// the Internet nobody's private address is seen, and loopback only from loopback.
func plausible(seen netip.AddrPort, node netip.Addr) bool {
	a := seen.Addr().Unmap()
	switch {
	case a.IsLoopback():
		return node.IsLoopback()
	case unrouted(a):
		return unrouted(node) || node.IsLoopback()
	}
	return true
}

// sharedByProviders is RFC 6598: private behind a provider's router.
var sharedByProviders = netip.MustParsePrefix("100.64.0.0/10")

func unrouted(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLinkLocalUnicast() || sharedByProviders.Contains(a)
}
