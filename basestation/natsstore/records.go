package natsstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/keyholed/keyhole/basestation/store"
)

// A deleted key is an empty message with this header, as NATS's own key-value
// buckets have it, and a time to live.
const (
	operationHeader = "KV-Operation"
	deletion        = "DEL"
)

// anyRevision asks write not to look at what is there.
const anyRevision = ^uint64(0)

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	if err := s.enter(ctx, store.CheckKey(key)); err != nil {
		return nil, 0, err
	}
	if err := s.settle(ctx, key); err != nil {
		return nil, 0, err
	}
	m, err := s.last(ctx, key)
	switch {
	case err != nil:
		return nil, 0, err
	case m == nil || m.Header.Get(operationHeader) != "":
		return nil, 0, fmt.Errorf("get %s: %w", key, store.ErrNotFound)
	}
	return m.Data, m.Sequence, nil
}

// last returns the newest message of a key, be it a deletion; nil for none.
func (s *Store) last(ctx context.Context, key string) (m *jetstream.RawStreamMsg, err error) {
	err = s.retry(ctx, func(ctx context.Context) error {
		m, err = s.records.GetLastMsgForSubject(ctx, s.names.record(key))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			m, err = nil, nil
		}
		return err
	})
	if err != nil {
		if late := ended(ctx, "get "+key); late != nil {
			return nil, late
		}
		return nil, s.wrong("get "+key, err)
	}
	return m, nil
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	return s.write(ctx, "put "+key, key, value, anyRevision)
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if revision == 0 || revision == anyRevision {
		if err := s.enter(ctx, store.CheckKey(key), store.CheckValue(value)); err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("update %s: %w", key, store.ErrConflict)
	}
	return s.write(ctx, "update "+key, key, value, revision)
}

// Create implements store.Store. What was deleted has left a trace, whose
// revision must then be named.
func (s *Store) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	revision, err := s.write(ctx, "create "+key, key, value, 0)
	for errors.Is(err, store.ErrConflict) {
		m, lost := s.last(ctx, key)
		if lost != nil {
			return 0, lost
		}
		var trace uint64
		if m != nil {
			if m.Header.Get(operationHeader) == "" {
				return 0, fmt.Errorf("create %s: %w", key, store.ErrExists)
			}
			trace = m.Sequence
		}
		revision, err = s.write(ctx, "create "+key, key, value, trace)
	}
	return revision, err
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string, revision uint64) error {
	what := "delete " + key
	if err := s.enter(ctx, store.CheckKey(key)); err != nil {
		return err
	}
	expect := revision
	if revision == 0 {
		if _, _, err := s.Get(ctx, key); err != nil {
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			return err
		}
		expect = anyRevision
	}
	s.deletions.Add(1)
	_, err := s.publish(ctx, what, key, expect, func() *nats.Msg {
		header := nats.Header{operationHeader: {deletion}}
		if s.records.CachedInfo().Config.AllowMsgTTL { // else the bucket is not of our making, and the trace stays
			header.Set(jetstream.MsgTTLHeader, tombstoneTTL.String())
		}
		return &nats.Msg{Subject: s.names.record(key), Header: header}
	})
	return err
}

func (s *Store) write(ctx context.Context, what, key string, value []byte, expect uint64) (uint64, error) {
	if err := s.enter(ctx, store.CheckKey(key), store.CheckValue(value)); err != nil {
		return 0, err
	}
	return s.publish(ctx, what, key, expect, func() *nats.Msg {
		return &nats.Msg{Subject: s.names.record(key), Data: value}
	})
}

// publish writes one message, again if the answer got lost: a conditional one has
// a number by which NATS knows it.
func (s *Store) publish(ctx context.Context, what, key string, expect uint64, message func() *nats.Msg) (uint64, error) {
	if err := s.settle(ctx, key); err != nil {
		return 0, err
	}
	options := []jetstream.PublishOpt{jetstream.WithRetryAttempts(0)}
	if expect != anyRevision {
		options = append(options, jetstream.WithExpectLastSequencePerSubject(expect))
		if s.external {
			options = append(options, jetstream.WithMsgID(nuid.Next()))
		}
	}
	ack, err := s.acknowledged(ctx, message, options...)
	switch {
	case err == nil:
		return ack.Sequence, nil
	case conflict(err):
		return 0, fmt.Errorf("%s: %w", what, store.ErrConflict)
	}
	if late := ended(ctx, what); late != nil {
		return 0, late
	}
	return 0, s.wrong(what, err)
}

func (s *Store) acknowledged(ctx context.Context, message func() *nats.Msg, options ...jetstream.PublishOpt) (ack *jetstream.PubAck, err error) {
	err = s.retry(ctx, func(ctx context.Context) error {
		ack, err = s.js.PublishMsg(ctx, message(), options...)
		return err
	})
	if err == nil {
		s.health.note(nil)
	}
	return ack, err
}

// settle has what PutSoon still holds of a key written first.
func (s *Store) settle(ctx context.Context, key string) error {
	if _, limited := ctx.Deadline(); !limited {
		limit, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		ctx = limit
	}
	return s.soon.settle(ctx, key)
}
