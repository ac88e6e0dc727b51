package natsstore

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// serverLog gives what the embedded server says to slog. Its notices are about
// itself, not about devices, so they are for whoever debugs.
type serverLog struct {
	log *slog.Logger

	mu    sync.Mutex
	error string // the last one
	when  time.Time
}

// last returns the last error since a time, or nothing.
func (l *serverLog) last(since time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.when.Before(since) {
		return ""
	}
	return l.error
}

// Errorf is called by the server for what it cannot do.
func (l *serverLog) Errorf(format string, v ...any) {
	l.mu.Lock()
	l.error, l.when = fmt.Sprintf(format, v...), time.Now()
	l.mu.Unlock()
	l.say(slog.LevelError, format, v)
}

func (l *serverLog) say(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "embedded nats", "says", fmt.Sprintf(format, v...))
	}
}

func (l *serverLog) Noticef(format string, v ...any) { l.say(slog.LevelDebug, format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.say(slog.LevelWarn, format, v) }
func (l *serverLog) Fatalf(format string, v ...any)  { l.say(slog.LevelError, format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.say(slog.LevelDebug, format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.say(slog.LevelDebug, format, v) }
