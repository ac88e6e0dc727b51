package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Subjects of the store. A beat goes to everybody; hello is asked by a node that
// starts and answered with a beat.
const (
	beatSubject  = "fleet.beat"
	helloSubject = "fleet.hello"
	callSubject  = "fleet.call" // .<node>.<kind>
	tellSubject  = "fleet.tell" // .<kind>, to all
)

// word is why a beat was sent.
type word string

const (
	alive word = "alive"
	hello word = "hello" // alive, and wants to hear the others at once
	gone  word = "gone"
)

// maxBeatBytes holds the largest node: its certificate in base64 and addresses.
const maxBeatBytes = 4 << 10

// wireBeat is a beat in JSON, at most maxBeatBytes:
//
//	{"v":1,"word":"alive","id":"n1","start":1234,"address":["192.0.2.1:7443"],"certificate":"…","draining":false}
//
// Fields that a reader does not know are left out of account, so that nodes of
// two versions can live together; another v is not heard.
type wireBeat struct {
	Version     int              `json:"v"`
	Word        word             `json:"word"`
	ID          string           `json:"id"`
	Start       uint64           `json:"start"` // random, of one run of a node
	Address     []netip.AddrPort `json:"address"`
	Certificate []byte           `json:"certificate"`
	Draining    bool             `json:"draining,omitempty"`
}

const beatVersion = 1

func (f *Fleet) encode(w word) []byte {
	n := f.Self()
	data, err := json.Marshal(wireBeat{beatVersion, w, n.ID, f.start, n.Address, n.Certificate, n.Draining})
	if err != nil {
		panic("fleet: a beat is always JSON: " + err.Error())
	}
	return data
}

func decode(data []byte) (w wireBeat, n Node, err error) {
	if len(data) > maxBeatBytes {
		return w, n, fmt.Errorf("beat of %d bytes: more than %d", len(data), maxBeatBytes)
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return w, n, fmt.Errorf("beat: %w", err)
	}
	if w.Version != beatVersion {
		return w, n, fmt.Errorf("beat of version %d: want %d", w.Version, beatVersion)
	}
	if w.Word != alive && w.Word != hello && w.Word != gone {
		return w, n, errors.New("beat without a known word")
	}
	n = Node{ID: w.ID, Address: w.Address, Certificate: w.Certificate, Draining: w.Draining}
	return w, n, n.check()
}

func (f *Fleet) beat(w word) {
	if err := f.config.Store.Publish(beatSubject, f.encode(w)); err != nil {
		f.log.Debug("heartbeat not sent", "error", err)
	}
}

// hear takes one beat, of whomever.
func (f *Fleet) hear(data []byte) {
	w, n, err := decode(data)
	if err != nil {
		f.log.Warn("heartbeat not understood", "error", err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n.ID == f.config.Self.ID {
		f.hearSelfLocked(w)
		return
	}
	if w.Word == hello {
		poke(f.nudge)
	}
	m := f.members[n.ID]
	switch {
	case w.Word == gone:
		if m != nil && m.start == w.Start { // else it has started again meanwhile
			delete(f.members, n.ID)
			poke(f.changes)
		}
		return
	case m == nil && len(f.members) >= MaxNodes-1:
		f.log.Warn("a node is not heard, the fleet is full", "node", n.ID, "nodes", MaxNodes)
		return
	case m == nil:
		m = &member{}
		f.members[n.ID] = m
		poke(f.changes)
	case !m.node.equal(n) || m.start != w.Start:
		poke(f.changes)
	}
	m.node, m.start, m.heard = n, w.Start, time.Now()
}

// hearSelfLocked tells our own beat that came back from that of a twin.
func (f *Fleet) hearSelfLocked(w wireBeat) {
	switch {
	case w.Start != f.start && w.Word == gone:
		// An earlier run of this node has said good-bye late.
	case w.Start != f.start:
		f.hearTwinLocked()
	default:
		now := time.Now()
		if f.deafLocked(now) {
			f.log.Info("the store's messages can be heard again", "after", now.Sub(f.heard))
			for _, m := range f.members { // they were out of hearing, not silent
				m.heard = now
			}
		}
		f.heard = now
	}
}

// hearTwinLocked: whoever was first stays. The later one hears the first before
// it is ready, and goes.
func (f *Fleet) hearTwinLocked() {
	select {
	case <-f.ready:
		f.log.Error("another process runs as this node; stop one of them, or give it a data directory of its own",
			"node", f.config.Self.ID)
	default:
		f.twin = true
		poke(f.changes)
	}
}

func (f *Fleet) twinned() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.twin
}

// review puts out who has been silent for too long, publishes what is left, and
// returns when to look again. While we do not hear ourselves nobody is put out:
// it is our hearing that fails.
func (f *Fleet) review() time.Duration {
	now := time.Now()
	next := OutAfter
	f.mu.Lock()
	deaf := f.deafLocked(now)
	for id, m := range f.members {
		left := OutAfter - now.Sub(m.heard)
		if left <= 0 && !deaf {
			delete(f.members, id)
			f.log.Warn("node is silent and counts as gone", "node", id)
			continue
		}
		next = min(next, max(left, BeatEvery/10))
	}
	f.mu.Unlock()
	f.publish()
	return next
}

// deafAfter is how long after our last own beat we doubt our hearing: less than
// what the others' silence takes to count, or a cut would empty the list.
const deafAfter = 3 * BeatEvery / 2

func (f *Fleet) deafLocked(now time.Time) bool { return now.Sub(f.heard) > deafAfter }
