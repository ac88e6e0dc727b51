package basestation

import (
	"context"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

// drain lets relayed connections finish for a while. New devices are sent away.
func (s *Server) drain(ctx context.Context) {
	s.do(ctx, func(time.Duration) { s.hub.draining = true })
	if s.relay == nil || s.config.Drain <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Drain)
	defer cancel()
	if err := s.relay.Drain(ctx); err != nil {
		s.log.Info("relayed connections are cut", "err", err)
	}
}

// blocked is told by the registry; it must not wait.
func (s *Server) blocked(id identity.ID) {
	s.tasks.start(func(context.Context) {
		s.post(func(now time.Duration) { s.hub.block(now, id) })
	})
}
