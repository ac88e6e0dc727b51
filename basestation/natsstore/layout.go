package natsstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyholed/keyhole/basestation/store"
)

// layout gives NATS's names to what the store calls by its own.
type layout struct{ name string }

func (l layout) bucket() string              { return "KV_" + l.name }
func (l layout) log() string                 { return l.name + "_log" }
func (l layout) record(key string) string    { return "$KV." + l.name + "." + token(key) }
func (l layout) entry(subject string) string { return l.name + ".log." + subject }
func (l layout) message(s string) string     { return l.name + ".msg." + s }

func (l layout) below(prefix string) string { return "$KV." + l.name + "." + token(prefix) + ">" }

// probe is where Check writes: keys have no upper case.
func (l layout) probe() string { return "$KV." + l.name + ".CHECK" }

// A "/" of a key separates tokens, so that a prefix is a wildcard; a "." is then
// written "=", which keys do not have and `nats kv` allows.
func token(key string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '/':
			return '.'
		case '.':
			return '='
		}
		return r
	}, key)
}

// key is the inverse of record; false for a subject that no key of ours has.
func (l layout) key(subject string) (string, bool) {
	t, ours := strings.CutPrefix(subject, "$KV."+l.name+".")
	key := strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '=':
			return '.'
		}
		return r
	}, t)
	return key, ours && store.CheckKey(key) == nil
}

// tombstoneTTL is how long a deleted key leaves a trace: a watcher that was cut
// off for less learns of the deletion. Longer costs memory.
const tombstoneTTL = 24 * time.Hour

// duplicatesWindow is how long NATS remembers the number of a conditional write,
// so that one that is tried again after a broken connection does not meet itself.
// It must be longer than callTimeout; each number costs some 200 bytes.
const duplicatesWindow = 30 * time.Second

func (l layout) bucketConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               l.bucket(),
		Description:        "records of a Keyhole basestation",
		Subjects:           []string{"$KV." + l.name + ".>"},
		MaxMsgsPerSubject:  1,
		MaxBytes:           -1,
		MaxMsgs:            -1,
		MaxConsumers:       -1,
		MaxMsgSize:         store.MaxValueBytes + headerBytes,
		Storage:            jetstream.FileStorage,
		Discard:            jetstream.DiscardNew,
		Duplicates:         duplicatesWindow,
		AllowRollup:        true,
		DenyDelete:         true,
		AllowMsgTTL:        true,
		AllowAtomicPublish: true,
	}
}

func (l layout) logConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:         l.log(),
		Description:  "events of a Keyhole basestation",
		Subjects:     []string{l.entry(">")},
		MaxMsgs:      -1,
		MaxConsumers: -1,
		MaxBytes:     store.LogBytes,
		MaxAge:       store.LogAge,
		MaxMsgSize:   store.MaxDataBytes + headerBytes,
		Storage:      jetstream.FileStorage,
		Discard:      jetstream.DiscardOld,
		Duplicates:   duplicatesWindow,
	}
}

// headerBytes is room for the headers that we set: numbers and a word each.
const headerBytes = 512

// lay makes both streams or finds them, and keeps what an operator changed in an
// external cluster (replicas, placement, compression).
func (s *Store) lay(ctx context.Context, replicas int, e *engine) error {
	for _, want := range []struct {
		config jetstream.StreamConfig
		stream *jetstream.Stream
	}{
		{s.names.bucketConfig(), &s.records},
		{s.names.logConfig(), &s.entries},
	} {
		if err := s.layOne(ctx, want.config, replicas, e, want.stream); err != nil {
			return fmt.Errorf("stream %s: %w", want.config.Name, err)
		}
	}
	return e.laid()
}

func (s *Store) layOne(ctx context.Context, c jetstream.StreamConfig, replicas int, e *engine, stream *jetstream.Stream) error {
	return s.retry(ctx, func(ctx context.Context) error {
		// Several nodes may begin at once; nobody answers for a stream that another
		// one is making just now.
		ctx, cancel := context.WithTimeout(ctx, layTimeout)
		defer cancel()
		found, err := s.js.Stream(ctx, c.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			if e.wasLaid() {
				return final{fmt.Errorf("%w: it was there before", ErrDamaged)}
			}
			found, err = s.create(ctx, c, replicas, e)
		case err == nil && replicas > 0 && found.CachedInfo().Config.Replicas != replicas:
			found, err = s.js.UpdateStream(ctx, replicated(found.CachedInfo().Config, replicas))
		}
		if err != nil {
			return err
		}
		*stream = found
		if err := e.whole(found.CachedInfo()); err != nil {
			return final{err}
		}
		return nil
	})
}

const layTimeout = time.Second

// clusterReplicas is how many servers of a cluster keep each record if the
// operator did not say: the fewest of which one may be lost.
const clusterReplicas = 3

// create makes a stream. Without a number of replicas it takes clusterReplicas,
// or one where the server is alone.
func (s *Store) create(ctx context.Context, c jetstream.StreamConfig, replicas int, e *engine) (jetstream.Stream, error) {
	if replicas > 0 || e != nil {
		return s.js.CreateStream(ctx, replicated(c, max(replicas, 1)))
	}
	stream, err := s.js.CreateStream(ctx, replicated(c, clusterReplicas))
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == replicasNotSupported {
		return s.js.CreateStream(ctx, replicated(c, 1))
	}
	return stream, err
}

// replicated: a reply straight from any replica is quicker, and may be older than
// an acknowledged write; with one replica it cannot be.
func replicated(c jetstream.StreamConfig, replicas int) jetstream.StreamConfig {
	c.Replicas, c.AllowDirect = replicas, replicas == 1
	return c
}
