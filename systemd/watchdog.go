package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// A Watchdog tells systemd that the service is alive, as long as a check of ours
// agrees. When it stops telling, systemd ends and restarts the process.
//
// A goroutine that only sends messages proves that this goroutine runs. So the
// check must go through what users need: take the locks, ask the main loops.
type Watchdog struct {
	limit time.Duration // what systemd tolerates; 0: there is no watchdog
	check func(context.Context) error
	log   *slog.Logger
	ready chan struct{}
}

// NewWatchdog reads from the environment whether systemd watches us. check must
// return nil when the service does its job, and should give up when its context
// ends. Its error is logged and withholds one message.
func NewWatchdog(check func(context.Context) error, log *slog.Logger) (*Watchdog, error) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("understand systemd's watchdog: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	w := &Watchdog{limit: limit, check: check, log: log, ready: make(chan struct{})}
	close(w.ready) // there is nothing to wait for
	return w, nil
}

// Run checks and tells until ctx ends, and returns nil. It does so at half of
// the time that systemd tolerates (sd_watchdog_enabled(3)), so that one late
// message kills nobody.
//
// The check runs in this goroutine on purpose: one that hangs for ever stops the
// messages, which is the news that systemd needs.
func (w *Watchdog) Run(ctx context.Context) error {
	if w.limit == 0 {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(w.limit / 2)
	defer ticker.Stop()
	for {
		w.once(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (w *Watchdog) once(ctx context.Context) {
	inTime, cancel := context.WithTimeout(ctx, w.limit/2)
	defer cancel()
	err := w.check(inTime)
	if err == nil {
		err = inTime.Err() // it passed, too late
	}
	if ctx.Err() != nil {
		return // stopping: the end of the check says nothing
	}
	if err != nil {
		w.log.Error("watchdog check failed, systemd is not told that we live", "error", err)
		return
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyWatchdog); err != nil {
		w.log.Warn("systemd was not told", "state", daemon.SdNotifyWatchdog, "error", err)
	}
}

// Ready is closed from the start.
func (w *Watchdog) Ready() <-chan struct{} { return w.ready }

func (w *Watchdog) String() string { return "watchdog" }
