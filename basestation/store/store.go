// Package store says what a basestation keeps and how its nodes talk: records
// under keys, messages under subjects, and a log that consumers read to its end.
//
// It is an interface with two stores behind it: memstore (one process, nothing
// kept) and natsstore (NATS, embedded or a cluster). storetest is the suite that
// both pass; what is written here is what it checks.
//
// It deliberately knows no records: their types live in basestation/registry. It
// offers no transactions over several keys, no queries but by prefix, and no
// order between keys.
package store

import "context"

// Store is one node's handle. All methods may be called at the same time.
//
// Errors, for errors.Is: ErrInvalid for a key, subject, name or size outside the
// grammar; ErrClosed after Close; the context's error when it ended first;
// ErrUnavailable when the store behind cannot answer now (network, quorum, disk).
// A write that ended with the context's error or with ErrUnavailable may have
// happened or not: read before trying again.
//
// A slice handed in is not kept after the call; a slice handed out belongs to
// who receives it.
type Store interface {
	// Get returns the value and its revision; ErrNotFound. It sees every durable
	// write that was acknowledged, on any node, before it was called, and every
	// earlier PutSoon of this handle, for which it may wait.
	Get(ctx context.Context, key string) (value []byte, revision uint64, err error)

	// Create writes a key that does not exist; ErrExists. Update replaces the
	// value whose revision is given; ErrConflict when it has another one or none.
	// Put writes whatever was there. All three return the new revision, never 0
	// and greater than every earlier one of that key, and return only when the
	// write would survive a crash (of the process and, as far as the disk is
	// honest, of the machine). Revisions of different keys cannot be compared.
	Create(ctx context.Context, key string, value []byte) (revision uint64, err error)
	Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error)
	Put(ctx context.Context, key string, value []byte) (revision uint64, err error)

	// Delete removes the key if it has that revision; ErrConflict. Revision 0
	// means whatever it is: a key that does not exist is then no error. As
	// durable as Put. After it the key can be created.
	Delete(ctx context.Context, key string, revision uint64) error

	// PutSoon writes without waiting: within SoonDelay under normal load. Values
	// of one key that wait are coalesced, the last is written; a crash loses what
	// waits, and of a node whose machine loses power some seconds more. Writes
	// of one key by one handle stay in order: a Create, Update, Put or Delete of
	// that key comes after every earlier PutSoon of it. Other nodes see the value
	// only once it is written. The error is ErrInvalid or ErrClosed alone.
	//
	// At most SoonKeys keys wait; the next waits for room.
	PutSoon(key string, value []byte) error

	// Flush waits until everything that PutSoon took before is written.
	Flush(ctx context.Context) error

	// List tells every key below prefix, in no order, and stops with the first
	// error that tell returns. A key that changes meanwhile may be told twice,
	// the newer value last. tell may use the store.
	List(ctx context.Context, prefix string, tell func(key string, value []byte, revision uint64) error) error

	// Watch tells every key below prefix as List does, then a Change with an
	// empty Key to say that this was all, then every later change, in order for
	// each key; changes that come faster than tell takes them may be coalesced
	// per key. It returns nil when ctx ends, ErrClosed after Close. After a broken
	// connection it goes on by itself, and tells what it missed.
	Watch(ctx context.Context, prefix string, tell func(Change)) error

	// Publish sends to everyone who is subscribed now, at most once.
	Publish(subject string, data []byte) error

	// Subscribe has hear called, one message at a time and in the order of their
	// sender, for each message whose subject matches the pattern, until stop,
	// which waits for a call under way (and so must not be called from hear).
	// reply answers a Request, from any goroutine, once; for a message that was
	// published it does nothing. What comes when PendingMessages wait is dropped.
	// In a cluster other nodes may need a moment to know of a subscription: what
	// they send right after Subscribe has returned can be missed.
	Subscribe(pattern string, hear func(subject string, data []byte, reply func([]byte))) (stop func(), err error)

	// Request sends and returns the first answer. ErrNoResponder comes at once
	// when nobody is subscribed. ctx should have a deadline: without one
	// RequestTimeout holds, and ends with context.DeadlineExceeded.
	Request(ctx context.Context, subject string, data []byte) ([]byte, error)

	// Log appends to the log, as durable as Put. The log keeps LogAge and
	// LogBytes; what is older is gone, read or not.
	Log(ctx context.Context, subject string, data []byte) error

	// Consume has take called for every message of the log whose subject matches
	// the pattern, from the oldest kept one on, at least once: again, after a
	// growing delay of at most ConsumeRetryMax, while take returns an error; and
	// again, here or elsewhere, when this node dies before take has returned.
	// Consumers of one name share the work, on any node, and their place is kept.
	// Order holds until the first error. Returns nil when ctx ends, ErrClosed
	// after Close. One name must always have the same pattern.
	Consume(ctx context.Context, name, pattern string, take func(subject string, data []byte) error) error

	// Check tells whether a durable write would be taken now: nil, ErrClosed, or
	// ErrUnavailable with the reason.
	Check(ctx context.Context) error

	// Close writes what waits, for at most CloseTimeout, ends every Watch,
	// Consume and subscription, and waits for them. It is idempotent; the error is
	// that of the last writes.
	Close() error
}

// Change is what became of a key.
type Change struct {
	Key      string // empty: everything that was there has been told
	Value    []byte // nil when Deleted
	Revision uint64
	Deleted  bool
}
