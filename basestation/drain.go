package basestation

import (
	"context"
	"time"
)

// drainPoll is how often a draining node looks whether all have left.
const drainPoll = 100 * time.Millisecond

// drain sends devices to the other nodes, if there are any, and lets relayed
// connections finish, for as long as the configuration allows. New devices are sent
// away. A node that is alone says nothing: its devices would not know where to go,
// and hear of it when it is back.
func (s *Server) drain(ctx context.Context) {
	if s.config.Drain <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Drain)
	defer cancel()
	defer context.AfterFunc(s.hurry, cancel)()
	if s.fleet.others() > 0 {
		s.fleet.fleet.Leave()
		// Half of the time for coming back, the rest for those who try twice.
		spread := max(s.config.Drain/2, time.Second)
		s.do(ctx, func(time.Duration) {
			s.hub.draining = true
			s.hub.rearrange(spread)
		})
		s.emptied(ctx)
	}
	if s.relay == nil {
		return
	}
	if err := s.relay.Drain(ctx); err != nil {
		s.log.Info("relayed connections are cut", "err", err)
	}
}

// emptied waits until no device is attached.
func (s *Server) emptied(ctx context.Context) {
	for {
		if n, err := s.Devices(ctx); err != nil || n == 0 || !pause(ctx, drainPoll) {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
