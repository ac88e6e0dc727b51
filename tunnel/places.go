package tunnel

// A Place says among whom a tunnel competes for room. Each has its own: strangers
// never take the place of who is paired, and those of them who have a password
// never lose theirs to those who guess.
type Place int

// The places.
const (
	PlaceListed   Place = iota // let in by the access list
	PlaceKnown                 // a stranger who has shown a password of the service
	PlaceStranger              // any other
)

// Limits of strangers' tunnels, known ones and others each. With DefaultTotal they
// fit into 35 MiB.
const (
	// maxStrangers in all, to one service, and of one source, which is an address, or
	// the key of a known one: a browser opens six connections.
	maxStrangers           = 24
	maxStrangersPerService = 16
	maxStrangersPerSource  = 8
)

// roomLocked says whether there is a place for one more tunnel.
func (b *Bridge) roomLocked(m Meta, s Service) error {
	if m.Place == PlaceListed {
		return b.listedRoomLocked(m)
	}
	all, service, source := 0, 0, 0
	for _, t := range b.live {
		if t.meta.Place != m.Place {
			continue
		}
		all++
		if t.service.Name == s.Name {
			service++
		}
		if t.meta.Source == m.Source {
			source++
		}
	}
	switch {
	case source >= maxStrangersPerSource:
		return ErrPeerLimit
	case all >= maxStrangers || service >= maxStrangersPerService:
		return ErrTotalLimit
	}
	return nil
}

func (b *Bridge) listedRoomLocked(m Meta) error {
	switch {
	case b.peers[m.Peer] >= b.config.PerPeer:
		return ErrPeerLimit
	case len(b.live)-b.others >= b.config.Total:
		return ErrTotalLimit
	}
	return nil
}

// countLocked is told when a tunnel has got its place or gives it back.
func (b *Bridge) countLocked(t *Tunnel, by int) {
	if t.meta.Place != PlaceListed {
		b.others += by
		return
	}
	if b.peers[t.meta.Peer] += by; b.peers[t.meta.Peer] == 0 {
		delete(b.peers, t.meta.Peer)
	}
}
