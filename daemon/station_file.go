package daemon

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/keyholed/keyhole/internal/durable"
	"github.com/keyholed/keyhole/protocol/attach"
)

// What the device keeps of its basestation, in the identity directory because a
// factory reset changes none of it:
//
//	basestation.json     all of it
//	basestation.floors   the roots once more, written when one rises
//
// Both are {"state": …, "sum": "SHA-256 of state, hexadecimal"}, so that a
// flipped bit makes a file damaged and not a floor lower. A damaged one is
// begun anew. Only when both are damaged floors are lost, and then the status says
// so until the roots are other ones: a node key that was retired before could be
// believed again.
const (
	stationName = "basestation.json"
	floorsName  = "basestation.floors"
)

// maxStationBytes is ten times what there is to keep.
const maxStationBytes = 64 << 10

// maxRootFloors bounds how many root keys are remembered: those in use, and
// some of former ones, in case one comes back.
const maxRootFloors = 8

type stationState struct {
	Boots uint32      `json:"boots"`           // starts of the daemon with a basestation
	Roots []rootFloor `json:"roots,omitempty"` // newest last
	// FloorsLost is when they had to be begun anew, for these keys.
	FloorsLost []string `json:"floors_lost,omitempty"`

	Good        string `json:"good,omitempty"` // the address that answered last
	Certificate []byte `json:"certificate,omitempty"`
	Cookie      []byte `json:"cookie,omitempty"`

	// Presence is the epoch of presence passes; it only rises. List is the
	// position of the access list that it is right for.
	Presence uint64   `json:"presence"`
	List     position `json:"list"`
	// Told is the last line of the audit log whose event the basestation has
	// taken, or that was there before there was a basestation.
	Told *position `json:"told,omitempty"`
	// Time is the floor below which no clock is believed, in seconds; it only
	// rises.
	Time int64 `json:"time,omitempty"`
}

// A rootFloor is the oldest generation that a root key still stands for.
type rootFloor struct {
	Key   string `json:"key"`
	Floor uint64 `json:"floor"`
}

// A position is one in the access list, or in its log: after a reset the numbers
// begin anew, in the next epoch.
type position struct {
	Epoch  uint64 `json:"epoch"`
	Number uint64 `json:"n"`
}

// pack orders positions as numbers: 2^40 changes are 30,000 a second for a year.
func (p position) pack() uint64 { return p.Epoch<<40 | p.Number&(1<<40-1) }

// stationFile is the state and its files.
type stationFile struct {
	dir string
	log *slog.Logger

	mu      sync.Mutex
	state   stationState
	unsaved error // of the last try to write

	learnt time.Time // when what is known of the node was last written; guarded by mu
}

// openStationFile reads what there is. It never fails: a device whose memory is
// gone still has to be reachable.
func openStationFile(dir string, keys []string, log *slog.Logger) *stationFile {
	f := &stationFile{dir: dir, log: log}
	err := readSealed(filepath.Join(dir, stationName), &f.state)
	var spare stationState
	spareErr := readSealed(filepath.Join(dir, floorsName), &spare)
	first := errors.Is(err, fs.ErrNotExist) && errors.Is(spareErr, fs.ErrNotExist)
	if err != nil && !first {
		log.Warn("what was known of the basestation is lost and begun anew", "error", err)
		f.state = stationState{}
		if spareErr != nil && !errors.Is(spareErr, fs.ErrNotExist) { // none: no floor had ever risen
			log.Error("the floors of the basestation's root keys are lost: node keys that were retired could be believed again", "error", errors.Join(err, spareErr))
			f.state.FloorsLost = slices.Clone(keys)
		}
	}
	f.state.raise(spare.Roots)
	return f
}

func readSealed(path string, into *stationState) error {
	data, err := durable.ReadPrivate(path, maxStationBytes)
	if err != nil {
		return err
	}
	var sealed sealedState
	if err := json.Unmarshal(data, &sealed); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if sum := sha256.Sum256(sealed.State); sealed.Sum != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("%s: damaged", path)
	}
	if err := json.Unmarshal(sealed.State, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// sealedState is a file. State is kept as its bytes, which the sum is of.
type sealedState struct {
	State json.RawMessage `json:"state"`
	Sum   string          `json:"sum"`
}

func writeSealed(path string, s stationState) error {
	state, err := json.Marshal(s)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(state)
	var data bytes.Buffer
	fmt.Fprintf(&data, "{\"state\":%s,\n\"sum\":%q}\n", state, hex.EncodeToString(sum[:]))
	return durable.WriteFile(path, data.Bytes(), 0o600)
}

// raise takes over floors that are higher, and reports whether one was.
func (s *stationState) raise(roots []rootFloor) bool {
	risen := false
	for _, r := range roots {
		i := slices.IndexFunc(s.Roots, func(known rootFloor) bool { return known.Key == r.Key })
		switch {
		case i < 0 && r.Floor > 0:
			s.Roots = append(s.Roots, r)
			if len(s.Roots) > maxRootFloors {
				s.Roots = slices.Delete(s.Roots, 0, 1)
			}
			risen = true
		case i >= 0 && s.Roots[i].Floor < r.Floor:
			s.Roots[i].Floor = r.Floor
			risen = true
		}
	}
	return risen
}

// roots are the configured keys with what is known of them.
func (f *stationFile) roots(keys []string) ([]attach.Root, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []attach.Root
	for _, k := range keys {
		parsed, err := attach.ParseRootKey(k)
		if err != nil {
			return nil, fmt.Errorf("basestation.key %s: %w", k, err)
		}
		root := attach.Root{Key: parsed}
		for _, known := range f.state.Roots {
			if known.Key == k {
				root.Floor = known.Floor
			}
		}
		out = append(out, root)
	}
	return out, nil
}

// now is a copy of the state.
func (f *stationFile) now() stationState {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.state
	s.Roots, s.FloorsLost = slices.Clone(s.Roots), slices.Clone(s.FloorsLost)
	return s
}

// change has edit change the state, and keeps it when edit reports that it did.
// When it returns nil the change survives a power cut. On an error the change is in
// force all the same, and is written with the next one.
func (f *stationFile) change(edit func(*stationState) bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := slices.Clone(f.state.Roots)
	if !edit(&f.state) {
		return nil
	}
	err := error(nil)
	if !slices.Equal(before, f.state.Roots) {
		err = writeSealed(filepath.Join(f.dir, floorsName), stationState{Roots: f.state.Roots})
	}
	err = errors.Join(err, writeSealed(filepath.Join(f.dir, stationName), f.state))
	if err != nil && f.unsaved == nil {
		f.log.Warn("what is known of the basestation is not kept", "error", err)
	}
	f.unsaved = err
	return err
}

// learnEvery is the least between two writes for the sake of what saves the next
// start a round trip: a basestation can have the device attach anew every second,
// with another cookie each time, and a write is two synced blocks of flash.
const learnEvery = time.Hour

// learn keeps what a live link knows of its node: floors at once, the rest not more
// often than learnEvery.
func (f *stationFile) learn(good string, known attach.Known, roots []attach.Root) {
	_ = f.change(func(s *stationState) bool { // the status tells of it
		var floors []rootFloor
		for _, r := range roots {
			floors = append(floors, rootFloor{attach.FormatRootKey(r.Key), r.Floor})
		}
		risen, changed := s.raise(floors), false
		if good != "" && good != s.Good {
			s.Good, changed = good, true
		}
		if !bytes.Equal(known.Certificate, s.Certificate) || !bytes.Equal(known.Cookie, s.Cookie) {
			s.Certificate, s.Cookie, changed = known.Certificate, known.Cookie, true
		}
		due := f.learnt.IsZero() || time.Since(f.learnt) >= learnEvery
		if risen || changed && due {
			f.learnt = time.Now()
			return true
		}
		return false
	})
}

// warning is what the owner should know, or "".
func (f *stationFile) warning(keys []string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case len(f.state.FloorsLost) > 0 && slices.ContainsFunc(keys, func(k string) bool { return slices.Contains(f.state.FloorsLost, k) }):
		return "what this device knew of retired node keys of its basestation was lost: if a node key was ever stolen, give the basestation new root keys"
	case f.unsaved != nil:
		return "what is known of the basestation cannot be kept: look at the log and at the disk"
	}
	return ""
}
