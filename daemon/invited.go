package daemon

import (
	"encoding/hex"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/keyholed/keyhole/pairing"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// pairInvite redeems an invite, over whichever path: the proof says all.
func (d *Daemon) pairInvite(w http.ResponseWriter, r *http.Request, c caller) error {
	var body api.InviteProof
	if err := decode(w, r, &body); err != nil {
		return err
	}
	name, err := pairing.ParseInviteName(body.Invite)
	if err != nil {
		return api.Problemf(api.CodeMalformed, "the field \"invite\": %v", err)
	}
	proof, err := hex.DecodeString(body.Proof)
	if err != nil {
		return api.Problemf(api.CodeMalformed, "the field \"proof\" is not hexadecimal")
	}
	asker, err := d.asker(c)
	if err != nil {
		return err
	}
	if c.paired {
		return api.Problemf(api.CodeConflict, "this key is paired already, as %s", c.user.Name)
	}
	granted, err := pairing.Redeem(r.Context(), d.key.Fingerprint(), inviteBook{d}, asker, pairing.InviteRequest{
		Name: body.Name, User: body.User, Invite: name, Proof: proof,
	})
	if err != nil {
		return d.inviteRefused(c, name, err)
	}
	c.session.MarkPaired()
	api.WriteJSON(w, api.Paired{User: granted.User, Role: granted.Role, Device: d.describe()})
	return nil
}

// inviteRefused gives one answer for an invite that is unknown, used, ended or
// withdrawn, and for a proof that is wrong. Only the last, of an invite that is open,
// is for the log: who names none could fill it from afar.
func (d *Daemon) inviteRefused(c caller, name pairing.InviteName, err error) error {
	var refused *pairing.Error
	if !errors.As(err, &refused) {
		return d.pairingProblem(c, err)
	}
	if _, open := d.store.GoodInvite(name.String()); open {
		d.recordFailedPairing(c, pairing.CodeProof)
	}
	return api.Problemf(api.CodeClosed, "%s", pairing.ErrRefused.Error())
}

// offersInvite tells whether a caller is told that an invite may be used now: a
// neighbour while one is open, and who came by the pass of one that still is. A
// caller from elsewhere is told nothing, and may prove an invite all the same.
func (d *Daemon) offersInvite(c caller, local bool) bool {
	if !d.byInvite() {
		return false
	}
	if c.session.Info().Via == session.ViaDirect {
		return local && d.store.HasInvites()
	}
	name, came := d.invited.by(c.peer)
	if !came {
		return false
	}
	_, good := d.store.GoodInvite(name)
	return good
}

// maxInvited bounds how many are remembered who came by an invite. There are as many
// open invites at most, and a client comes with one.
const maxInvited = 64

// invited remembers who was introduced by which invite. The zero value is ready.
type invited struct {
	mu   sync.Mutex
	came map[identity.Fingerprint]arrival
}

type arrival struct {
	invite string
	at     time.Time
}

func (i *invited) note(peer identity.Fingerprint, invite string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.came == nil {
		i.came = map[identity.Fingerprint]arrival{}
	}
	if _, known := i.came[peer]; !known && len(i.came) >= maxInvited {
		var oldest identity.Fingerprint
		for f, v := range i.came {
			if oldest.IsZero() || v.at.Before(i.came[oldest].at) {
				oldest = f
			}
		}
		delete(i.came, oldest)
	}
	i.came[peer] = arrival{invite, time.Now()}
}

// by returns the invite that brought somebody.
func (i *invited) by(peer identity.Fingerprint) (invite string, came bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	v, came := i.came[peer]
	return v.invite, came
}

// inviteEnds drops invites from the disk when their time is over, so that no later
// clock brings them back. The zero value does nothing before open.
type inviteEnds struct {
	mu     sync.Mutex
	timer  *time.Timer // nil before open and after close
	closed bool
	run    sync.Mutex // held while the list is changed; taken before mu
}

// openInviteEnds begins to look at when invites end.
func (d *Daemon) openInviteEnds(opened *closers) {
	e := &d.inviteEnds
	e.mu.Lock()
	e.timer = time.AfterFunc(0, d.endInvites)
	e.mu.Unlock()
	opened.add(func() error {
		e.mu.Lock()
		e.closed = true
		e.timer.Stop()
		e.mu.Unlock()
		e.run.Lock() // the last one has ended
		defer e.run.Unlock()
		return nil
	})
}

// soon has it look again after d. It is called when the list has changed, and does not block.
func (e *inviteEnds) soon(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.timer != nil && !e.closed {
		e.timer.Reset(d)
	}
}

func (d *Daemon) endInvites() {
	e := &d.inviteEnds
	e.run.Lock()
	defer e.run.Unlock()
	e.mu.Lock()
	closed := e.closed
	e.mu.Unlock()
	if closed {
		return
	}
	next, err := d.store.EndInvites()
	if err != nil {
		d.log.Warn("invites that have ended stay on the disk", "error", err)
		next = max(next, inviteRetry)
	}
	if next > 0 {
		e.soon(next)
	}
}

// inviteRetry is for a disk that cannot be written.
const inviteRetry = time.Minute
