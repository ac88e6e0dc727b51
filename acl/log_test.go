package acl

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholed/keyhole/protocol/identity"
)

func (b *bench) record(n int) {
	b.t.Helper()
	for i := range n {
		if err := b.Record(Event{What: WhatTunnelEnded, User: "Alice", Service: "cam", Up: uint64(i), Why: "client closed"}); err != nil {
			b.t.Fatal(err)
		}
	}
}

func TestAuditTellsEverything(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	b.enter(2, "Bob", RoleViewer)
	b.record(3)
	if _, err := b.Revoke("Bob", testBy); err != nil {
		t.Fatal(err)
	}
	want(t, b.Record(Event{What: WhatRevoked}), ErrWhat)
	all, err := b.Audit(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var whats []string
	for i, e := range all {
		whats = append(whats, string(e.What))
		if e.Number != uint64(i+1) {
			t.Errorf("line %d has number %d", i+1, e.Number)
		}
		if e.Time.IsZero() || !e.Unset {
			t.Errorf("line %d has time %v, unset %v", i+1, e.Time, e.Unset)
		}
	}
	if got, want := strings.Join(whats, ", "), "segment, created, paired, paired, tunnel ended, tunnel ended, tunnel ended, revoked"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	if last := all[7]; last.By != testBy || last.User != "Bob" || last.Fingerprint != fp(2) || last.Role != RoleViewer {
		t.Errorf("revoked: %+v", last)
	}
	page, err := b.Audit(3, 2)
	if err != nil || len(page) != 2 || page[0].Number != 4 || page[1].Number != 5 {
		t.Errorf("a page: %+v, %v", page, err)
	}
	v, err := b.Verify()
	if err != nil || v.Bad != nil || v.Lines != 8 || v.Signed != 5 || v.First != 1 || v.Last != 8 {
		t.Errorf("verify: %+v, %v", v, err)
	}
	var out bytes.Buffer
	if err := b.Export(&out, 0); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 9 {
		t.Errorf("export: %v, %s", err, &out)
	}
}

func TestVerifyNamesTheBadLine(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	b.record(5)
	b.enter(2, "Bob", RoleViewer)
	b.record(2)
	path := b.state("audit/000001.log")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(good, []byte("\n"))
	for n := range lines[:len(lines)-1] {
		offset := len(bytes.Join(lines[:n], nil))
		for _, at := range []int{0, 5, len(lines[n]) / 2, len(lines[n]) - 2} {
			bad := bytes.Clone(good)
			bad[offset+at] ^= 1
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			v, err := b.Verify()
			// A line whose text still parses shows in the one after it.
			if err != nil || v.Bad == nil || v.Bad.Line != n+1 && v.Bad.Line != n+2 {
				if last := n == len(lines)-2; !last || v.Bad == nil && at != len(lines[n])/2 {
					t.Errorf("bit of line %d byte %d flipped: %+v, %v", n+1, at, v, err)
				}
			}
		}
	}
	// A line taken out, two swapped, a permission forged by another key.
	forged := bytes.Replace(good, []byte(`"what":"paired","by":{"user":"Alice"`), []byte(`"what":"paired","by":{"user":"Mallo"`), 1)
	for name, bad := range map[string][]byte{
		"taken out": bytes.Join([][]byte{bytes.Join(lines[:4], nil), bytes.Join(lines[5:], nil)}, nil),
		"swapped":   bytes.Join([][]byte{bytes.Join(lines[:4], nil), lines[5], lines[4], bytes.Join(lines[6:], nil)}, nil),
		"forged":    forged,
		"shorter":   bytes.Join(lines[:8], nil),
	} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if v, err := b.Verify(); err != nil || v.Bad == nil {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
}

func TestTornEndIsCutOff(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	b.record(3)
	for _, tail := range []string{`{"n":7,"time":"2026`, "\x00\x00\x00\x00", "garbage\nmore garbage\n"} {
		if err := b.Store.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(b.state("audit/000001.log"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(tail); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		b.open()
		b.sound()
		b.record(1)
	}
	b.sound()
	if all, err := b.Audit(0, 0); err != nil || len(all) != 9 {
		t.Fatalf("%d lines, %v", len(all), err)
	}
}

// Damage before a signed change was no power cut: nothing is cut off.
func TestDamageInTheMiddleStays(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	b.record(3)
	b.enter(2, "Bob", RoleViewer)
	b.record(1)
	if err := b.Store.Close(); err != nil {
		t.Fatal(err)
	}
	path := b.state("audit/000001.log")
	data, _ := os.ReadFile(path)
	at := bytes.Index(data, []byte(`"tunnel ended"`))
	data[at] = 'X'
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	b.open()
	if info, err := os.Stat(path); err != nil || info.Size() != int64(len(data)) {
		t.Fatalf("the log was cut to %d of %d", info.Size(), len(data))
	}
	b.enter(3, "Carol", RoleViewer)
	if v, err := b.Verify(); err != nil || v.Bad == nil || v.Bad.Line != 4 {
		t.Fatalf("verify: %+v, %v", v, err)
	}
	b.reopen()
	if len(b.Users()) != 3 {
		t.Fatalf("users: %+v", b.Users())
	}
}

func TestSegmentsAreBounded(t *testing.T) {
	b := newBench(t)
	b.audit.limit = 2 << 10
	b.enter(1, "Alice", "")
	var old []byte
	for i := range 60 {
		b.Store.flood = flood{}
		b.record(4)
		if i%7 == 0 {
			b.enter(100+i, fmt.Sprintf("User %d", i), RoleViewer)
		}
		if data, err := os.ReadFile(b.state("audit/000001.log")); err == nil {
			old = data
		}
	}
	if n, size := len(b.audit.segments), b.audit.bytes(); size > 20*b.audit.limit || n < 5 || b.audit.segments[0].number == 1 {
		t.Fatalf("%d segments with %d bytes, from %d", n, size, b.audit.segments[0].number)
	}
	b.sound()
	before := describe(b.Store)
	last := b.audit.last
	// A cut between the checkpoint and the removal of what it covers.
	if err := os.WriteFile(b.state("audit/000001.log"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	if _, err := os.Stat(b.state("audit/000001.log")); err == nil {
		t.Error("a segment that the checkpoint covers is still there")
	}
	b.sound()
	if page, err := b.Audit(last-10, 5); err != nil || len(page) != 5 || page[0].Number != last-9 {
		t.Errorf("a page: %v, %+v", err, page)
	}
	// The log alone still leads to the list.
	if err := b.Store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range copyNames {
		if err := os.Remove(b.state(name)); err != nil {
			t.Fatal(err)
		}
	}
	b.open()
	b.sound()
	if after := describe(b.Store); after != before {
		t.Fatalf("from the log alone: got %s, want %s", after, before)
	}
}

// A revocation that only the log knows of is not undone by older copies.
func TestOlderCopiesFollowTheLog(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	b.enter(2, "Bob", RoleAdmin)
	old := map[string][]byte{}
	if err := b.Store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range copyNames {
		data, err := os.ReadFile(b.state(name))
		if err != nil {
			t.Fatal(err)
		}
		old[name] = data
	}
	b.open()
	if _, err := b.Revoke("Bob", testBy); err != nil {
		t.Fatal(err)
	}
	if err := b.Store.Close(); err != nil {
		t.Fatal(err)
	}
	for name, data := range old {
		if err := os.WriteFile(b.state(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.open()
	if b.Known(fp(2)) {
		t.Fatal("the revocation was undone")
	}
	b.sound()
}

// A value or a whole user from an earlier time does not fit its list.
func TestOldValuesAreNoticed(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	b.enter(2, "Bob", RoleViewer)
	c := b.copies[0]
	l := b.current.Load()
	plain := []byte(`{"id":2,"name":"Bob","role":"owner","keys":[]}`)
	elsewhere, err := c.sealer.seal("users", string(userKey(1)), position{1, 2}, plain)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.sealer.open("users", string(userKey(2)), elsewhere); err == nil {
		t.Error("a value was accepted in another place")
	}
	older := *l
	older.users = map[uint64]entryOf{}
	for id, u := range l.users {
		u.sequence = 1
		older.users[id] = u
	}
	if bytes.Equal(headOf(&older).Digest, headOf(l).Digest) {
		t.Error("the head does not show older users")
	}
}

func TestFloodIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.enter(1, "Alice", "")
		b.record(floodBurst + 100)
		all := b.audit.last // a new segment may have begun meanwhile
		if want := uint64(floodBurst + 3 + len(b.audit.segments) - 1); all != want {
			t.Fatalf("%d lines, want %d", all, want)
		}
		time.Sleep(10 * time.Second)
		b.record(1)
		page, err := b.Audit(all, 1)
		if err != nil || len(page) != 1 || page[0].Missed != 100 {
			t.Fatalf("%+v, %v", page, err)
		}
	})
}

// Nobody hides what others do behind a flood of his own, nor what is rare and matters.
func TestFloodHidesNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		record := func(e Event) (written bool) {
			t.Helper()
			before := b.flood.missed
			if err := b.Record(e); err != nil {
				t.Fatal(err)
			}
			return b.flood.missed <= before
		}
		flood := func(e Event) {
			t.Helper()
			for range floodBurst + 1 {
				record(e)
			}
			if record(e) {
				t.Errorf("%+v is not bounded", e)
			}
		}
		flood(Event{What: WhatTunnelEnded, Kind: KindAnonymous.String()})
		flood(Event{What: WhatSupportAction, User: "support"})
		if !record(Event{What: WhatSessionStarted, User: "Alice"}) {
			t.Error("a user's session is hidden by strangers")
		}
		flood(Event{What: WhatTunnelEnded, User: "Bob"})
		for _, what := range []What{WhatSupportBegan, WhatControlAllowed, WhatPairingFailed, WhatSettings, WhatCommand} {
			if !record(Event{What: what}) {
				t.Errorf("%s is hidden", what)
			}
		}
	})
}

func TestLongTextsAreCut(t *testing.T) {
	b := newBench(t)
	for _, long := range []string{strings.Repeat("\xff\"<é", 10_000), strings.Repeat("\x01", 10_000)} {
		if err := b.Record(Event{What: WhatPairingFailed, User: long, Why: long, Detail: long, Source: long, Path: long, Service: long, Role: long, Kind: long, Action: Action(long), Way: long, Result: long, By: By{User: long, Kind: long, Via: long, Way: long, Source: long}}); err != nil {
			t.Fatal(err)
		}
	}
	b.sound()
}

// The largest user there can be fits everywhere, and one more key or grant is
// refused.
func TestLargestUser(t *testing.T) {
	b := newBench(t)
	b.enter(1, "Alice", "")
	name := strings.Repeat("𝔘", 64)
	if _, err := b.Enter(Newcomer{Fingerprint: fp(2), User: name, KeyName: name, Role: RoleViewer}, testBy); err != nil {
		t.Fatal(err)
	}
	fill(t, b.Store, name, 2)
	b.sound()
	b.reopen()
	b.sound()
}

// fill gives a user keys and grants until there can be no more.
func fill(t testing.TB, s *Store, who string, first int) {
	t.Helper()
	refused := 0
	for i := range MaxGrants + MaxKeys {
		_, err := s.AddKey(who, fp(first*1000+i), strings.Repeat("𝔎", 16), testBy)
		if err == nil {
			_, err = s.Grant(who, Grant{Service: fmt.Sprintf("%s%02d", strings.Repeat("s", 30), i)}, testBy)
		}
		if errors.Is(err, ErrTooMany) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Fatal("nothing was refused")
	}
}

// The largest list there can be fits a copy and the checkpoint.
func TestLargestList(t *testing.T) {
	b := newBench(t)
	l := bigList(t, MaxUsers)
	for id := uint64(1); l.bytes < MaxListBytes-2000; id++ {
		u := l.users[id].User.clone()
		for i := range 5 {
			u.Keys = append(u.Keys, Key{Fingerprint: fp(200_000 + int(id)*10 + i), Name: strings.Repeat("𝔎", 60)})
		}
		l.drop(id)
		if err := l.add(u, 1); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range b.copies {
		if err := c.rebuild(l); err != nil {
			t.Fatal(err)
		}
	}
	b.current.Store(l)
	if err := b.audit.checkpoint(l, witness{}, time.Unix(0, 0).UTC()); err != nil {
		t.Fatal(err)
	}
	for i := range 300 { // copy on write makes the file larger; it must stay within its size
		if _, err := b.SetRole(fmt.Sprintf("User %d", i+2), RoleGuest, testBy); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.Degraded(); n != 0 {
		t.Fatalf("%d copies are out of use", n)
	}
	began := time.Now()
	b.reopen()
	t.Logf("%d bytes opened in %v", l.bytes, time.Since(began))
	if n := len(b.Users()); n != MaxUsers {
		t.Fatalf("%d users", n)
	}
}

func FuzzEntry(f *testing.F) {
	key, err := identity.Generate()
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range []Entry{
		{Number: 1, Event: Event{What: whatSegment}, Device: []byte("x")},
		{Number: 2, Event: Event{What: WhatPaired, By: testBy, Fingerprint: fp(1)}, Put: &User{ID: 1, Name: "Alice", Role: RoleOwner, Keys: []Key{{Fingerprint: fp(1)}}}},
		{Number: 3, Event: Event{What: WhatRevoked}, Gone: 1},
		{Number: 4, Event: Event{What: WhatTunnelEnded, Up: 1, Down: 2, Millis: 3, Why: "<idle>"}},
	} {
		line, err := e.sign(key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Add([]byte(`{"n":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := parseEntry(text, maxLineBytes)
		if err != nil {
			return
		}
		again, err := e.encode()
		if err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%q encodes to %q, %v", text, again, err)
		}
		if e.Put != nil {
			_ = e.Put.check()
		}
	})
}

// goldenSealed is "{}" under a key of zeros, in bucket "users" with key "key", at
// epoch 1 and sequence 2: devices in the field have such values.
const goldenSealed = "01a580d65b146cb24300000000000000010000000000000002" +
	"fc7eb38007fd757777273cb2076c512e73bab88ac75b6eabd92638eddf1d"

func FuzzSealed(f *testing.F) {
	s, err := newSealer(make([]byte, storeKeyBytes))
	if err != nil {
		f.Fatal(err)
	}
	golden, err := hex.DecodeString(goldenSealed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add(golden[:len(golden)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		at, plain, err := s.open("users", "key", sealed)
		same := bytes.Equal(sealed, golden)
		if same != (err == nil) || same && (string(plain) != "{}" || at != position{1, 2}) {
			t.Fatalf("%x opens as %q at %v, %v", sealed, plain, at, err)
		}
	})
}
