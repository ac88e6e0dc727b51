package daemon

import (
	"sync"

	"github.com/keyholed/keyhole/protocol/api"
)

// eventBacklog is what a slow reader may fall behind before it loses the oldest
// events. An event is under 300 bytes.
const eventBacklog = 64

// events carries what happens to whoever listens: clients on /v1/events and the
// front panel. Publishing never blocks; a full reader loses its oldest event.
// The zero value is ready.
type events struct {
	mu      sync.Mutex
	readers map[chan api.Event]bool
}

func (e *events) publish(ev api.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.readers {
		select {
		case c <- ev:
			continue
		default:
		}
		select {
		case <-c:
		default:
		}
		select {
		case c <- ev:
		default:
		}
	}
}

// subscribe returns a channel of events from now on and the function that ends
// the subscription.
func (e *events) subscribe() (<-chan api.Event, func()) {
	c := make(chan api.Event, eventBacklog)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.readers == nil {
		e.readers = map[chan api.Event]bool{}
	}
	e.readers[c] = true
	return c, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.readers, c)
	}
}
