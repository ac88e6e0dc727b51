package discovery

import (
	"net"

	"github.com/grandcat/zeroconf"

	"github.com/keyholed/keyhole/internal/netstate"
)

// A registration is our two services, announced by zeroconf on a fixed set of
// interfaces. Nothing of it changes while it stands: zeroconf's SetText writes a
// slice that its receivers read at the same time, so a new text is a new
// registration.
type registration []*zeroconf.Server

// register announces a record. RegisterProxy with no addresses makes zeroconf
// tell on each interface the addresses of that interface, at the time of asking;
// Register would tell all of them everywhere, and take the machine's own host
// name away from avahi when it stops.
func register(r Record, interfaces []netstate.Interface) (registration, error) {
	list := make([]net.Interface, len(interfaces))
	for n, i := range interfaces {
		list[n] = i.Interface
	}
	var reg registration
	for _, service := range services {
		server, err := zeroconf.RegisterProxy(r.escapedInstance(), service, "local", int(r.Port), r.hostName(), nil, r.text(), list)
		if err != nil {
			reg.shutdown()
			return nil, err
		}
		setTTL(server)
		reg = append(reg, server)
	}
	return reg, nil
}

// setTTL shortens the life of the records from 3,200 s. zeroconf has no way to
// do so before its announcer starts, which reads the number without a lock: the
// write is one machine word, so the reader sees either number (go.dev/ref/mem,
// "Implementation Restrictions"), and what it reads before the first
// announcement is a probe, which nobody remembers.
//
//go:norace
func setTTL(server *zeroconf.Server) { server.TTL(ttl) }

// shutdown says goodbye and ends it. zeroconf's announcer goroutine looks at
// nothing but its timers and is gone within four seconds; what it still sends
// goes to a closed socket.
func (r registration) shutdown() {
	for _, server := range r {
		server.Shutdown()
	}
}
