package daemon

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/keyholed/keyhole/internal/pace"
)

// complaints bound how much a basestation can have the device write into its log,
// which is on flash as well: 20 at once and then one each 10 s. More are said at
// level debug. The zero value is not ready; use newComplaints.
type complaints struct {
	log *slog.Logger

	mu   sync.Mutex
	pace pace.Pace // guarded by mu
}

func newComplaints(log *slog.Logger) *complaints {
	return &complaints{log: log, pace: pace.New(20, 10*time.Second)}
}

func (c *complaints) say(message string, args ...any) {
	c.mu.Lock()
	level := slog.LevelDebug
	if c.pace.AllowAt(time.Now()) {
		level = slog.LevelInfo
	}
	c.mu.Unlock()
	c.log.Log(context.Background(), level, message, args...)
}
