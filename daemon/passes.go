package daemon

import (
	"sync"

	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// passes are the presence passes of one epoch that were made already. Each costs a
// signature, which is milliseconds of a slow board and a tenth of a second of a
// TPM, and each that is another one costs its client a write of the address book.
// The zero value holds none.
type passes struct {
	mu    sync.Mutex
	epoch uint64
	made  map[identity.Fingerprint][]byte
}

// maxPasses is 50 KiB. Whoever comes when they are full has the others forgotten.
const maxPasses = 256

// pass returns the pass of a client in an epoch.
func (p *passes) pass(key *identity.Key, epoch uint64, client identity.Fingerprint) ([]byte, error) {
	p.mu.Lock()
	made := p.made[client]
	if p.epoch != epoch {
		made = nil
	}
	p.mu.Unlock()
	if made != nil {
		return made, nil
	}
	made, err := attach.NewPresencePass(key, epoch, client)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.made == nil || epoch > p.epoch || len(p.made) >= maxPasses {
		p.epoch, p.made = max(epoch, p.epoch), map[identity.Fingerprint][]byte{}
	}
	if epoch == p.epoch {
		p.made[client] = made
	}
	return made, nil
}
