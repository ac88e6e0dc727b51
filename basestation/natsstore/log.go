package natsstore

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyholed/keyhole/basestation/store"
)

// Figures of a consumer of the log.
const (
	ackWait       = 10 * time.Second // after a node's death its entry goes to another
	ackProgress   = 3 * time.Second  // a live node says so this often while it works
	fetchExpiry   = 20 * time.Second
	fetchSign     = time.Second // twice this without a sign: the consumer's leader is gone
	consumerPause = time.Second
)

// Log implements store.Store.
func (s *Store) Log(ctx context.Context, subject string, data []byte) error {
	if err := s.enter(ctx, store.CheckSubject(subject), store.CheckData(data)); err != nil {
		return err
	}
	what := "log " + subject
	_, err := s.acknowledged(ctx, func() *nats.Msg {
		return &nats.Msg{Subject: s.names.entry(subject), Data: data}
	}, jetstream.WithRetryAttempts(0))
	if err == nil {
		return nil
	}
	if late := ended(ctx, what); late != nil {
		return late
	}
	return s.wrong(what, err)
}

// Consume implements store.Store. One entry is in hand at a time, so that nothing
// waits in a node that may die.
func (s *Store) Consume(ctx context.Context, name, pattern string, take func(string, []byte) error) error {
	for _, err := range []error{store.CheckName(name), store.CheckPattern(pattern)} {
		if err != nil {
			return err
		}
	}
	merged, done, err := s.start(ctx)
	if err != nil {
		return err
	}
	defer done()
	for {
		err := s.consume(merged, name, pattern, take)
		switch {
		case ctx.Err() != nil:
			return nil
		case merged.Err() != nil:
			return store.ErrClosed
		case !passing(err):
			return s.wrong("consume "+name, err)
		}
		s.log.Info("log consumer interrupted, going on", "consumer", name, "error", err)
		select {
		case <-merged.Done():
		case <-time.After(consumerPause):
		}
	}
}

func (s *Store) consume(ctx context.Context, name, pattern string, take func(string, []byte) error) error {
	var consumer jetstream.Consumer
	err := s.retry(ctx, func(ctx context.Context) (err error) {
		consumer, err = s.entries.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
			Durable:       name,
			FilterSubject: s.names.entry(pattern),
			DeliverPolicy: jetstream.DeliverAllPolicy,
			AckPolicy:     jetstream.AckExplicitPolicy,
			AckWait:       ackWait,
			MaxDeliver:    -1,
		})
		return err
	})
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		fetch, cancel := context.WithTimeout(ctx, fetchExpiry)
		m, err := consumer.Next(jetstream.FetchContext(fetch), jetstream.FetchHeartbeat(fetchSign))
		cancel()
		switch {
		case err == nil:
			s.hand(ctx, m, take)
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, nats.ErrTimeout), errors.Is(err, context.DeadlineExceeded), errors.Is(err, jetstream.ErrNoMessages):
		default:
			return temporary{err}
		}
	}
	return ctx.Err()
}

// temporary marks an error of a consumer that was there: it is worth another try
// whatever it is.
type temporary struct{ error }

func (temporary) Is(target error) bool { return target == nats.ErrTimeout }

// hand has one entry taken. While take works NATS is told so; what it answers
// later than its death is somebody else's.
func (s *Store) hand(ctx context.Context, m jetstream.Msg, take func(string, []byte) error) {
	working, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(ackProgress)
		defer tick.Stop()
		for {
			select {
			case <-working.Done():
				return
			case <-tick.C:
				_ = m.InProgress() // if it is lost the entry comes twice
			}
		}
	}()
	err := take(m.Subject()[len(s.names.entry("")):], m.Data())
	cancel()
	<-ended
	switch {
	case err == nil:
		err = m.Ack()
	case ctx.Err() != nil:
		err = m.Nak()
	default:
		err = m.NakWithDelay(delay(m))
	}
	if err != nil {
		s.log.Debug("log entry comes again", "subject", m.Subject(), "error", err)
	}
}

// delay doubles with every delivery.
func delay(m jetstream.Msg) time.Duration {
	tries := uint64(1)
	if meta, err := m.Metadata(); err == nil {
		tries = max(meta.NumDelivered, 1)
	}
	return min(store.ConsumeRetryMin<<min(tries-1, 16), store.ConsumeRetryMax)
}
