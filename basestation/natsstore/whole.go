package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/internal/durable"
)

// NATS goes on with what is left when a file of it was damaged, with a warning
// at most (seen with 2.15.2: a truncated block, a flipped byte, a missing file).
// A record that is silently gone may be what kept somebody out, so we look
// ourselves: a close leaves the state of both streams in DIR/laid, and the next
// Open compares; and all records are read once, at the start or some time after it.

// mark is the content of DIR/laid in JSON. It is empty while the store is open,
// and so after a crash, when there is nothing to compare.
type mark struct {
	there     bool
	Closed    time.Time            `json:"closed,omitzero"`
	Streams   map[string]lastState `json:"streams,omitempty"`
	Deletions uint64               `json:"deletions,omitempty"` // messages that may have expired since
}

type lastState struct {
	Last     uint64 `json:"last"`
	Messages uint64 `json:"messages"`
}

const maxMarkBytes = 4 << 10

func (e *engine) markFile() string { return filepath.Join(e.dir, "laid") }

func (e *engine) readMark() (m mark, err error) {
	f, err := os.Open(e.markFile())
	if errors.Is(err, os.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxMarkBytes))
	if err != nil {
		return m, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	m, err = parseMark(data)
	if err != nil {
		return m, fmt.Errorf("%s: %w: %w", f.Name(), ErrDamaged, err)
	}
	return m, nil
}

func parseMark(data []byte) (m mark, err error) {
	if len(data) > 0 {
		err = json.Unmarshal(data, &m)
	}
	m.there = true
	return m, err
}

// wasLaid tells whether both streams were there once. An external NATS, for
// which e is nil, answers for itself.
func (e *engine) wasLaid() bool { return e != nil && e.before.there }

// distrustIndices has NATS read all blocks and check their sums when it starts. With
// the indices that a clean stop leaves it looks at none of them, and a record in which
// a bit has flipped is then one that was never there, such as that of a device that
// was to stay out.
func (e *engine) distrustIndices() error {
	indices, err := filepath.Glob(filepath.Join(e.dir, "jetstream", "*", "streams", "*", "msgs", "index.db"))
	if err != nil {
		return err // the pattern is ours
	}
	for _, name := range indices {
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	return nil
}

// laid notes that the streams are there and open.
func (e *engine) laid() error {
	if e == nil {
		return nil
	}
	return durable.WriteFile(e.markFile(), nil, 0o600)
}

// whole compares a stream with what the last close has left.
func (e *engine) whole(info *jetstream.StreamInfo) error {
	if e == nil {
		return nil
	}
	if lost := info.State.Lost; lost != nil && len(lost.Msgs) > 0 {
		return fmt.Errorf("%w: %d messages cannot be read", ErrDamaged, len(lost.Msgs))
	}
	was, known := e.before.Streams[info.Config.Name]
	if !known {
		return nil
	}
	if info.State.LastSeq < was.Last {
		return fmt.Errorf("%w: it ended at %d and ends at %d", ErrDamaged, was.Last, info.State.LastSeq)
	}
	// Entries of the log expire; of the records only the traces of deleted ones.
	if info.Config.MaxAge == 0 && info.State.Msgs+e.before.Deletions < was.Messages {
		return fmt.Errorf("%w: it had %d messages and has %d", ErrDamaged, was.Messages, info.State.Msgs)
	}
	return nil
}

// leave writes what the next Open compares with.
func (e *engine) leave(ctx context.Context, s *Store) error {
	m := mark{Closed: time.Now(), Streams: make(map[string]lastState), Deletions: s.deletions.Load()}
	if time.Since(e.before.Closed) < 2*tombstoneTTL { // traces of the run before may still be there
		m.Deletions += e.before.Deletions
	}
	for _, stream := range []jetstream.Stream{s.records, s.entries} {
		info, err := stream.Info(ctx)
		if err != nil {
			return fmt.Errorf("close nats: %w", err)
		}
		m.Streams[info.Config.Name] = lastState{info.State.LastSeq, info.State.Msgs}
	}
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("close nats: %w", err)
	}
	return durable.WriteFile(e.markFile(), data, 0o600)
}

// Figures of the look through all records after a start.
const (
	examineAfter = 30 * time.Second // devices come back first
	examinePause = 10 * time.Millisecond
	// examineAtOnce is how many records are read before anybody relies on them: a
	// tenth of a second.
	examineAtOnce = 20_000
)

// lookThrough reads every record once: before Open returns where they are few, else
// in the background.
func (s *Store) lookThrough(ctx context.Context) error {
	if !s.engine.wasLaid() {
		return nil
	}
	if s.records.CachedInfo().State.Msgs > examineAtOnce {
		s.watchOver()
		return nil
	}
	return s.examine(ctx, 0)
}

// watchOver reads every record once, in the background: 256 in 10 ms at most, so
// that a million take a minute and their blocks no memory to speak of.
func (s *Store) watchOver() {
	ctx, done, err := s.start(context.Background())
	if err != nil {
		return
	}
	go func() {
		defer done()
		if wait(ctx, examineAfter) != nil {
			return
		}
		switch err := s.examine(ctx, examinePause); {
		case errors.Is(err, ErrDamaged):
			s.health.condemn(err)
			s.log.Error("the store is damaged", "error", err)
		case err != nil:
			s.log.Warn("the store could not be examined", "error", err)
		}
	}()
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// examine returns ErrDamaged when fewer records can be read than NATS has. Twice,
// because a trace that expires meanwhile is missing too.
func (s *Store) examine(ctx context.Context, pause time.Duration) error {
	var err error
	for range 2 {
		if err = s.examineOnce(ctx, pause); err == nil || ctx.Err() != nil {
			return nil
		}
	}
	return err
}

func (s *Store) examineOnce(ctx context.Context, pause time.Duration) error {
	r := &reader{s: s}
	if err := s.retry(ctx, r.open); err != nil {
		return err
	}
	defer r.close()
	want := r.consumer.CachedInfo().NumPending
	told := uint64(0)
	for {
		count, err := r.batch(ctx, func(store.Change) error { return nil })
		if err != nil {
			return err
		}
		told += uint64(count)
		if count == 0 {
			break
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
	if told < want {
		return fmt.Errorf("%w: %d of %d records cannot be read", ErrDamaged, want-told, want)
	}
	return nil
}
