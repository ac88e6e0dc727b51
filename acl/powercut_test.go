package acl

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Every state that a power cut could leave is built from the system calls that a
// child made, across all files of the store at once, and opened.
func TestPowerCut(t *testing.T) {
	dir := memoryDir(t)
	prepareChild(t, dir)
	changes := counts(40, 120)
	tell(t, cutStates(t, newDisk(), dir, record(t, dir, changes), counts(500, 100_000), 0))
}

// The same while a damaged copy and a torn log are being mended.
func TestPowerCutWhileMending(t *testing.T) {
	for _, damage := range []string{"access.a.db", "access.b.db", "both", "log"} {
		t.Run(damage, func(t *testing.T) {
			dir := memoryDir(t)
			prepareChild(t, dir)
			record(t, dir, 30)
			for _, name := range []string{"access.a.db", "access.b.db"} {
				if damage == name || damage == "both" {
					flip(t, filepath.Join(dir, "state", name), 0, 4*pageBytes)
				}
			}
			if damage == "log" {
				if err := os.Remove(filepath.Join(dir, "state", auditName, "000001.log")); err != nil {
					t.Fatal(err)
				}
			}
			d, err := diskOf(dir)
			if err != nil {
				t.Fatal(err)
			}
			r := cutStates(t, d, dir, record(t, dir, 3), counts(60, 7_000), 30)
			if damage == "log" { // that it is gone stays to be seen, whenever the power fails
				all := len(r.bad)
				r.bad = slices.DeleteFunc(r.bad, func(err error) bool { return errors.Is(err, errNotWhole) })
				if shown := all - len(r.bad); shown != r.states {
					t.Errorf("%d of %d states show that the log was removed", shown, r.states)
				}
			}
			tell(t, r)
		})
	}
}

// The tests above must be able to fail: without any sync, changes are lost.
func TestPowerCutNoticesMissingSyncs(t *testing.T) {
	dir := memoryDir(t)
	prepareChild(t, dir)
	d := newDisk()
	d.noSync = true
	if r := cutStates(t, d, dir, record(t, dir, 12), 60, 0); len(r.bad) == 0 {
		t.Fatalf("%d states without a sync, and none was bad", r.states)
	}
}

type cutResult struct {
	states int
	bad    []error
}

func tell(t *testing.T, r cutResult) {
	t.Helper()
	for _, err := range r.bad[:min(5, len(r.bad))] {
		t.Error(err)
	}
	t.Logf("%d states, %d bad", r.states, len(r.bad))
}

// cutStates cuts the power want times while calls are made on d.
func cutStates(t *testing.T, d *disk, dir string, calls []call, want int, acknowledged uint64) (r cutResult) {
	t.Helper()
	m := newModel(t)
	random := rand.New(rand.NewPCG(3, 4))
	each := max(1, want/len(calls)) // states after each call
	skip := max(1, len(calls)/want)
	for i, c := range calls {
		if c.name == "ack" {
			acknowledged = c.n
			continue
		}
		d.do(c)
		if i%skip != 0 || c.name == "open" && !c.create {
			continue
		}
		for k := range each {
			cut := cuts[(i/skip+k)%len(cuts)]
			r.states++
			if err := cutOnce(t, dir, d, cut, random, m, acknowledged); err != nil {
				r.bad = append(r.bad, fmt.Errorf("cut after call %d (%s %s), unsynced %s, acknowledged %d: %w", i, c.name, c.path, cut, acknowledged, err))
			}
		}
	}
	if acknowledged == 0 {
		t.Fatal("no change in the trace")
	}
	return r
}

func cutOnce(t *testing.T, dir string, d *disk, cut string, random *rand.Rand, m *model, acknowledged uint64) error {
	t.Helper()
	root, err := os.MkdirTemp(dir, "cut-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(root) }()
	if err := d.survive(root, cut, random); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(root, "device.pem"))
	if err := os.Link(filepath.Join(dir, "device.pem"), filepath.Join(root, "device.pem")); err != nil {
		t.Fatal(err)
	}
	_, err = examine(root, m, acknowledged)
	return err
}
