package basestation

import (
	"context"
	"errors"

	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/protocol/identity"
)

// membership is a node's place in its fleet.
type membership struct {
	s           *Server
	certificate []byte
}

func newMembership(s *Server, certificate []byte) *membership {
	return &membership{s: s, certificate: certificate}
}

// locate names the node of a prefix; nil: this one.
func (m *membership) locate(uint16) []byte { return nil }

func (m *membership) send(string, *nodeMessage) {}

func (m *membership) attached(identity.Fingerprint) {}

// find says which other nodes may have a device.
func (m *membership) find(ctx context.Context, id identity.ID) (nodes []string, p registry.Presence, err error) {
	p, err = m.s.registry.Presence(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return nil, p, err
}
