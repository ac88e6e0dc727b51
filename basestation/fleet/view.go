package fleet

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
)

// seat is a node that takes prefixes, with the number that stands for its id in
// the hash.
type seat struct {
	seed uint64
	node int // index into view.live
}

// seen makes a view of the nodes that live. When all of them drain, all take
// prefixes: a leaving node is better than none.
func seen(live []Node) *view {
	slices.SortFunc(live, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	v := &view{live: live}
	for _, draining := range []bool{false, true} {
		for i, n := range live {
			if n.Draining == draining {
				sum := sha256.Sum256([]byte("keyhole/1 rendezvous\x00" + n.ID))
				v.takes = append(v.takes, seat{binary.BigEndian.Uint64(sum[:]), i})
			}
		}
		if len(v.takes) > 0 {
			break
		}
	}
	return v
}

// Locate returns the node responsible for a prefix: rendezvous hashing over the
// live nodes that do not drain, so that a node that joins or leaves moves its own
// share and no other. It costs a few nanoseconds a node and allocates nothing.
func (f *Fleet) Locate(prefix uint16) Node { return f.view.Load().locate(prefix) }

func (v *view) locate(prefix uint16) Node {
	best, highest := v.takes[0], uint64(0)
	for _, s := range v.takes {
		if score := mix(s.seed ^ uint64(prefix)*0x9e3779b97f4a7c15); score >= highest {
			best, highest = s, score
		}
	}
	return v.live[best.node]
}

// mix spreads a number over all bits: the finaliser of splitmix64 (Steele, Lea,
// Flood, 2014). It need not withstand anybody: who owns a prefix gains nothing.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// publish makes the view anew if something changed, and says so. It is called
// from Run and from Leave; the lock keeps the calls of Changed apart and in order.
func (f *Fleet) publish() {
	f.calls.telling.Lock()
	defer f.calls.telling.Unlock()
	f.mu.Lock()
	live := []Node{f.Self()}
	for _, m := range f.members {
		live = append(live, m.node)
	}
	next := seen(live)
	before := f.view.Load()
	same := slices.EqualFunc(before.live, next.live, Node.equal)
	if !same {
		f.view.Store(next)
	}
	f.mu.Unlock()
	if same {
		return
	}
	f.say(before.live, next.live)
	if f.config.Changed != nil {
		f.config.Changed(next.live)
	}
}

// say logs who came and who went.
func (f *Fleet) say(before, after []Node) {
	has := func(nodes []Node, id string) bool {
		return slices.ContainsFunc(nodes, func(n Node) bool { return n.ID == id })
	}
	for _, n := range after {
		if !has(before, n.ID) {
			f.log.Info("node joined", "node", n.ID, "nodes", len(after))
		}
	}
	for _, n := range before {
		if !has(after, n.ID) {
			f.log.Info("node left", "node", n.ID, "nodes", len(after))
		}
	}
}
