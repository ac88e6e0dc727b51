package basestation

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/keyholed/keyhole/internal/pace"
)

// Lines that a stranger can cause, by attaching with any key or asking for any
// device, are written so many at once and then so often; the next one says how many
// were left out. A log that is full of them hides what the operator has to see.
const (
	chatterBurst = 60
	chatterEvery = time.Second
)

// chatter is a slog.Handler for such lines.
type chatter struct {
	slog.Handler
	pace *chatterPace
}

type chatterPace struct {
	mu   sync.Mutex
	pace pace.Pace
	left int // out, since the last line
}

func newChatter(log *slog.Logger) *slog.Logger {
	return slog.New(chatter{log.Handler(), &chatterPace{pace: pace.New(chatterBurst, chatterEvery)}})
}

// may reports whether a line may be written now, and how many were not before it.
func (p *chatterPace) may(now time.Time) (left int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.pace.AllowAt(now) {
		p.left++
		return 0, false
	}
	left, p.left = p.left, 0
	return left, true
}

func (c chatter) Handle(ctx context.Context, r slog.Record) error {
	left, ok := c.pace.may(time.Now())
	if !ok {
		return nil
	}
	if left > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("left_out", left))
	}
	return c.Handler.Handle(ctx, r)
}

func (c chatter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return chatter{c.Handler.WithAttrs(attrs), c.pace}
}

func (c chatter) WithGroup(name string) slog.Handler {
	return chatter{c.Handler.WithGroup(name), c.pace}
}
