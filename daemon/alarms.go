package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/protocol/attach"
)

// alarms tells the basestation, for the absent, of every change of who may enter.
//
// What there is to tell is read from the audit log, which is synced before such a
// change is in force. So there is no queue to be lost: an event is told again
// after a broken link, and after a restart, until the basestation has taken it,
// and the one thing that takes untold ones away is a factory reset, which is
// told instead. At most one is under way.
//
// The basestation learns what happened and in which role, not to whom: names and
// keys stay here.
type alarms struct {
	s    *station
	wake chan struct{} // holds one token: look again

	looked position // owned by run: there is nothing to tell up to here

	mu    sync.Mutex
	again bool     // tell the one under way once more: the link is a new one
	acked position // the last that was taken
}

// alarmKinds are the lines that are told, with what they are called: to the
// basestation for the absent, and to event streams as kind "security".
var alarmKinds = map[acl.What]string{
	acl.WhatReset:        "device.reset",
	acl.WhatPaired:       "user.paired",
	acl.WhatRevoked:      "user.revoked",
	acl.WhatRoleChanged:  "user.role",
	acl.WhatKeyAdded:     "key.added",
	acl.WhatKeyRemoved:   "key.removed",
	acl.WhatGranted:      "grant.added",
	acl.WhatGrantRemoved: "grant.removed",
	acl.WhatLimited:      "user.limited",
	acl.WhatInvited:      "user.invited",
	acl.WhatBlocked:      "guest.blocked",
	acl.WhatUnblocked:    "guest.unblocked",

	acl.WhatPairingFailed: "pairing.failed",
	acl.WhatPairingLocked: "pairing.locked",
	acl.WhatUnlocked:      "pairing.unlocked",
	acl.WhatDuplicate:     "device.duplicate",
	acl.WhatPassword:      "service.password",
	acl.WhatRepaired:      "device.repaired", // its log or list was damaged, or somebody was at it
	acl.WhatRolledBack:    "central.refused",

	acl.WhatSupportBegan:   "support.began",
	acl.WhatSupportFailed:  "support.failed",
	acl.WhatControlAllowed: "support.control",
	acl.WhatSupportEnded:   "support.ended",
}

// alarmKind is what a line is told as, if it is. That somebody becomes owner has a
// name of its own.
func alarmKind(e acl.Entry) (kind string, told bool) {
	kind, told = alarmKinds[e.What]
	if e.What == acl.WhatRoleChanged && e.Role == acl.RoleOwner {
		kind = "user.owner"
	}
	return kind, told
}

// alarmData is what is told besides.
type alarmData struct {
	Time string `json:"time,omitempty"` // RFC 3339; left out while the clock is not known
	Role string `json:"role,omitempty"`
	Via  string `json:"via,omitempty"` // how it came: "button", "code", "tcp", "control socket", …
}

// alarmAgain is when an event that was not taken is told again on the same link:
// a basestation that is alive takes it within a second.
const alarmAgain = 30 * time.Second

// alarmPage is how many lines of the log are looked at together.
const alarmPage = 200

func newAlarms(s *station) *alarms {
	return &alarms{s: s, wake: make(chan struct{}, 1)}
}

// kick has the log looked at; newLink tells the event under way once more.
func (a *alarms) kick(newLink bool) {
	a.mu.Lock()
	a.again = a.again || newLink
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// taken is told the number that the basestation has stored.
func (a *alarms) taken(number uint64) {
	a.mu.Lock()
	a.acked = position{number >> 40, number & (1<<40 - 1)}
	a.mu.Unlock()
	a.kick(false)
}

func (a *alarms) run(ctx context.Context) {
	if err := a.beginAtTheEnd(); err != nil {
		a.s.log.Error("the basestation is told nothing of what happens here", "error", err)
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var under *attach.Event // told and not taken yet
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-timer.C:
			a.mu.Lock()
			a.again = true
			a.mu.Unlock()
		}
		next, err := a.step(under)
		if err != nil && !errors.Is(err, attach.ErrSilent) && !errors.Is(err, attach.ErrBusy) {
			a.s.log.Warn("an event was not told", "error", err)
		}
		under = next
		timer.Stop()
		if under != nil {
			timer.Reset(alarmAgain)
		}
	}
}

// beginAtTheEnd leaves out what was there before there was a basestation.
func (a *alarms) beginAtTheEnd() error {
	if a.s.file.now().Told != nil {
		return nil
	}
	epoch, _ := a.s.d.store.Position()
	last := position{Epoch: epoch}
	for {
		entries, err := a.s.d.store.Audit(last.Number, alarmPage)
		if err != nil {
			return err
		}
		for _, e := range entries {
			last.Number = e.Number
		}
		if len(entries) < alarmPage {
			break
		}
	}
	_ = a.s.file.change(func(st *stationState) bool { // the status tells of it
		st.Told = &last
		return true
	})
	return nil
}

// step goes on as far as it can and returns the event that is under way then.
func (a *alarms) step(under *attach.Event) (*attach.Event, error) {
	a.mu.Lock()
	acked, again := a.acked, a.again
	a.again = false
	a.mu.Unlock()
	if under != nil && acked.pack() == under.Number {
		a.keep(acked)
		under = nil
	}
	if under != nil && !again {
		return under, nil
	}
	if under == nil {
		var err error
		if under, err = a.next(); under == nil || err != nil {
			return nil, err
		}
	}
	return under, a.s.link.Send(attach.KindEvent, under)
}

// keep remembers what was taken, over restarts. It holds d.changing, so that no
// revocation is between the list and its epoch.
func (a *alarms) keep(taken position) {
	a.s.d.changing.Lock()
	defer a.s.d.changing.Unlock()
	list := a.s.listPosition()
	_ = a.s.file.change(func(st *stationState) bool { // the status tells of it
		st.Told, st.List = &taken, list
		return true
	})
}

// next is the first event that is not taken; nil if there is none.
func (a *alarms) next() (*attach.Event, error) {
	epoch, _ := a.s.d.store.Position()
	after := position{Epoch: epoch}
	if told := a.s.file.now().Told; told != nil && told.Epoch == epoch {
		after = *told
	}
	if a.looked.Epoch == epoch && a.looked.Number > after.Number {
		after = a.looked
	}
	for {
		entries, err := a.s.d.store.Audit(after.Number, alarmPage)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			after.Number = e.Number
			if kind, told := alarmKind(e); told {
				return alarm(after, kind, e), nil
			}
		}
		if len(entries) < alarmPage {
			a.looked = after
			return nil, nil
		}
	}
}

func alarm(at position, kind string, e acl.Entry) *attach.Event {
	data := alarmData{Role: e.Role, Via: e.By.Via}
	if !e.Unset {
		data.Time = e.Time.UTC().Format(time.RFC3339)
	}
	text, _ := json.Marshal(data) // plain strings: cannot fail
	return &attach.Event{Number: at.pack(), Kind: kind, Data: text}
}
