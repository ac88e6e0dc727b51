package acl

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/protocol/identity"
)

// long fills a bench with several small segments and closes it.
func long(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	b.audit.limit = 2 << 10
	b.enter(1, "Alice", "")
	for i := range 12 {
		b.Store.flood = flood{}
		b.record(6)
		b.enter(100+i, fmt.Sprintf("User %d", i), RoleViewer)
	}
	b.record(2)
	if len(b.audit.segments) < 5 {
		t.Fatalf("%d segments", len(b.audit.segments))
	}
	b.sound()
	return b
}

func (b *bench) close() {
	b.t.Helper()
	if err := b.Store.Close(); err != nil {
		b.t.Fatal(err)
	}
}

// files reads a directory of the state; restore puts it back as it was.
func (b *bench) files(dir string) map[string][]byte {
	b.t.Helper()
	kept := map[string][]byte{}
	names, err := os.ReadDir(b.state(dir))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, name := range names {
		if name.IsDir() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(b.state(dir), name.Name()))
		if err != nil {
			b.t.Fatal(err)
		}
		kept[name.Name()] = data
	}
	return kept
}

func (b *bench) restore(dir string, files map[string][]byte) {
	b.t.Helper()
	if err := os.RemoveAll(b.state(dir)); err != nil {
		b.t.Fatal(err)
	}
	if err := os.MkdirAll(b.state(dir), 0o700); err != nil {
		b.t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(b.state(dir), name), data, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}

func segmentName(n int) string { return fmt.Sprintf("audit/%06d.log", n) }

// Whatever is taken away, moved, put back or exchanged while the device is off
// shows, at once and after more starts and changes.
func TestTamperingShows(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, b *bench)
		why  string // in what Verify says
	}{
		{"first segment removed", func(t *testing.T, b *bench) {
			must(t, os.Remove(b.state(segmentName(1))))
		}, "missing before this one"},
		{"two in the middle removed", func(t *testing.T, b *bench) {
			must(t, os.Remove(b.state(segmentName(2))))
			must(t, os.Remove(b.state(segmentName(3))))
		}, "missing before this one"},
		{"last segment removed", func(t *testing.T, b *bench) {
			n := b.audit.segments[len(b.audit.segments)-1].number
			must(t, os.Remove(b.state(segmentName(n))))
		}, "missing before this one"},
		{"last lines cut off", func(t *testing.T, b *bench) {
			last := b.audit.segments[len(b.audit.segments)-1]
			data, err := os.ReadFile(b.state(segmentName(last.number)))
			must(t, err)
			end := bytes.LastIndexByte(data[:len(data)-1], '\n')
			must(t, os.WriteFile(b.state(segmentName(last.number)), data[:end+1], 0o600))
		}, "missing before this one"},
		{"all segments removed", func(t *testing.T, b *bench) {
			b.restore("audit", nil)
		}, "missing before this one"},
		{"two segments swapped", func(t *testing.T, b *bench) {
			must(t, os.Rename(b.state(segmentName(2)), b.state("audit/x")))
			must(t, os.Rename(b.state(segmentName(3)), b.state(segmentName(2))))
			must(t, os.Rename(b.state("audit/x"), b.state(segmentName(3))))
		}, "missing before this one"},
		{"the last swapped with another", func(t *testing.T, b *bench) {
			n := b.audit.segments[len(b.audit.segments)-1].number
			must(t, os.Rename(b.state(segmentName(n)), b.state("audit/x")))
			must(t, os.Rename(b.state(segmentName(n-1)), b.state(segmentName(n))))
			must(t, os.Rename(b.state("audit/x"), b.state(segmentName(n-1))))
		}, "missing before this one"},
		{"a line altered", func(t *testing.T, b *bench) {
			data, err := os.ReadFile(b.state(segmentName(2)))
			must(t, err)
			must(t, os.WriteFile(b.state(segmentName(2)), bytes.Replace(data, []byte("client closed"), []byte("Client closed"), 1), 0o600))
		}, ""},
		{"a segment twice", func(t *testing.T, b *bench) {
			data, err := os.ReadFile(b.state(segmentName(2)))
			must(t, err)
			must(t, os.WriteFile(b.state(segmentName(3)), data, 0o600))
		}, "follows line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := long(t)
			b.close()
			c.do(t, b)
			for i := range 3 {
				b.open()
				v, err := b.Verify()
				if err != nil || v.Bad == nil || !strings.Contains(v.Bad.Why, c.why) {
					t.Fatalf("start %d: %+v, %v, %v", i, v, v.Bad, err)
				}
				b.enter(500+i, fmt.Sprintf("Later %d", i), RoleViewer)
				b.record(1)
				b.close()
			}
			b.open()
		})
	}
}

// No number is given twice: who follows the log by numbers misses nothing.
func TestNumbersGoOnAfterALoss(t *testing.T) {
	b := long(t)
	last := b.audit.last
	b.close()
	b.restore("audit", nil)
	b.open()
	page, err := b.Audit(last, 0)
	if err != nil || len(page) != 2 || page[0].Number != last+1 || page[1].What != WhatRepaired {
		t.Fatalf("after line %d: %+v, %v", last, page, err)
	}
}

// A log that was put back from an earlier day is older than the list is.
func TestOlderLogShows(t *testing.T) {
	b := long(t)
	b.close()
	old := b.files("audit")
	b.open()
	if _, err := b.Revoke("User 3", testBy); err != nil {
		t.Fatal(err)
	}
	b.close()
	b.restore("audit", old)
	b.open()
	if b.Known(fp(103)) {
		t.Fatal("the revocation was undone")
	}
	if v, err := b.Verify(); err != nil || v.Bad == nil || !strings.Contains(v.Bad.Why, "missing before this one") {
		t.Fatalf("%+v, %v", v, err)
	}
}

// The same where only a session was recorded since: closing remembered it.
func TestOlderLogWithoutChangesShows(t *testing.T) {
	b := long(t)
	b.close()
	old := b.files("audit")
	b.open()
	b.record(1)
	b.close()
	b.restore("audit", old)
	b.open()
	if v, err := b.Verify(); err != nil || v.Bad == nil {
		t.Fatalf("%+v, %v", v, err)
	}
}

// Two logs that grew apart: the list remembers a line of the other one.
func TestForkedLogShows(t *testing.T) {
	b := long(t)
	b.close()
	state, audit := b.files("."), b.files("audit")
	b.open()
	b.enter(700, "Carol", RoleViewer)
	b.close()
	fork := b.files("audit")
	b.restore(".", state)
	b.restore("audit", audit)
	b.open()
	b.enter(701, "Dave", RoleViewer)
	b.record(3)
	b.close()
	b.restore("audit", fork)
	b.open()
	if v, err := b.Verify(); err != nil || v.Bad == nil {
		t.Fatalf("%+v, %v", v, err)
	}
}

func TestLogOfAnotherDeviceShows(t *testing.T) {
	b, other := long(t), long(t)
	b.close()
	other.close()
	b.restore("audit", other.files("audit"))
	b.open()
	if v, err := b.Verify(); err != nil || v.Bad == nil || !strings.Contains(v.Bad.Why, "not signed by this device") {
		t.Fatalf("%+v, %v", v, err)
	}
}

// What the bounded log lets go of is no loss, before and after starts.
func TestDroppedIsNotMissing(t *testing.T) {
	b := long(t)
	for b.audit.segments[0].number == 1 {
		b.Store.flood = flood{}
		b.record(20)
	}
	b.sound()
	b.reopen()
	b.sound()
	v, _ := b.Verify()
	if v.First == 1 || v.Witnessed != v.Last {
		t.Fatalf("%+v", v)
	}
	// But more than was let go of shows.
	b.close()
	must(t, os.Remove(b.state(segmentName(b.audit.segments[0].number))))
	b.open()
	if v, err := b.Verify(); err != nil || v.Bad == nil {
		t.Fatalf("%+v, %v", v, err)
	}
}

// Lines since the last change have no witness until the store is closed: after a
// power cut nobody can tell how many there were, and that is said.
func TestUnwitnessedLines(t *testing.T) {
	b := long(t)
	v, err := b.Verify()
	if err != nil || v.Bad != nil || v.Last != v.Witnessed+2 {
		t.Fatalf("%+v, %v", v, err)
	}
	b.reopen()
	if v, err = b.Verify(); err != nil || v.Last != v.Witnessed {
		t.Fatalf("%+v, %v", v, err)
	}
}

func TestExportIsCheckedAnywhere(t *testing.T) {
	b := long(t)
	id := b.opts.Key.ID()
	var whole, part bytes.Buffer
	must(t, b.Export(&whole, 0))
	must(t, b.Export(&part, 30))
	v, err := VerifyExport(bytes.NewReader(whole.Bytes()), id)
	if err != nil || v.Bad != nil || v.First != 1 || v.Last != b.audit.last || v.Witnessed != v.Last {
		t.Fatalf("%+v, %v, %v", v, v.Bad, err)
	}
	if v, err = VerifyExport(bytes.NewReader(part.Bytes()), id); err != nil || v.Bad != nil || v.First != 31 {
		t.Fatalf("%+v, %v, %v", v, v.Bad, err)
	}
	lines := bytes.SplitAfter(whole.Bytes(), []byte("\n"))
	lines = lines[:len(lines)-1]
	without := func(n int) []byte {
		return bytes.Join(append(append([][]byte{}, lines[:n]...), lines[n+1:]...), nil)
	}
	stranger, err := identity.Generate()
	must(t, err)
	for name, c := range map[string]struct {
		data []byte
		id   identity.ID
	}{
		"another id":          {whole.Bytes(), stranger.ID()},
		"a line out":          {without(7), id},
		"the last line out":   {without(len(lines) - 2), id},
		"the first line out":  {without(0), id},
		"the beginning out":   {bytes.Join(lines[7:], nil), id},
		"its end out":         {without(len(lines) - 1), id},
		"cut in a line":       {whole.Bytes()[:whole.Len()-10], id},
		"a line twice":        {bytes.Join([][]byte{bytes.Join(lines[:5], nil), lines[4], bytes.Join(lines[5:], nil)}, nil), id},
		"an invented line":    {bytes.Replace(whole.Bytes(), []byte(`"up":3`), []byte(`"up":9`), 1), id},
		"lines after the end": {append(bytes.Clone(whole.Bytes()), lines[3]...), id},
		"the end of a part":   {append(bytes.Join(lines[:6], nil), part.Bytes()[bytes.LastIndexByte(part.Bytes()[:part.Len()-1], '\n')+1:]...), id},
	} {
		if v, err := VerifyExport(bytes.NewReader(c.data), c.id); err != nil || v.Bad == nil {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
	if _, err := VerifyExport(strings.NewReader("{}\n"), id); err == nil {
		t.Error("nothing passes for an export")
	}
	if _, err := VerifyExport(io.LimitReader(rand.Reader, MaxExportBytes+1), id); err != ErrExportTooLarge {
		t.Errorf("too large: %v", err)
	}
}

func FuzzVerifyExport(f *testing.F) {
	b := newBench(f)
	b.enter(1, "Alice", "")
	b.record(2)
	var whole bytes.Buffer
	if err := b.Export(&whole, 0); err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Bytes())
	f.Add([]byte("{}\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := VerifyExport(bytes.NewReader(data), b.opts.Key.ID())
		if err == nil && v.Bad == nil && !bytes.HasSuffix(whole.Bytes(), data) { // older lines may be left out
			t.Errorf("%q passes: %+v", data, v)
		}
	})
}

// A log that grows, and drops its oldest segments, while it is read is whole.
func TestVerifyWhileWriting(t *testing.T) {
	b := long(t)
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := b.Record(Event{What: WhatTunnelEnded, Up: uint64(i)}); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 40 {
		v, err := b.Verify()
		if err != nil || v.Bad != nil {
			t.Errorf("%+v, %v, %v", v, v.Bad, err)
			break
		}
	}
	close(stop)
	must(t, <-done)
}
