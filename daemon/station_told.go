package daemon

import (
	"log/slog"
	"sync"
	"time"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/reach"
)

const (
	// lookEvery is how often a link that says nothing is looked at, for the log: a
	// name that does not resolve is no event of the link.
	lookEvery = time.Minute
	// sameEvery is how often the log may name a reason why there is no basestation,
	// while reasons take turns.
	sameEvery = 10 * time.Minute
)

// told is what the log says of the link: that it stands, and why it does not, once for
// each reason. The zero value with a log is ready.
type told struct {
	log *slog.Logger

	mu       sync.Mutex
	attached bool
	reasons  map[string]time.Time // when each was said last; forgotten with an attach
}

// maxReasons bounds what is remembered: errors may hold addresses and times.
const maxReasons = 16

func (t *told) report(now reach.Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	attached := now.State == attach.StateAttached
	was := t.attached
	t.attached = attached
	switch {
	case attached && !was:
		t.reasons = nil
		t.log.Info("attached to the basestation", "address", now.Address, "over", now.Over)
	case !attached && now.Err != nil && t.newLocked(now.Err.Error()):
		t.log.Warn("not attached to the basestation: `keyholed status` says how it goes on", "address", now.Address, "error", now.Err)
	}
}

// newLocked reports whether a reason has not been said lately, and notes it.
func (t *told) newLocked(reason string) bool {
	if at, known := t.reasons[reason]; known && time.Since(at) < sameEvery {
		return false
	}
	if len(t.reasons) >= maxReasons || t.reasons == nil {
		t.reasons = map[string]time.Time{}
	}
	t.reasons[reason] = time.Now()
	return true
}
