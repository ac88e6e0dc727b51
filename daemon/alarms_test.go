package daemon

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
)

// The basestation's time counts as known, once it has said it and until the
// daemon ends, and does not go back.
func TestClockOfTheBasestation(t *testing.T) {
	var c toldClock
	if _, ok := c.now(); ok {
		t.Error("a time from nobody")
	}
	c.told(1_800_000_000, 1_800_000_001)
	if _, ok := c.now(); ok {
		t.Error("a time below the floor")
	}
	c.told(1<<63, 0)
	if _, ok := c.now(); ok {
		t.Error("a time that nobody can write")
	}
	c.told(1_800_000_000, 0)
	now, ok := c.now()
	if !ok || now.Unix() < 1_800_000_000 || now.Unix() > 1_800_000_060 {
		t.Errorf("%v, %v", now, ok)
	}
	c.told(1_700_000_000, 0)
	if now, _ := c.now(); now.Unix() < 1_800_000_000 {
		t.Errorf("it went back to %v", now)
	}
	c.told(1_900_000_000, 0)
	if now, _ := c.now(); now.Unix() < 1_900_000_000 {
		t.Errorf("it was not set right: %v", now)
	}
}

func TestStatusClockIsTold(t *testing.T) {
	d, _ := attached(t, "")
	testnet.Eventually(t, "a known clock", func() error {
		if c := d.Status().Clock; c.State != "known" || time.Since(c.Now).Abs() > time.Minute {
			return errors.New(c.State)
		}
		return nil
	})
}

// Changes of who may enter are told until they are taken, over broken links and
// restarts, in order, and without names.
func TestAlarms(t *testing.T) {
	keys := newHubKeys(t)
	h := startHub(t, keys, 1, 0)
	dir := shortDir(t)
	toml := text(dir, keys.toml())
	d := startIn(t, dir, toml)
	d.waitAttached(t)
	testnet.Eventually(t, "the log's end is known", func() error {
		if d.file().Told == nil {
			return errors.New("not yet")
		}
		return nil
	})
	d.enter(t, "Alice", acl.RoleOwner)
	d.enter(t, "Bob", acl.RoleViewer)
	var first, again, second attach.Event
	// An event may come twice; hear one that is later than another.
	hearNext := func(after uint64, into *attach.Event) {
		t.Helper()
		for e := (attach.Event{}); e.Number <= after; *into = e {
			e = attach.Event{}
			h.hears(attach.KindEvent, &e)
		}
	}
	hearNext(0, &first)
	if first.Kind != "user.paired" || strings.Contains(string(first.Data), "Alice") || !strings.Contains(string(first.Data), acl.RoleOwner) {
		t.Errorf("told %s %s", first.Kind, first.Data)
	}
	if err := d.stop(); err != nil { // it was not taken
		t.Fatal(err)
	}
	d = startIn(t, dir, toml)
	h.hears(attach.KindEvent, &again)
	if again.Number != first.Number || string(again.Data) != string(first.Data) {
		t.Errorf("after a restart %d %s, want %d %s", again.Number, again.Data, first.Number, first.Data)
	}
	h.tell(attach.KindEventTaken, attach.EventTaken{Number: first.Number + 1<<40}) // another one: means nothing
	h.tell(attach.KindEventTaken, attach.EventTaken{Number: first.Number})
	hearNext(first.Number, &second)
	if second.Kind != "user.paired" || !strings.Contains(string(second.Data), acl.RoleViewer) {
		t.Errorf("then %d %s %s", second.Number, second.Kind, second.Data)
	}
	h.tell(attach.KindEventTaken, attach.EventTaken{Number: second.Number})
	if _, err := d.store.Revoke("Bob", acl.By{Via: "test"}); err != nil {
		t.Fatal(err)
	}
	hearNext(second.Number, &second)
	if second.Kind != "user.revoked" {
		t.Errorf("then %s", second.Kind)
	}
	h.tell(attach.KindEventTaken, attach.EventTaken{Number: second.Number})
	testnet.Eventually(t, "all was taken", func() error {
		if told := d.file().Told; told == nil || told.pack() != second.Number {
			return errors.New("not yet")
		}
		return nil
	})
}
