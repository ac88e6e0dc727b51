package basestation

import (
	"github.com/keyholed/keyhole/basestation/fleet"
	"github.com/keyholed/keyhole/basestation/relay"
)

// RelayCounters are what the relay of this node counts; zero where it has none.
func (s *Server) RelayCounters() relay.Counters {
	if s.relay == nil {
		return relay.Counters{}
	}
	return s.relay.Counters()
}

// Nodes are the live nodes of the fleet, this one among them.
func (s *Server) Nodes() []fleet.Node {
	if s.fleet.fleet == nil {
		return []fleet.Node{{ID: s.self, Address: s.Addresses()}}
	}
	return s.fleet.fleet.Live()
}

// Hurry ends the draining of a Run whose context has ended: devices are waited for
// no more, and relayed connections are cut.
func (s *Server) Hurry() {
	s.hurried()
	if s.relay != nil {
		s.relay.Close()
	}
}
