package session

import (
	"crypto/tls"

	"github.com/quic-go/quic-go"

	"github.com/keyholed/keyhole/protocol/identity"
)

// resumptionEntries is how many devices a Resumption remembers.
const resumptionEntries = 64

// tokensPerDevice is for as many QUIC sessions begun at once; each token is
// used once, and each session brings a new one.
const tokensPerDevice = 4

// Resumption remembers TLS sessions, so that the next connection to the same
// device costs less. It may be shared by all Dials of a process; the zero value
// is not usable. What is pinned is checked on resumed connections as on others.
type Resumption struct {
	cache  tls.ClientSessionCache
	tokens quic.TokenStore // that prove our address to a device
}

// NewResumption makes an empty memory.
func NewResumption() *Resumption {
	return &Resumption{tls.NewLRUClientSessionCache(resumptionEntries), quic.NewLRUTokenStore(resumptionEntries, tokensPerDevice)}
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

// tokensOf does the same for address tokens: two keys of ours shall not look
// like one client to a device.
func (r *Resumption) tokensOf(own identity.Fingerprint) quic.TokenStore {
	return &ownTokens{r.tokens, own.String() + " "}
}

type ownTokens struct {
	store  quic.TokenStore
	prefix string
}

func (o *ownTokens) Pop(key string) *quic.ClientToken { return o.store.Pop(o.prefix + key) }

func (o *ownTokens) Put(key string, token *quic.ClientToken) { o.store.Put(o.prefix+key, token) }
