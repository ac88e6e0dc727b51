package acl

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Flash wears out: at most this for a change of permission, both copies and the
// log together.
const (
	wearSyncs = 6
	wearBytes = 64 << 10
)

func TestWearOfAChange(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(testing.TB, string)
	}{
		{"small list", prepareChild},
		{"largest list and user", prepareLargest},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := memoryDir(t)
			c.prepare(t, dir)
			syncs, written, changes := 0, 0, 0
			mostSyncs, mostBytes, sum := 0, 0, 0
			const trials = 40
			for _, call := range record(t, dir, trials) {
				switch call.name {
				case "sync":
					syncs++
				case "write":
					written += len(call.data)
				case "ack":
					if changes++; changes > 1 { // before the first it opened
						mostSyncs, mostBytes, sum = max(mostSyncs, syncs), max(mostBytes, written), sum+written
					}
					syncs, written = 0, 0
				}
			}
			if changes != trials || mostSyncs > wearSyncs || mostBytes > wearBytes {
				t.Errorf("%d changes, up to %d syncs and %d bytes; the goal is %d and %d", changes, mostSyncs, mostBytes, wearSyncs, wearBytes)
			}
			t.Logf("up to %d syncs and %d bytes, %d on average", mostSyncs, mostBytes, sum/(changes-1))
		})
	}
}

func TestIdleWritesNothing(t *testing.T) {
	dir := memoryDir(t)
	prepareChild(t, dir)
	record(t, dir, 10)
	for _, c := range record(t, dir, -1) {
		if c.name != "open" || c.create && !strings.HasSuffix(c.path, ".db") {
			t.Errorf("an idle store made the call %s %s", c.name, c.path)
		}
	}
}

// prepareLargest makes a list of 1,000 users; the one that nextChange works on
// has every key and grant there can be.
func prepareLargest(t testing.TB, dir string) {
	t.Helper()
	prepareChild(t, dir)
	s, err := Open(childOptions(dir))
	if err != nil {
		t.Fatal(err)
	}
	l := bigList(t, MaxUsers-20)
	named := emptyList(1)
	named.Sequence = 1
	for _, id := range l.ids() {
		u := l.users[id].User.clone()
		u.Name = fmt.Sprintf("Big %d", id)
		if id > 400 && id < 408 {
			u.Name = fmt.Sprintf("User %d", id-401)
		}
		if err := named.add(u, 1); err != nil {
			t.Fatal(err)
		}
	}
	s.current.Store(named)
	for i := range 7 {
		fillInMemory(t, s, fmt.Sprintf("User %d", i), i+1)
	}
	l = s.current.Load()
	fillBlocks(t, l, maxBlockedNames-3) // nextChange blocks three
	for _, c := range s.copies {
		if err := c.rebuild(l); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "state", auditName)); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(childOptions(dir)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// fillInMemory fills a user in the list alone.
func fillInMemory(t testing.TB, s *Store, who string, first int) {
	t.Helper()
	l := s.current.Load()
	old, _, err := l.find(who)
	if err != nil {
		t.Fatal(err)
	}
	u := old.clone()
	for i := range 4 {
		u.Keys = append(u.Keys, Key{Fingerprint: fp(300_000 + first*10 + i), Name: strings.Repeat("𝔎", 30)})
	}
	for i := range 6 { // and some room for what nextChange adds
		u.Grants = append(u.Grants, Grant{Service: fmt.Sprintf("%s%02d", strings.Repeat("s", 30), i)})
	}
	next, err := l.with(change{put: u})
	if err != nil {
		t.Fatal(err)
	}
	s.current.Store(next)
}
