package basestation

import (
	"context"
	"time"

	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

const (
	// reconcileAfter a start, or a change of the fleet, a device that is nowhere is
	// gone: it has missed two keep-alives of the longest interval, and its share of
	// the spread.
	reconcileAfter = 5 * time.Minute
	// reconcilePart is how many devices the loop is asked about at once.
	reconcilePart = 512
)

// reconcile marks as gone who did not come back after a restart of this node, or
// after the death of another one, which cannot say so itself.
func (s *Server) reconcile(ctx context.Context) {
	wait := reconcileAfter + spreadFor(s.toldPeers)
	for pause(ctx, wait) {
		if err := s.reconcileOnce(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("it is not known who did not come back", "err", err)
		}
		select {
		case <-s.lookAgain:
			wait = reconcileAfter
		case <-ctx.Done():
			return
		}
	}
}

// A claimed is a device that a record says is attached.
type claimed struct {
	id    identity.ID
	node  string
	since uint64
	here  bool
}

func (s *Server) reconcileOnce(ctx context.Context) error {
	var part []claimed
	check := func() error {
		all := part
		part = nil
		asked := s.do(ctx, func(time.Duration) {
			for i := range all {
				_, all[i].here = s.hub.node.DeviceByID(all[i].id)
			}
		})
		if !asked {
			return ctx.Err()
		}
		for _, c := range all {
			if c.here {
				continue
			}
			done, err := s.registry.Abandon(ctx, c.id, c.node, c.since)
			if err != nil {
				return err
			}
			if done {
				s.metrics.gone.Inc()
				s.config.Events.Tell(goneEvent(c.id, attach.CloseSilent))
			}
		}
		return nil
	}
	err := s.registry.Presences(ctx, func(id identity.ID, p registry.Presence) error {
		if p.State != registry.Attached || !s.fleet.answersFor(p.Node) {
			return nil
		}
		part = append(part, claimed{id: id, node: p.Node, since: p.Since})
		if len(part) < reconcilePart {
			return nil
		}
		return check()
	})
	if err != nil {
		return err
	}
	return check()
}
