package daemon

import (
	"sync"

	"github.com/keyholed/keyhole/protocol/api"
)

// maxReaders bounds who listens at once: a phone and a laptop of every person of
// a large family, and 64 backlogs of 20 kB.
const maxReaders = 64

// maxReadersPerUser leaves room for everybody else.
const maxReadersPerUser = 8

// eventBacklog is what a slow reader may fall behind before it loses the oldest
// events. An event is under 300 bytes.
const eventBacklog = 64

// events carries what happens to whoever listens: clients on /v1/events and the
// front panel. Publishing never blocks; a full reader loses its oldest event.
// The zero value is ready.
type events struct {
	mu      sync.Mutex
	readers map[chan api.Event]string // with the name of who reads
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
// the subscription. It fails when too many listen already.
func (e *events) subscribe(user string) (<-chan api.Event, func(), error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	same := 0
	for _, name := range e.readers {
		if name == user {
			same++
		}
	}
	if len(e.readers) >= maxReaders || same >= maxReadersPerUser {
		return nil, nil, api.Problemf(api.CodeLimit, "too many follow the events: end one of the others first")
	}
	c := make(chan api.Event, eventBacklog)
	if e.readers == nil {
		e.readers = map[chan api.Event]string{}
	}
	e.readers[c] = user
	return c, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.readers, c)
	}, nil
}
