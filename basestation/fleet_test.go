package basestation

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyholed/keyhole/basestation/memstore"
	"github.com/keyholed/keyhole/basestation/push"
	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

// A cluster is some nodes on one store, with the same root keys.
type cluster struct {
	t     *testing.T
	store *memstore.Store
	first string // data directory of the first node
	nodes []*station
}

func newCluster(t *testing.T, nodes int) *cluster {
	t.Helper()
	c := &cluster{t: t, store: memstore.New()}
	t.Cleanup(func() { _ = c.store.Close() })
	for range nodes {
		c.add(nil)
	}
	c.agree()
	return c
}

// add starts one more node.
func (c *cluster) add(change func(*Config)) *station {
	c.t.Helper()
	dir := c.t.TempDir()
	if c.first == "" {
		c.first = dir
	} else {
		for _, name := range []string{rootFile, fleetFile} { // as an operator does
			data, err := os.ReadFile(filepath.Join(c.first, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
			}
			if err != nil {
				c.t.Fatal(err)
			}
		}
	}
	handle := c.store.Join()
	c.t.Cleanup(func() { _ = handle.Close() })
	s := begin(c.t, func(config *Config) {
		config.Data, config.Store, config.Fleet, config.Spread = dir, handle, true, 3*time.Second
		if change != nil {
			change(config)
		}
	})
	c.nodes = append(c.nodes, s)
	return s
}

// agree waits until all nodes know each other.
func (c *cluster) agree() {
	c.t.Helper()
	c.until("the nodes know each other", func() bool {
		for _, s := range c.nodes {
			if s.fleet.others() != len(c.nodes)-1 {
				return false
			}
		}
		return true
	})
}

func (c *cluster) until(what string, is func() bool) {
	c.t.Helper()
	testnet.Until(c.t, what, is)
}

// at returns the node where a device belongs, and one where it does not.
func (c *cluster) at(id identity.ID) (here, elsewhere *station) {
	for _, s := range c.nodes {
		if s.fleet.mine(attach.Prefix(id)) {
			here = s
		} else {
			elsewhere = s
		}
	}
	return here, elsewhere
}

func (s *station) has(f identity.Fingerprint) (has bool) {
	s.do(s.t.Context(), func(time.Duration) { _, has = s.hub.node.Device(f) })
	return has
}

// A client that reaches another node than the device is introduced all the same, and
// what goes between the two goes from node to node.
func TestIntroductionThroughAnotherNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	device := join(t, c.nodes[0].Server, newKey(t), nil).attached().agrees()
	here, elsewhere := c.at(device.key.ID())
	if !here.has(device.key.Fingerprint()) {
		t.Fatal("the device is not where it belongs")
	}
	// The client remembers the wrong node: it goes there without asking.
	scout := join(t, elsewhere.Server, c.keyOf(elsewhere), nil).attached()
	scout.mu.Lock()
	known := scout.link.Known()
	scout.mu.Unlock()
	client := join(t, elsewhere.Server, newKey(t), func(l *attach.LinkConfig) {
		l.Introduce, l.Known = &attach.Introduce{Device: device.key.ID()}, known
	})
	var m attach.Introduced
	client.hear(attach.KindIntroduced, &m)
	if len(m.Certificate) == 0 || m.Ticket.IsZero() {
		t.Fatalf("certificate of %d bytes, ticket %v", len(m.Certificate), !m.Ticket.IsZero())
	}
	client.mu.Lock()
	hash, _ := client.link.Hash()
	client.mu.Unlock()
	if _, err := m.Offer.CheckDevice(hash, device.key.ID(), client.key.Fingerprint()); err != nil {
		t.Error(err)
	}
	client.send(attach.KindCandidates, attach.Candidates{})
	var further attach.Candidates
	device.hear(attach.KindCandidates, &further)
	device.send(attach.KindCandidates, attach.Candidates{Request: further.Request})
	client.hear(attach.KindCandidates, &further)
	client.send(attach.KindTicket, attach.TicketRequest{})
	var g attach.TicketGranted
	client.hear(attach.KindTicketGranted, &g)
	if g.Ticket.IsZero() {
		t.Error("no ticket from the other node")
	}
	leg := dial(t, here.Server)
	write(t, leg, attach.AppendRelayPreface(nil, g.Ticket))
	var r attach.Relay
	device.hear(attach.KindRelay, &r)

	// What nobody has is a no, here as elsewhere.
	var no attach.NotIntroduced
	ask(t, elsewhere.Server, newKey(t), newKey(t).ID(), nil).hear(attach.KindNotIntroduced, &no)
	if no.Verdict != attach.VerdictNo {
		t.Errorf("%+v", no)
	}
}

// keyOf finds a key whose device belongs to a node.
func (c *cluster) keyOf(s *station) *identity.Key {
	for {
		if k := newKey(c.t); s.fleet.mine(attach.Prefix(k.ID())) {
			return k
		}
	}
}

// A node is killed: its devices come back at the others, and the others never notice.
func TestNodeDies(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	victim := c.nodes[2]
	lost := join(t, c.nodes[0].Server, c.keyOf(victim), nil).attached() // by way of another node
	if !victim.has(lost.key.Fingerprint()) {
		t.Fatal("the device is not where it belongs")
	}
	stays := join(t, c.nodes[0].Server, c.keyOf(c.nodes[0]), nil).attached().agrees()
	victim.stop() // without draining, so without a word to the device
	c.nodes = c.nodes[:2]
	c.agree()
	var m attach.Introduced
	ask(t, c.nodes[1].Server, newKey(t), stays.key.ID(), nil).hear(attach.KindIntroduced, &m)
	// The device finds out by its own keep-alive (see protocol/attach), and asks anew.
	lost.vanish()
	again := join(t, c.nodes[0].Server, lost.key, nil).attached()
	if !c.nodes[0].has(again.key.Fingerprint()) && !c.nodes[1].has(again.key.Fingerprint()) {
		t.Error("the device is at no node")
	}
}

// A node that drains says so: its devices go to the others before it ends, and can be
// asked for all the time.
func TestDrain(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	leaving := c.add(func(config *Config) { config.Drain = 4 * time.Second })
	c.agree()
	device := join(t, leaving.Server, c.keyOf(leaving), func(l *attach.LinkConfig) {
		l.Basestations = append(l.Basestations, c.nodes[0].Address())
	}).attached().agrees()
	began := time.Now()
	leaving.stop()
	t.Logf("drained in %v", time.Since(began).Round(time.Millisecond))
	c.nodes = c.nodes[:2]
	here, _ := c.at(device.key.ID())
	if !here.has(device.key.Fingerprint()) {
		t.Fatal("the device did not move")
	}
	var m attach.Introduced
	ask(t, c.nodes[0].Server, newKey(t), device.key.ID(), nil).hear(attach.KindIntroduced, &m)
	c.until("the record names the new node", func() bool {
		p, err := c.nodes[0].Registry().Presence(t.Context(), device.key.ID())
		return err == nil && p.State == registry.Attached && p.Node == here.NodeID()
	})
}

// A node that joins gets its share, and meanwhile every introduction succeeds.
func TestNodeJoins(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	devices := make([]*peer, 24)
	for i := range devices {
		devices[i] = join(t, c.nodes[i%2].Server, newKey(t), nil).agrees()
	}
	for _, d := range devices {
		d.attached()
	}
	joined := c.add(nil)
	share := 0
	for _, d := range devices {
		if joined.fleet.mine(attach.Prefix(d.key.ID())) {
			share++
		}
	}
	moved := func() (n int) {
		for _, d := range devices {
			if joined.has(d.key.Fingerprint()) {
				n++
			}
		}
		return n
	}
	asked := 0
	pace := time.NewTicker(20 * time.Millisecond) // below what one device is asked at most
	defer pace.Stop()
	for end := time.Now().Add(2 * patience); moved() < share; asked++ {
		if time.Now().After(end) {
			t.Fatalf("%d of %d devices moved", moved(), share)
		}
		var m attach.Introduced
		client := ask(t, c.nodes[asked%3].Server, newKey(t), devices[asked%len(devices)].key.ID(), nil)
		client.hear(attach.KindIntroduced, &m)
		client.leave()
		<-pace.C
	}
	t.Logf("%d of %d devices moved while %d introductions succeeded", share, len(devices), asked)
	if share == 0 || share == len(devices) {
		t.Errorf("a share of %d", share)
	}
}

// A node with another fleet's keys does not serve.
func TestForeignNode(t *testing.T) {
	c := newCluster(t, 1)
	handle := c.store.Join()
	defer func() { _ = handle.Close() }()
	s, err := New(Config{Listen: []string{"127.0.0.1:0"}, Data: t.TempDir(), Store: handle, Fleet: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("it serves")
	} else {
		t.Log(err)
	}
}

// Who did not come back after a restart, or from a node that died, is gone after a
// while; who did is not.
func TestReconcile(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	here := join(t, c.nodes[0].Server, newKey(t), nil).attached()
	node, other := c.at(here.key.ID())
	lost := func(node string) identity.ID {
		r := registry.New(registry.Config{Store: c.store, Node: node})
		f := newKey(t).Fingerprint()
		r.Attached(registry.Presence{Fingerprint: attach.Hash(f), Since: 99})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Run(ctx); err != nil { // writes what waits
			t.Fatal(err)
		}
		return f.ID()
	}
	ofDead := lost("dead")
	states := map[identity.ID]registry.State{
		here.key.ID(): registry.Attached, lost(node.NodeID()): registry.Gone, ofDead: registry.Gone, lost(other.NodeID()): registry.Gone,
	}
	state := func(id identity.ID) registry.State {
		p, err := node.Registry().Presence(t.Context(), id)
		if err != nil {
			return registry.Unknown
		}
		return p.State
	}
	for id := range states {
		c.until("the records are written", func() bool { return state(id) == registry.Attached })
	}
	told := make(chan push.Event, 16)
	stop, err := c.store.Subscribe(push.LivePattern, func(_ string, data []byte, _ func([]byte)) {
		var e push.Event
		if json.Unmarshal(data, &e) == nil && e.Kind == push.KindGone {
			told <- e
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	// The first node answers for the dead one, each for itself alone.
	first := c.nodes[0].fleet.fleet.Live()[0].ID
	for _, s := range c.nodes {
		if err := s.reconcileOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		if dead := state(ofDead); s.NodeID() == first && dead != registry.Gone {
			t.Errorf("the device of a dead node is %v", dead)
		}
	}
	for id, want := range states {
		if got := state(id); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	// Who waits for events hears of them as well, once.
	heard := map[string]int{}
	for len(heard) < 3 {
		select {
		case e := <-told:
			heard[e.Device]++
		case <-time.After(patience):
			t.Fatalf("heard of %d devices that are gone, want 3", len(heard))
		}
	}
	if heard[string(ofDead)] != 1 || heard[string(here.key.ID())] != 0 {
		t.Errorf("heard %v", heard)
	}
}
