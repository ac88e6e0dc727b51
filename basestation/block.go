package basestation

import (
	"sync"

	"github.com/keyholed/keyhole/protocol/identity"
)

// blocks are the devices that were blocked since the last turn. It is no task, which
// a flood could leave no room for, and does not wait for the loop: as many as the
// operator has blocked may be in it.
type blocks struct {
	mu  sync.Mutex
	ids []identity.ID
}

// add is told by the registry; it must not wait.
func (b *blocks) add(id identity.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ids = append(b.ids, id)
}

func (b *blocks) take() (ids []identity.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids, b.ids = b.ids, nil
	return ids
}
