// Package natsstore keeps a basestation's records in NATS JetStream and lets its
// nodes talk over NATS subjects. It is the only door to NATS, used by
// cmd/keyhole-basestation alone.
//
// Either NATS is embedded (Config.Dir): it listens on nothing, is reached over a
// pipe inside the process, and syncs every acknowledged write. Or it is somebody
// else's cluster (Config.URL): then durability is that cluster's, a write is
// acknowledged once a majority of Replicas has it.
//
// # Layout
//
// Everything carries one name, "keyhole" unless configured:
//
//	stream KV_keyhole, subjects $KV.keyhole.>   records: a key-value bucket that
//	                                            `nats kv` reads; history 1
//	stream keyhole_log, subjects keyhole.log.>  what Log appends
//	subjects keyhole.msg.>                      Publish and Request, not stored
//
// One record is one message. Resident memory of the whole process for each record
// of 150 bytes under a 41-byte key, measured by TestMemory:
//
//	              just written   two minutes later   after a restart
//	   10,000              917                 597
//	  100,000              471                 325
//	1,000,000              276                 228               165
//
// The constant part is some 5 MB, so a million devices cost 0.3 GB at most, and
// records need no packing. It is the subject that stays in memory, not the value.
//
// PutSoon gathers what came and writes it as one atomic batch, which is synced
// once. So a presence write costs microseconds, where a durable one costs a sync
// of the disk.
//
// It deliberately offers no way to reach the server or its connection.
package natsstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyholed/keyhole/basestation/store"
)

// Config says where the records are. Exactly one of Dir and URL is set.
type Config struct {
	Dir string // of the embedded NATS; made if missing, mode 0700

	URL         string // of an external cluster: nats:// or tls://, several with commas
	Credentials string // file with a user's JWT and key (nsc), or empty
	CA          string // file with PEM certificates; empty: the system's
	Certificate string // file of the client's certificate, with Key; empty: none
	Key         string
	Plain       bool // allow an unencrypted connection beyond this machine
	Replicas    int  // of records and log in the external cluster; 0: as it is, 3 when new, 1 of a lone server

	Name string       // of this fleet in NATS, [a-z0-9_-]{1,32}; empty: "keyhole"
	Log  *slog.Logger // nil: discard
}

// Store is one node's handle; it implements store.Store.
type Store struct {
	names    layout
	log      *slog.Logger
	engine   *engine // nil when NATS is external
	conn     *nats.Conn
	js       jetstream.JetStream
	records  jetstream.Stream
	entries  jetstream.Stream
	external bool
	soon     *soon

	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc

	mu      sync.Mutex // guards closing against running.Add
	closing bool
	running sync.WaitGroup
	closed  chan struct{}
	failure error // of Close; read after closed

	health    health
	deletions atomic.Uint64 // traces of deleted keys that this run has left
}

var _ store.Store = (*Store)(nil)

// Open starts the embedded server or connects to the external one, makes what is
// missing, and returns once records can be read. With an external cluster that
// does not answer it tries until ctx ends.
//
// Errors: ErrLocked when another process has Dir; ErrDamaged when Dir has lost
// records; else what the disk, the network or NATS say.
func Open(ctx context.Context, c Config) (*Store, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Name == "" {
		c.Name = "keyhole"
	}
	if err := store.CheckName(c.Name); err != nil {
		return nil, err
	}
	if (c.Dir == "") == (c.URL == "") {
		return nil, errors.New("natsstore: want either a directory or the URL of an external NATS")
	}
	if c.URL != "" {
		conn, err := c.connect(ctx)
		if err != nil {
			return nil, err
		}
		s, err := c.open(ctx, conn, nil)
		if err != nil {
			conn.Close()
		}
		return s, err
	}
	e, err := startEngine(ctx, c.Dir, c.Log)
	if err != nil {
		return nil, err
	}
	s, err := e.open(ctx, c)
	if err != nil {
		return nil, errors.Join(err, e.stop())
	}
	s.engine = e
	if err := s.lookThrough(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// open makes a handle of a connection, which it owns once it has returned nil.
func (c Config) open(ctx context.Context, conn *nats.Conn, e *engine) (*Store, error) {
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(attemptTimeout))
	if err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	s := &Store{
		names: layout{c.Name}, log: c.Log, conn: conn, js: js, external: e == nil,
		closed: make(chan struct{}),
	}
	if err := s.lay(ctx, c.Replicas, e); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.soon = newSoon(s.writeBatch, c.Log)
	return s, nil
}

// enter is how every call begins: checks first, then Close, then the context.
func (s *Store) enter(ctx context.Context, checks ...error) error {
	for _, err := range checks {
		if err != nil {
			return err
		}
	}
	if s.ctx.Err() != nil {
		return store.ErrClosed
	}
	return ctx.Err()
}

// start counts a long-running call that Close waits for, and returns a context
// that Close ends as well.
func (s *Store) start(ctx context.Context) (context.Context, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, nil, store.ErrClosed
	}
	s.running.Add(1)
	merged, cancel := context.WithCancelCause(ctx)
	detach := context.AfterFunc(s.ctx, func() { cancel(store.ErrClosed) })
	return merged, func() {
		detach()
		cancel(nil)
		s.running.Done()
	}, nil
}

// Check implements store.Store.
func (s *Store) Check(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	if _, err := s.records.Info(ctx); err != nil {
		return s.wrong("check", err)
	}
	if s.health.last() == nil {
		return nil
	}
	// Something has failed since the last write that worked: try one, under a
	// subject that is no key.
	_, err := s.acknowledged(ctx, func() *nats.Msg { return &nats.Msg{Subject: s.names.probe()} }, jetstream.WithRetryAttempts(0))
	if err != nil {
		return s.wrong("check", err)
	}
	return s.health.last()
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	first := !s.closing
	s.closing = true
	s.mu.Unlock()
	if !first {
		<-s.closed
		return s.failure
	}
	defer close(s.closed)
	ctx, cancel := context.WithTimeout(context.Background(), store.CloseTimeout)
	defer cancel()
	s.failure = s.soon.close(ctx)
	s.cancel(store.ErrClosed)
	s.running.Wait()
	if err := s.conn.FlushWithContext(ctx); err != nil && s.engine != nil {
		s.failure = errors.Join(s.failure, fmt.Errorf("close nats: %w", err))
	}
	if s.engine != nil && s.failure == nil {
		s.failure = s.engine.leave(ctx, s)
	}
	closeConnection(s.conn)
	if s.engine != nil {
		s.failure = errors.Join(s.failure, s.engine.stop())
	}
	return s.failure
}

// Bounds of a call. A cluster elects a new leader within 4 to 9 seconds (its own
// figures), so a call without a deadline outlives one election.
const (
	attemptTimeout = 3 * time.Second
	callTimeout    = 15 * time.Second
	retryPause     = 100 * time.Millisecond
)
