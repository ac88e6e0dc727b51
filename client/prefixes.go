package client

import (
	"net"
	"net/netip"

	"github.com/keyholed/keyhole/protocol/reach"
)

// prefixes are the networks that this machine is connected to, also where the kernel
// is not one that reach can ask.
func prefixes() []netip.Prefix {
	if found := reach.Prefixes(); len(found) > 0 {
		return found
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var found []netip.Prefix
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			found = append(found, p.Masked())
		}
	}
	return found
}
