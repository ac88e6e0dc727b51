package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"github.com/keyholed/keyhole/internal/durable"
)

// listFloorName is the file that says which version of the vendor's list was here. It
// lies in both directories: a factory reset erases one, and whoever puts back an old
// copy of one does not bring back who was on an old list.
const listFloorName = "central-list.json"

const maxFloorBytes = 1 << 10

// A listMark is a version of the list, and what it said.
type listMark struct {
	Version uint64 `json:"version"`
	Digest  string `json:"digest"`
}

// sum is over both, so that a flipped bit is noticed.
func (m listMark) sum() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", m.Version, m.Digest))
	return hex.EncodeToString(sum[:])
}

// A listFloor remembers the newest list. It is the list task's alone.
type listFloor struct {
	paths []string
	now   listMark
}

type floorFile struct {
	listMark
	Sum string `json:"sum"`
}

// openListFloor takes the higher of what the files say. Damaged ones count as missing:
// a device that can no longer revoke is worse off than one that takes an old list from
// somebody who has the vendor's server as well.
func openListFloor(identity, state string, log *slog.Logger) *listFloor {
	f := &listFloor{paths: []string{filepath.Join(identity, listFloorName), filepath.Join(state, listFloorName)}}
	for _, path := range f.paths {
		mark, err := readFloor(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			log.Error("which version of the vendor's list was here is lost in one place: an older list could count again", "file", path, "error", err)
		}
		if err == nil && mark.Version > f.now.Version {
			f.now = mark
		}
	}
	return f
}

func readFloor(path string) (listMark, error) {
	data, err := durable.ReadPrivate(path, maxFloorBytes)
	if err != nil {
		return listMark{}, err
	}
	var file floorFile
	if err := json.Unmarshal(data, &file); err != nil {
		return listMark{}, err
	}
	if file.Sum != file.sum() {
		return listMark{}, errors.New("damaged")
	}
	return file.listMark, nil
}

// raise writes down that a version is here, before anything of it counts: both files
// are synced. The version that is here is no work.
func (f *listFloor) raise(mark listMark) error {
	if mark == f.now {
		return nil
	}
	data, err := json.Marshal(floorFile{mark, mark.sum()})
	if err != nil {
		return err
	}
	for _, path := range f.paths {
		if err := durable.WriteFile(path, append(data, '\n'), 0o600); err != nil {
			return fmt.Errorf("%w: %w", errListFloors, err)
		}
	}
	f.now = mark
	return nil
}
