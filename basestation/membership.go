package basestation

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/keyholed/keyhole/basestation/fleet"
	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// messageKind is what the fleet calls our messages.
const messageKind = "introduction"

// membership is a node's place in its fleet; without a fleet it is alone.
type membership struct {
	s     *Server
	fleet *fleet.Fleet // nil: alone
}

func newMembership(s *Server, certificate []byte) (*membership, error) {
	m := &membership{s: s}
	if !s.config.Fleet {
		return m, nil
	}
	f, err := fleet.New(fleet.Config{
		Store: s.config.Store, Log: s.log, Changed: m.changed,
		Self: fleet.Node{ID: s.self, Address: s.address, Certificate: certificate},
	})
	if err != nil {
		return nil, err
	}
	f.Handle(messageKind, m.receive)
	m.fleet = f
	return m, nil
}

// locate names the node of a prefix by its certificate; nil: this one.
func (m *membership) locate(prefix uint16) []byte {
	if m.fleet == nil {
		return nil
	}
	if n := m.fleet.Locate(prefix); n.ID != m.s.self {
		return n.Certificate
	}
	return nil
}

// mine reports whether this node is the one of a prefix.
func (m *membership) mine(prefix uint16) bool { return m.locate(prefix) == nil }

// others are the live nodes beside this one.
func (m *membership) others() int {
	if m.fleet == nil {
		return 0
	}
	return len(m.fleet.Live()) - 1
}

// send hands a message to another node. It does not wait, and is called by the loop.
func (m *membership) send(node string, message *nodeMessage) {
	if m.fleet == nil {
		return
	}
	m.deliver(message, func(body []byte) error { return m.fleet.Send(node, messageKind, body) })
}

// tell hands a message to all other nodes.
func (m *membership) tell(message *nodeMessage) {
	if m.others() > 0 {
		m.deliver(message, func(body []byte) error { return m.fleet.Tell(messageKind, body) })
	}
}

func (m *membership) deliver(message *nodeMessage, send func([]byte) error) {
	started := m.s.tasks.start(func(context.Context) {
		body, err := encodeNodeMessage(message)
		if err == nil {
			err = send(body)
		}
		if err != nil {
			m.s.metrics.nodeMessagesLost.Inc()
			m.s.chatter.Warn("a message to another node is lost", "err", err)
			return
		}
		m.s.metrics.nodeMessages.Inc()
	})
	if !started {
		m.s.metrics.nodeMessagesLost.Inc()
	}
}

// receive is called by the fleet with a message of another node.
func (m *membership) receive(_ context.Context, from string, body []byte) ([]byte, error) {
	message, err := decodeNodeMessage(body)
	if err != nil {
		return nil, err
	}
	m.s.post(func(now time.Duration) { m.s.hub.receiveNode(now, from, message) })
	return nil, nil
}

// find says which other nodes may have a device: the one that its record names, and the
// one where it belongs, since the record may be a moment old.
func (m *membership) find(ctx context.Context, id identity.ID) (nodes []string, p registry.Presence, err error) {
	p, err = m.s.registry.Presence(ctx, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, p, err
	}
	if m.fleet == nil {
		return nil, p, nil
	}
	for _, n := range []string{p.Node, m.fleet.Locate(attach.Prefix(id)).ID} {
		if _, lives := m.fleet.Find(n); lives && n != m.s.self && !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	return nodes, p, nil
}

// changed is called by the fleet when a node came or went: devices that belong
// elsewhere now are asked to move.
func (m *membership) changed([]fleet.Node) {
	m.s.post(func(time.Duration) { m.s.hub.rearrange(m.s.config.Spread) })
	select {
	case m.s.lookAgain <- struct{}{}:
	default: // it will look anyway
	}
}

// answersFor reports whether this node is the one to say what became of the devices
// of another: of its own it is, and of those of a node that does not live the first
// that does.
func (m *membership) answersFor(node string) bool {
	if node == m.s.self || m.fleet == nil {
		return node == m.s.self
	}
	if _, lives := m.fleet.Find(node); lives {
		return false
	}
	return m.fleet.Live()[0].ID == m.s.self
}
