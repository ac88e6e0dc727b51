// Package registry is what a basestation remembers: typed records over a store.
// The server writes presence and asks whether a device may enrol; the operator's
// API lists, adds, blocks and removes.
//
//	presence/ID       who was attached where and when    often written, soon and coalesced
//	device/ID         a device that was registered       JSON, durable
//	blocked/ID        one that may not attach            JSON, durable, known to all nodes at once
//	serial/HEX        the key a serial number is bound to
//	secret/HEX        the factory secret of a serial number, sealed
//	token/HASH        a token of the operator's API, hashed
//	call/NNNNNN       whose call number it is, for five minutes
//	fleet/…           what the nodes of a fleet share (see Seal)
//
// It decides nothing by itself and keeps no copy in memory but the list of the
// blocked, which is asked at every attach and is short.
package registry

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A Config is what a Registry needs. Store must be set.
type Config struct {
	Store store.Store
	Seal  SealKey // the same on every node of a fleet
	Node  string  // id of this node, for presence
	Log   *slog.Logger
}

// A Registry holds the records. Its methods may be called by several goroutines.
type Registry struct {
	store store.Store
	seal  SealKey
	node  string
	log   *slog.Logger
	ready chan struct{}

	waiting waiting

	mu      sync.RWMutex
	blocked map[identity.ID]struct{}
	onBlock func(identity.ID)
}

// New returns a registry; Run keeps it up to date.
func New(c Config) *Registry {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Registry{
		store: c.Store, seal: c.Seal, node: c.Node, log: c.Log, ready: make(chan struct{}),
		waiting: waiting{by: map[identity.Fingerprint]*change{}}, blocked: map[identity.ID]struct{}{},
	}
}

// lastWrites is how long Run writes after its end what waits: a store that does not
// answer must not keep a basestation from stopping.
const lastWrites = 3 * time.Second

// Run follows the list of the blocked and writes presence until ctx ends; then
// it writes what waits, as far as the store takes it within 3 seconds. It returns
// early only with an error of the store.
func (r *Registry) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	written := make(chan struct{})
	go func() {
		defer close(written)
		r.keepWriting(ctx)
	}()
	err := r.watchBlocked(ctx)
	stopped := ctx.Err() != nil
	cancel()
	select {
	case <-written:
	case <-time.After(lastWrites + time.Second): // it waits for room, until the store is closed
		r.log.Warn("presence that waits is not written: the store takes no more")
	}
	if stopped {
		return nil
	}
	return fmt.Errorf("follow the blocked devices: %w", err)
}

// keepWriting hands what waits to the store until ctx ends, and then the rest.
func (r *Registry) keepWriting(ctx context.Context) {
	tick := time.NewTicker(presenceDelay)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.flush(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrites)
			defer cancel()
			r.flush(last)
			return
		}
	}
}

// Ready is closed when the list of the blocked is known.
func (r *Registry) Ready() <-chan struct{} { return r.ready }

func (*Registry) String() string { return "registry" }

// getJSON reads a record into v. It returns store.ErrNotFound.
func (r *Registry) getJSON(ctx context.Context, key string, v any) (revision uint64, err error) {
	data, revision, err := r.store.Get(ctx, key)
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return 0, fmt.Errorf("record %s: %w", key, err)
	}
	return revision, nil
}

func (r *Registry) putJSON(ctx context.Context, key string, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		_, err = r.store.Put(ctx, key, data)
	}
	return err
}

// changeJSON reads a record, has it changed, and writes it if nobody was faster, else
// again. A record that is not there begins as the zero value.
func changeJSON[T any](ctx context.Context, r *Registry, key string, edit func(*T)) error {
	for {
		var v T
		revision, err := r.getJSON(ctx, key, &v)
		missing := errors.Is(err, store.ErrNotFound)
		if err != nil && !missing {
			return err
		}
		edit(&v)
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if missing {
			_, err = r.store.Create(ctx, key, data)
		} else {
			_, err = r.store.Update(ctx, key, data, revision)
		}
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrExists) {
			return err
		}
	}
}

// hexKey makes a key of text that may hold anything, of at most 64 bytes.
func hexKey(prefix, text string) string { return prefix + hex.EncodeToString([]byte(text)) }

func now() uint64 { return uint64(time.Now().Unix()) }
