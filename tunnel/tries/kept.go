package tries

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// What is kept is one JSON document: who has succeeded, longest ago first, and
// counted failures. There are no times in it, since no clock can be trusted over a
// restart: each delay begins anew then. Sources are not kept; the service's own
// counter has all their failures.
//
//	{"version": 1, "services": [{
//	  "name": "cam", "failures": 5,
//	  "known": [{"key": "<64 hex digits>", "failures": 0}],
//	  "users": [{"name": "Alice", "failures": 1}]}]}
type kept struct {
	Version  int           `json:"version"`
	Services []keptService `json:"services"`
}

type keptService struct {
	Name     string      `json:"name"`
	Failures int         `json:"failures"`
	Known    []keptKnown `json:"known,omitempty"`
	Users    []keptUser  `json:"users,omitempty"`
}

type keptKnown struct {
	Key      string `json:"key"`
	Failures int    `json:"failures,omitempty"`
}

type keptUser struct {
	Name     string `json:"name"`
	Failures int    `json:"failures"`
}

const (
	keptVersion = 1
	// MaxKeptBytes bounds what is read back: 64 services with all that each may
	// have are 8 MiB, a device with three is far below 100 KiB.
	MaxKeptBytes = 8 << 20
	maxServices  = 64
)

var errKept = errors.New("not a ledger of tries")

// keep writes the ledger. Its result is in the log: a full disk keeps nobody out,
// and the counters in memory stand.
func (l *Ledger) keep() {
	if l.config.Keep == nil {
		return
	}
	l.storing.Lock()
	defer l.storing.Unlock()
	l.mu.Lock()
	k := l.snapshotLocked()
	l.mu.Unlock()
	data, err := json.Marshal(k)
	if err == nil {
		err = l.config.Keep.Store(append(data, '\n'))
	}
	if err != nil {
		l.log.Error("failed tries are not kept over a restart", "error", err)
	}
}

func (l *Ledger) snapshotLocked() kept {
	k := kept{Version: keptVersion}
	now := time.Now()
	for name, s := range l.services {
		s.shared.settle(now)
		ks := keptService{Name: name, Failures: s.shared.failures}
		for key, o := range s.known {
			o.settle(now)
			ks.Known = append(ks.Known, keptKnown{hex.EncodeToString(key[:]), o.failures})
		}
		slices.SortFunc(ks.Known, func(a, b keptKnown) int {
			return cmp.Or(s.known[keyOf(a.Key)].success.Compare(s.known[keyOf(b.Key)].success), cmp.Compare(a.Key, b.Key))
		})
		for name, o := range s.users {
			if o.settle(now); o.failures > 0 {
				ks.Users = append(ks.Users, keptUser{name, o.failures})
			}
		}
		slices.SortFunc(ks.Users, func(a, b keptUser) int { return cmp.Compare(a.Name, b.Name) })
		if ks.Failures > 0 || len(ks.Known) > 0 || len(ks.Users) > 0 {
			k.Services = append(k.Services, ks)
		}
	}
	slices.SortFunc(k.Services, func(a, b keptService) int { return cmp.Compare(a.Name, b.Name) })
	k.Services = k.Services[:min(len(k.Services), maxServices)]
	return k
}

func keyOf(text string) (key [32]byte) {
	if len(text) == hex.EncodedLen(len(key)) {
		if _, err := hex.Decode(key[:], []byte(text)); err != nil {
			key = [32]byte{}
		}
	}
	return key
}

// restore takes over what was kept. Delays begin now.
func (l *Ledger) restore(data []byte) error {
	if len(data) > MaxKeptBytes {
		return fmt.Errorf("%w: %d bytes", errKept, len(data))
	}
	var k kept
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&k); err != nil {
		return fmt.Errorf("%w: %w", errKept, err)
	}
	if k.Version != keptVersion || len(k.Services) > maxServices {
		return errKept
	}
	now := time.Now()
	for _, ks := range k.Services {
		if l.services[ks.Name] != nil || len(ks.Known) > MaxKnown || len(ks.Users) > MaxUsers {
			return errKept
		}
		s := l.serviceLocked(ks.Name)
		for s.newcomers.AllowAt(now) { // a restart brings no new places
		}
		if err := s.shared.restore(ks.Failures, now); err != nil {
			return err
		}
		for i, kk := range ks.Known {
			key := keyOf(kk.Key)
			o := &own{success: now.Add(time.Duration(i-len(ks.Known)) * time.Second)}
			if key == [32]byte{} || s.known[key] != nil {
				return errKept
			}
			s.known[key] = o
			if err := o.restore(kk.Failures, now); err != nil {
				return err
			}
		}
		for _, ku := range ks.Users {
			o := new(own)
			if s.users[ku.Name] != nil {
				return errKept
			}
			s.users[ku.Name] = o
			if err := o.restore(ku.Failures, now); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *counter) restore(failures int, now time.Time) error {
	if failures < 0 || failures > maxFailures {
		return fmt.Errorf("%w: %d failures", errKept, failures)
	}
	c.failures, c.last, c.eased = failures, now, now
	return nil
}
