package acl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keyholed/keyhole/internal/durable"
)

// A factory reset erases who may enter and what the owner set, and keeps the
// device's key. It is safe at every instant of a power cut because of one file:
//
//	BeginReset   intent written, synced             from here every answer is no
//	(the daemon  ends all sessions, closes the store)
//	Open         finds the intent, and then, each step harmless when run twice:
//	             1  store.key destroyed              what flash keeps is unreadable
//	             2  everything in the state directory removed
//	             3  a new key and an empty list of the next epoch
//	             4  intent removed
//
// The intent lies beside the device's key, not in what is erased.
const (
	intentName = "reset.intent"
	epochName  = "epoch" // the highest epoch there was, for when the list cannot be read
)

// maxIntentBytes bounds what is read of an intent; ours are under 100 bytes.
const maxIntentBytes = 4 << 10

// An intent is the content of the intent file. Whatever its content, the file
// being there means that a reset was begun.
type intent struct {
	Epoch uint64 `json:"epoch"` // of the list that will be
	Cause string `json:"cause"` // for the one line of the log that tells of it
}

// BeginReset writes the intent of a factory reset to the identity directory and
// returns its name when it is synced. It does not need the list to be readable, or open:
// the next Open carries the reset to its end.
func BeginReset(identityDir, cause string) (file string, err error) {
	last, err := lastEpoch(identityDir)
	if err != nil {
		return "", err
	}
	data, err := json.Marshal(intent{Epoch: last + 1, Cause: cause[:min(len(cause), maxText)]})
	if err != nil {
		return "", err
	}
	file = filepath.Join(identityDir, intentName)
	if err := durable.WriteFile(file, data, 0o600); err != nil {
		return "", fmt.Errorf("the reset cannot be begun, nothing was erased: %w", err)
	}
	return file, nil
}

// BeginReset is the function of that name for an open list: from here on every
// decision is no and nothing can be changed. Close the store, then Open it anew.
func (s *Store) BeginReset(identityDir, cause string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := noteEpoch(identityDir, s.current.Load().Epoch); err != nil {
		return fmt.Errorf("the reset cannot be begun, nothing was erased: %w", err)
	}
	_, err := BeginReset(identityDir, cause)
	for full(err) && s.ballast.release() {
		_, err = BeginReset(identityDir, cause)
	}
	if err != nil {
		return err
	}
	s.readOnly = ErrResetting
	s.current.Store(emptyList(s.current.Load().Epoch))
	return nil
}

// ErrResetting is the answer to a change after BeginReset.
var ErrResetting = errors.New("a factory reset is under way")

// resumeReset erases, if a reset was begun, and returns its intent.
func (s *Store) resumeReset(o Options) (*intent, error) {
	in, err := finishReset(o)
	if err != nil && s.readOnly != nil {
		return nil, fmt.Errorf("a factory reset was begun and cannot go on while %s is read-only: %w", o.StateDir, err)
	}
	if in != nil {
		s.log.Warn("factory reset: everything is erased", "epoch", in.Epoch, "cause", in.Cause)
	}
	return in, err
}

// firstOrReset makes the first list of a device, or of its next epoch.
func (s *Store) firstOrReset(o Options, keyPath string, begun *intent) error {
	if begun == nil {
		return s.first(keyPath, 1, Event{What: WhatCreated})
	}
	if err := s.first(keyPath, begun.Epoch, Event{What: WhatReset, Detail: begun.Cause}); err != nil {
		return err
	}
	return endReset(o, begun)
}

// finishReset carries a reset that was begun to the point where the first list
// of the new epoch can be made. It returns nil without an intent.
func finishReset(o Options) (*intent, error) {
	in, err := readIntent(o.IdentityDir)
	if in == nil || err != nil {
		return nil, err
	}
	if err := destroy(filepath.Join(o.IdentityDir, storeKeyName)); err != nil {
		return nil, fmt.Errorf("reset: store key: %w", err)
	}
	if err := erase(o.StateDir); err != nil {
		return nil, fmt.Errorf("reset: %w", err)
	}
	return in, nil
}

// endReset forgets the intent once the new list is on disk.
func endReset(o Options, in *intent) error {
	if err := noteEpoch(o.IdentityDir, in.Epoch); err != nil {
		return err
	}
	return durable.Remove(filepath.Join(o.IdentityDir, intentName))
}

func readIntent(identityDir string) (*intent, error) {
	path := filepath.Join(identityDir, intentName)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	last, err := lastEpoch(identityDir)
	if err != nil {
		return nil, err
	}
	in := &intent{Epoch: last + 1, Cause: "the intent could not be read"}
	if info.Size() > maxIntentBytes {
		return in, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var read intent
	if json.Unmarshal(data, &read) == nil && read.Epoch >= in.Epoch {
		in = &read
	}
	return in, nil
}

// destroy overwrites a file before it removes it. On flash that promises
// nothing by itself: old blocks may live on until they are erased.
func destroy(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, storeKeyBytes))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return durable.Remove(path)
}

// erase removes all that is in dir and keeps dir, which may be a mount point.
func erase(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return durable.SyncDir(dir)
}

// lastEpoch is the highest epoch that a reset has noted; 1 where there was none.
func lastEpoch(identityDir string) (uint64, error) {
	data, err := os.ReadFile(filepath.Join(identityDir, epochName))
	if errors.Is(err, fs.ErrNotExist) {
		return 1, nil
	}
	if err != nil {
		return 0, err
	}
	var epoch uint64
	if _, err := fmt.Sscanf(string(data), "%d\n", &epoch); err != nil || epoch == 0 {
		return 1, nil // then the epoch of the list itself is the only witness
	}
	return epoch, nil
}

func noteEpoch(identityDir string, epoch uint64) error {
	if last, err := lastEpoch(identityDir); err != nil || last >= epoch {
		return err
	}
	return durable.WriteFile(filepath.Join(identityDir, epochName), fmt.Appendf(nil, "%d\n", epoch), 0o600)
}

// Made reports whether the device with this identity directory has, or had, a
// list that is not about to be erased by a reset.
func Made(identityDir string) bool {
	there := func(name string) bool {
		_, err := os.Lstat(filepath.Join(identityDir, name))
		return err == nil
	}
	return there(storeKeyName) && !there(intentName)
}
