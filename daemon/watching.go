package daemon

import (
	"log/slog"
	"sync"
	"time"

	"github.com/keyholed/keyhole/hal"
)

// watchRetry is when a light that did not switch is tried again.
const watchRetry = time.Second

// watching keeps the light for those who watch as it must be: on exactly while at
// least one tunnel to a service of media is open. It keeps no count of its own that
// could drift: it looks at the tunnels that there are, each time one was opened or
// has ended. No setting, request or button reaches it, and the display, which may
// be slow, does not hold it up.
//
// It lives from before the first tunnel until after the last one, also while the
// daemon stops and lets tunnels finish. If the process is killed, what the light
// then does is up to the board.
type watching struct {
	light hal.Light  // nil: the board has none
	media func() int // tunnels of media that are open now
	log   *slog.Logger

	look chan struct{} // holds one token: something changed
	stop chan struct{}
	over sync.WaitGroup
	once sync.Once
}

// startWatching begins with the light off. close ends it.
func startWatching(light hal.Light, media func() int, log *slog.Logger) *watching {
	w := &watching{light: light, media: media, log: log, look: make(chan struct{}, 1), stop: make(chan struct{})}
	if light != nil {
		w.over.Go(w.run)
	}
	return w
}

// changed has it look again. It never blocks. Nil has nothing to do.
func (w *watching) changed() {
	if w == nil {
		return
	}
	select {
	case w.look <- struct{}{}:
	default:
	}
}

func (w *watching) run() {
	retry := time.NewTimer(0)
	defer retry.Stop()
	shown, known := false, false
	for {
		on := w.media() > 0
		if on != shown || !known {
			known = w.set(on)
			shown = on
		}
		if known {
			retry.Stop()
		} else {
			retry.Reset(watchRetry)
		}
		select {
		case <-w.look:
		case <-retry.C:
		case <-w.stop:
			return
		}
	}
}

// set switches the light and reports whether it did.
func (w *watching) set(on bool) bool {
	pattern := hal.Off
	if on {
		pattern = hal.On
	}
	if err := w.light.Set(pattern); err != nil {
		w.log.Error("the light that tells that somebody watches does not switch", "on", on, "error", err)
		return false
	}
	return true
}

// close ends it, when no tunnel is left. The board turns its lights off.
func (w *watching) close() error {
	w.once.Do(func() { close(w.stop) })
	w.over.Wait()
	return nil
}

// watchers are the names of those who have a tunnel to a service of media open, in
// the order in which they came, each once.
func (d *Daemon) watchers() []string {
	names := []string{}
	seen := map[string]bool{}
	for _, t := range d.bridge.List() {
		name := t.Meta.User
		if name == "" {
			name = somebody
		}
		if t.Media && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// somebody is who uses a service that authenticates by itself: nobody knows a name.
const somebody = "somebody"
