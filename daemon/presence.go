package daemon

import (
	"sync"

	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// presence says when a key comes and when it has gone. A client keeps several
// connections (a standing one and a few warm ones), and people want to read
// "Alice came" once. The zero value is ready.
type presence struct {
	mu   sync.Mutex
	keys map[identity.Fingerprint]*visit
}

type visit struct {
	sessions int // may be -1 for a moment, see session.Config.Observe
	first    session.Info
	name     string // of who came; a guest may be gone before his last session
	kind     string // by what he is known, with the name
}

// note counts a session and reports whether with it the key came or went, and
// the first session of the visit. name is whose key it is now, "" for a stranger.
func (p *presence) note(s session.Info, name, kind string, ended bool) (changed bool, v *visit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keys == nil {
		p.keys = map[identity.Fingerprint]*visit{}
	}
	v = p.keys[s.Peer]
	if v == nil {
		v = &visit{first: s}
		p.keys[s.Peer] = v
	}
	if name != "" {
		v.name, v.kind = name, kind
	}
	before := v.sessions
	if ended {
		v.sessions--
	} else {
		v.sessions++
	}
	if v.sessions == 0 {
		delete(p.keys, s.Peer)
	}
	was := *v                           // the caller reads it without the lock
	return before+v.sessions == 1, &was // 0 to 1 or 1 to 0
}

// sessionChanged is told of every session that begins and ends.
func (d *Daemon) sessionChanged(s session.Info, ended bool) {
	changed, visit := d.present.note(s, d.nameOf(s.Peer), d.kindOf(s.Peer), ended)
	if !changed {
		return
	}
	d.panel.refresh()
	if visit.name == "" {
		return // strangers come and go; what they try is recorded where they try it
	}
	d.sessionHappened(s.Peer, visit, ended)
}
