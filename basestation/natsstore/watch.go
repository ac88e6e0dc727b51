package natsstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyholed/keyhole/basestation/store"
)

// reader follows the records below a prefix with a consumer that lives in NATS
// for as long as it is used.
type reader struct {
	s        *Store
	prefix   string
	consumer jetstream.Consumer
	seen     uint64 // the newest message told, or passed over
	number   uint64 // of the consumer's last delivery; the next must follow
}

// Figures of a reader.
const (
	readerIdle      = 5 * time.Minute // NATS forgets a consumer that nobody reads
	readerBatch     = 256             // messages asked for at a time: some 16 MB at worst
	readerExpiry    = 10 * time.Second
	readerHeartbeat = time.Second // twice this without a sign: the consumer is gone
	readerPauseMax  = 2 * time.Second
)

// open makes the consumer: from the newest message of each key, or, when some
// were told before, from the next one on.
func (r *reader) open(ctx context.Context) error {
	config := jetstream.ConsumerConfig{
		FilterSubject:     r.s.names.below(r.prefix),
		DeliverPolicy:     jetstream.DeliverLastPerSubjectPolicy,
		AckPolicy:         jetstream.AckNonePolicy,
		InactiveThreshold: readerIdle,
		MemoryStorage:     true,
		Replicas:          1,
	}
	if r.seen > 0 {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, r.seen+1
	}
	consumer, err := r.s.records.CreateConsumer(ctx, config)
	r.consumer, r.number = consumer, 0
	return err
}

func (r *reader) close() {
	if r.consumer == nil || !r.s.conn.IsConnected() {
		return // NATS forgets it by itself
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = r.s.records.DeleteConsumer(ctx, r.consumer.CachedInfo().Name) // else NATS forgets it by itself
}

// change reads one delivery. False for what is no record of ours.
func (r *reader) change(m jetstream.Msg) (c store.Change, ok bool, err error) {
	meta, err := m.Metadata()
	if err != nil {
		return c, false, err
	}
	if r.number++; meta.Sequence.Consumer != r.number {
		return c, false, fmt.Errorf("delivery %d came when %d was next", meta.Sequence.Consumer, r.number)
	}
	r.seen = meta.Sequence.Stream
	c.Key, ok = r.s.names.key(m.Subject())
	c.Revision = meta.Sequence.Stream
	if c.Deleted = m.Headers().Get(operationHeader) != "" || m.Headers().Get("Nats-Marker-Reason") != ""; !c.Deleted {
		c.Value = m.Data()
		if c.Value == nil {
			c.Value = []byte{}
		}
	}
	return c, ok, nil
}

// existing tells what is there, deletions left out, until there is no more.
func (r *reader) existing(ctx context.Context, tell func(store.Change) error) error {
	for {
		count := 0
		// In a cluster the consumer may have no leader yet: nobody hears the question,
		// which is the same as not having asked.
		err := r.s.retry(ctx, func(context.Context) (err error) {
			count, err = r.batch(ctx, tell)
			if count > 0 && err != nil {
				err = final{err}
			}
			return err
		})
		if err != nil || count == 0 {
			return err
		}
	}
}

// batch tells what one question brings, and how many deliveries that were.
func (r *reader) batch(ctx context.Context, tell func(store.Change) error) (count int, err error) {
	batch, err := r.consumer.FetchNoWait(readerBatch)
	if err != nil {
		return 0, err
	}
	for m := range batch.Messages() {
		count++
		c, ok, err := r.change(m)
		if err == nil && ok && !c.Deleted {
			err = own(tell(c))
		}
		if err == nil {
			err = own(ctx.Err())
		}
		if err != nil {
			return count, err
		}
	}
	if err := batch.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) {
		return count, err
	}
	return count, nil
}

// theirs marks an error that is the caller's and not NATS's.
type theirs struct{ error }

func own(err error) error {
	if err == nil {
		return nil
	}
	return final{theirs{err}}
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix string, tell func(string, []byte, uint64) error) error {
	if err := s.enter(ctx, store.CheckPrefix(prefix)); err != nil {
		return err
	}
	merged, done, err := s.start(ctx)
	if err != nil {
		return err
	}
	defer done()
	r := &reader{s: s, prefix: prefix}
	defer r.close()
	if err = s.retry(merged, r.open); err == nil {
		err = r.existing(merged, func(c store.Change) error { return tell(c.Key, c.Value, c.Revision) })
	}
	var own theirs
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case context.Cause(merged) == store.ErrClosed:
		return store.ErrClosed
	case errors.As(err, &own):
		return own.error
	}
	return s.wrong("list "+prefix, err)
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string, tell func(store.Change)) error {
	if err := store.CheckPrefix(prefix); err != nil {
		return err
	}
	merged, done, err := s.start(ctx)
	if err != nil {
		return err
	}
	defer done()
	r := &reader{s: s, prefix: prefix}
	marked, pause := false, retryPause
	for {
		err := r.watch(merged, &marked, tell)
		r.close()
		if merged.Err() != nil {
			if ctx.Err() != nil {
				return nil
			}
			return store.ErrClosed
		}
		s.log.Info("watch interrupted, going on", "prefix", prefix, "error", err)
		if marked {
			pause = retryPause
		}
		select {
		case <-merged.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, readerPauseMax)
	}
}

// watch tells changes until something breaks. Before the marker was told, it
// begins anew each time.
func (r *reader) watch(ctx context.Context, marked *bool, tell func(store.Change)) error {
	if !*marked {
		r.seen = 0
	}
	if err := r.s.retry(ctx, r.open); err != nil {
		return err
	}
	if !*marked {
		if err := r.existing(ctx, func(c store.Change) error { tell(c); return ctx.Err() }); err != nil {
			return err
		}
		if r.seen == 0 { // nothing there: a break must not bring it twice
			r.seen = r.consumer.CachedInfo().Delivered.Stream
		}
		*marked = true
		tell(store.Change{})
	}
	messages, err := r.consumer.Messages(jetstream.PullMaxMessages(readerBatch), jetstream.PullExpiry(readerExpiry),
		jetstream.PullHeartbeat(readerHeartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return err
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		c, ok, err := r.change(m)
		if err != nil {
			return err
		}
		if ok {
			tell(c)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
