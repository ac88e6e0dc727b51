package natsstore

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// Headers of an atomic batch (NATS ADR-50): all messages carry its id and their
// number from 1 on, the last says that it is the last and is answered. Since 2.15
// an embedded server syncs such a batch once.
const (
	batchIDHeader       = "Nats-Batch-Id"
	batchSequenceHeader = "Nats-Batch-Sequence"
	batchCommitHeader   = "Nats-Batch-Commit"
)

// writeBatch writes all pairs at once, or one by one where NATS takes no batches
// of this size: a limit of its operator, or a bucket that somebody else has made.
func (s *Store) writeBatch(ctx context.Context, pairs []pair) error {
	err := s.retry(ctx, func(ctx context.Context) error { return s.tryBatch(ctx, pairs) })
	if err != nil && len(pairs) > 1 && ctx.Err() == nil && !passing(err) {
		s.log.Debug("nats does not take the batch, writing one by one", "records", len(pairs), "error", err)
		for i := range pairs {
			if err = s.retry(ctx, func(ctx context.Context) error { return s.tryBatch(ctx, pairs[i:i+1]) }); err != nil {
				break
			}
		}
	}
	if err != nil {
		return s.wrong("put soon", err)
	}
	s.health.note(nil)
	return nil
}

func (s *Store) tryBatch(ctx context.Context, pairs []pair) error {
	id := nuid.Next()
	for i, p := range pairs {
		m := &nats.Msg{Subject: s.names.record(p.key), Data: p.value}
		if len(pairs) > 1 {
			m.Header = nats.Header{batchIDHeader: {id}, batchSequenceHeader: {strconv.Itoa(i + 1)}}
		}
		if i < len(pairs)-1 {
			if err := s.conn.PublishMsg(m); err != nil {
				return err
			}
			continue
		}
		if len(pairs) > 1 {
			m.Header.Set(batchCommitHeader, "1")
		}
		answer, err := s.conn.RequestMsgWithContext(ctx, m)
		if err != nil {
			return err
		}
		return accepted(answer.Data)
	}
	return nil
}

// accepted reads an acknowledgement of JetStream.
func accepted(answer []byte) error {
	var ack struct {
		Error *jetstream.APIError `json:"error"`
		Seq   uint64              `json:"seq"`
	}
	if err := json.Unmarshal(answer, &ack); err != nil {
		return fmt.Errorf("acknowledgement of nats: %w", err)
	}
	if ack.Error != nil {
		return ack.Error
	}
	if ack.Seq == 0 {
		return fmt.Errorf("acknowledgement of nats without a number: %.80q", answer)
	}
	return nil
}
