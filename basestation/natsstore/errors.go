package natsstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyholed/keyhole/basestation/store"
)

// Errors of Open.
var (
	ErrLocked  = errors.New("directory is in use by another process")
	ErrDamaged = errors.New("the store has lost records; restore it from a backup, or move it away to begin anew")
)

// final marks an error that trying again cannot mend.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// retry calls try until it works, fails for good, or the time is up: ctx's, or
// callTimeout. Each try gets attemptTimeout. What try does must be safe to repeat.
func (s *Store) retry(ctx context.Context, try func(context.Context) error) error {
	if _, limited := ctx.Deadline(); !limited {
		limit, cancel := context.WithTimeoutCause(ctx, callTimeout, errors.New("no answer"))
		defer cancel()
		ctx = limit
	}
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := try(attempt)
		cancel()
		if err == nil || ctx.Err() != nil || !passing(err) || s.ctx != nil && s.ctx.Err() != nil {
			return err
		}
		if !s.external && errors.Is(err, context.DeadlineExceeded) {
			return err // no network, no election: its disk is slow, full or broken
		}
		pause := time.NewTimer(retryPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return err
		case <-pause.C:
		}
	}
}

// passing tells whether an error may go away by itself: the network is mended, or
// another leader elected.
func passing(err error) bool {
	var f final
	var api *jetstream.APIError
	switch {
	case errors.As(err, &f), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrAuthorization):
		return false
	case errors.As(err, &api):
		return api.Code == 503 && api.ErrorCode != insufficientResources ||
			api.ErrorCode == batchIncomplete || api.ErrorCode == noPeers
	}
	for _, known := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected,
		nats.ErrReconnectBufExceeded, nats.ErrConnectionReconnecting, jetstream.ErrNoStreamResponse,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// Codes of JetStream that nats.go does not name.
const (
	noPeers               = 10005 // too few servers are known to be online: seen while a cluster starts
	insufficientResources = 10023
	replicasNotSupported  = 10074 // the server is alone
	batchIncomplete       = 10176
)

// conflict tells whether a conditional write met another revision.
func conflict(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// wrong says an error of NATS in the store's words. A deadline that ended the
// last attempt and not the caller's context means that NATS did not answer.
func (s *Store) wrong(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case s.ctx.Err() != nil:
		return store.ErrClosed
	default:
		err = fmt.Errorf("%s: %w: %w", what, store.ErrUnavailable, err)
		if last := s.complaint(); last != "" {
			err = fmt.Errorf("%w (%s)", err, last)
		}
		s.health.note(err)
		return err
	}
}

// complaint is what the embedded server has just said. It does not answer a write
// that its disk has refused.
func (s *Store) complaint() string {
	if s.engine == nil {
		return ""
	}
	return s.engine.log.last(time.Now().Add(-2 * attemptTimeout))
}

// ended returns the caller's own reason to stop, if there is one.
func ended(ctx context.Context, what string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// health remembers whether the last write worked, and what no write mends.
type health struct {
	mu      sync.Mutex
	bad     error
	damaged error
}

func (h *health) condemn(err error) {
	h.mu.Lock()
	h.damaged = fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	h.mu.Unlock()
}

func (h *health) note(err error) {
	h.mu.Lock()
	h.bad = err
	h.mu.Unlock()
}

func (h *health) last() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.damaged != nil {
		return h.damaged
	}
	return h.bad
}
