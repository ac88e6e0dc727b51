package session

import (
	"crypto/tls"

	"github.com/keyholed/keyhole/protocol/identity"
)

// resumptionEntries is how many devices a Resumption remembers.
const resumptionEntries = 64

// Resumption remembers TLS sessions, so that the next connection to the same
// device costs less. It may be shared by all Dials of a process; the zero value
// is not usable. What is pinned is checked on resumed connections as on others.
type Resumption struct{ cache tls.ClientSessionCache }

// NewResumption makes an empty memory.
func NewResumption() *Resumption {
	return &Resumption{tls.NewLRUClientSessionCache(resumptionEntries)}
}

// of returns the part of the memory that belongs to one key of ours on one
// path: a resumed session speaks for the key that began it.
func (r *Resumption) of(own identity.Fingerprint, path Path) tls.ClientSessionCache {
	return &ownSessions{r.cache, string(path) + " " + own.String() + " "}
}

type ownSessions struct {
	cache  tls.ClientSessionCache
	prefix string
}

func (o *ownSessions) Get(key string) (*tls.ClientSessionState, bool) {
	return o.cache.Get(o.prefix + key)
}

func (o *ownSessions) Put(key string, state *tls.ClientSessionState) {
	o.cache.Put(o.prefix+key, state)
}
