package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keyholed/keyhole/basestation/store"
)

func testRecords(t *testing.T, b *bench) {
	ctx := limited(t)
	one, two := b.open(), b.open()
	if _, _, err := one.Get(ctx, "device/a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("get of nothing: got %v, want ErrNotFound", err)
	}
	first := must[uint64](t, "create")(one.Create(ctx, "device/a", []byte("1")))
	if first == 0 {
		t.Error("create: revision 0")
	}
	value, revision, err := two.Get(ctx, "device/a")
	if err != nil || string(value) != "1" || revision != first {
		t.Fatalf("get by the other node: got %q %d %v, want 1 %d", value, revision, err, first)
	}
	second := must[uint64](t, "update")(two.Update(ctx, "device/a", []byte("2"), first))
	third := must[uint64](t, "put")(one.Put(ctx, "device/a", []byte("3")))
	if second <= first || third <= second {
		t.Errorf("revisions %d, %d, %d do not grow", first, second, third)
	}
	value, revision, err = two.Get(ctx, "device/a")
	if err != nil || string(value) != "3" || revision != third {
		t.Errorf("get after put: got %q %d %v, want 3 %d", value, revision, err, third)
	}
	must[uint64](t, "put of nothing")(one.Put(ctx, "empty", nil))
	if value, _, err := one.Get(ctx, "empty"); err != nil || len(value) != 0 {
		t.Errorf("get of an empty value: got %q, %v", value, err)
	}
	if err := one.Check(ctx); err != nil {
		t.Errorf("check: %v", err)
	}
}

func testConflicts(t *testing.T, b *bench) {
	ctx := limited(t)
	s := b.open()
	if _, err := s.Update(ctx, "k", []byte("x"), 7); !errors.Is(err, store.ErrConflict) {
		t.Errorf("update of nothing: got %v, want ErrConflict", err)
	}
	first := must[uint64](t, "create")(s.Create(ctx, "k", []byte("1")))
	if _, err := s.Create(ctx, "k", []byte("2")); !errors.Is(err, store.ErrExists) {
		t.Errorf("second create: got %v, want ErrExists", err)
	}
	if _, err := s.Update(ctx, "k", []byte("x"), 0); !errors.Is(err, store.ErrConflict) {
		t.Errorf("update of revision 0: got %v, want ErrConflict", err)
	}
	must[uint64](t, "update")(s.Update(ctx, "k", []byte("2"), first))
	for _, stale := range []uint64{first, first + 100} {
		if _, err := s.Update(ctx, "k", []byte("x"), stale); !errors.Is(err, store.ErrConflict) {
			t.Errorf("update of revision %d: got %v, want ErrConflict", stale, err)
		}
		if err := s.Delete(ctx, "k", stale); !errors.Is(err, store.ErrConflict) {
			t.Errorf("delete of revision %d: got %v, want ErrConflict", stale, err)
		}
	}
	if value, _, _ := s.Get(ctx, "k"); string(value) != "2" {
		t.Errorf("after conflicts: got %q, want 2", value)
	}
}

// testRace has two nodes count one record up by turns that nobody arranges.
func testRace(t *testing.T, b *bench) {
	ctx := limited(t)
	const nodes, each = 4, 25
	must[uint64](t, "create")(b.open().Create(ctx, "count", []byte{0}))
	var all sync.WaitGroup
	for range nodes {
		s := b.open()
		all.Go(func() {
			for range each {
				for {
					value, revision, err := s.Get(ctx, "count")
					if err != nil {
						t.Errorf("get: %v", err)
						return
					}
					_, err = s.Update(ctx, "count", []byte{value[0] + 1}, revision)
					if err == nil {
						break
					}
					if !errors.Is(err, store.ErrConflict) {
						t.Errorf("update: %v", err)
						return
					}
				}
			}
		})
	}
	all.Wait()
	if value, _, err := b.open().Get(ctx, "count"); err != nil || value[0] != nodes*each {
		t.Errorf("count: got %v, %v, want %d", value, err, nodes*each)
	}
}

func testDelete(t *testing.T, b *bench) {
	ctx := limited(t)
	s, other := b.open(), b.open()
	if err := s.Delete(ctx, "k", 0); err != nil {
		t.Errorf("delete of nothing: %v", err)
	}
	if err := s.Delete(ctx, "k", 3); !errors.Is(err, store.ErrConflict) {
		t.Errorf("delete of a revision of nothing: got %v, want ErrConflict", err)
	}
	var last uint64
	for _, exact := range []bool{false, true} {
		revision := must[uint64](t, "create")(s.Create(ctx, "k", []byte("x")))
		if revision <= last {
			t.Errorf("created anew: revision %d after %d", revision, last)
		}
		last = revision
		if !exact {
			revision = 0
		}
		if err := other.Delete(ctx, "k", revision); err != nil {
			t.Fatalf("delete of revision %d: %v", revision, err)
		}
		if _, _, err := s.Get(ctx, "k"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("get after delete: got %v, want ErrNotFound", err)
		}
		if _, err := s.Update(ctx, "k", []byte("y"), last); !errors.Is(err, store.ErrConflict) {
			t.Errorf("update after delete: got %v, want ErrConflict", err)
		}
		if _, found := collect(t, s, ""); len(found) != 0 {
			t.Errorf("list after delete: got %v", found)
		}
	}
}

// testKeysApart holds that keys which differ in a dot, a slash or a dash are
// different keys, whatever the store below makes of such characters.
func testKeysApart(t *testing.T, b *bench) {
	ctx := limited(t)
	s := b.open()
	keys := []string{"a", "a.b", "a/b", "a-b", "a_b", "a..b", "a/b/c", "a.b/c", "a/b.c", ".", "-", "_", "..", "a/.", "0"}
	for _, key := range keys {
		must[uint64](t, "create "+key)(s.Create(ctx, key, []byte(key)))
	}
	for _, key := range keys {
		if value, _, err := s.Get(ctx, key); err != nil || string(value) != key {
			t.Errorf("get %q: got %q, %v", key, value, err)
		}
	}
	_, found := collect(t, s, "a/")
	want := []string{"a/.", "a/b", "a/b.c", "a/b/c"}
	if !slices.Equal(found, want) {
		t.Errorf("list a/: got %v, want %v", found, want)
	}
	if _, found := collect(t, s, ""); len(found) != len(keys) {
		t.Errorf("list: got %v, want all of %v", found, keys)
	}
}

func testCopies(t *testing.T, b *bench) {
	ctx := limited(t)
	s := b.open()
	value := []byte("before")
	must[uint64](t, "put")(s.Put(ctx, "k", value))
	copy(value, "change")
	read := must2(t, s, "k")
	if string(read) != "before" {
		t.Errorf("the store kept the caller's slice: got %q", read)
	}
	copy(read, "change")
	if again := must2(t, s, "k"); string(again) != "before" {
		t.Errorf("the store handed out its own slice: got %q", again)
	}
}

func must2(t *testing.T, s store.Store, key string) []byte {
	t.Helper()
	value, _, err := s.Get(limited(t), key)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	return value
}

func testLimits(t *testing.T, b *bench) {
	ctx := limited(t)
	s := b.open()
	longest := strings.Repeat("k", store.MaxKeyBytes)
	largest := bytes.Repeat([]byte("v"), store.MaxValueBytes)
	must[uint64](t, "largest record")(s.Create(ctx, longest, largest))
	if value := must2(t, s, longest); !bytes.Equal(value, largest) {
		t.Errorf("largest record: %d bytes came back", len(value))
	}
	if err := s.Log(ctx, strings.Repeat("s", store.MaxSubjectBytes), largest[:store.MaxDataBytes]); err != nil {
		t.Errorf("largest log entry: %v", err)
	}
	big := append(largest, 'v')
	write := func(_ uint64, err error) error { return err }
	request := func(_ []byte, err error) error { return err }
	for what, err := range map[string]error{
		"create, key":     write(s.Create(ctx, "A", nil)),
		"create, value":   write(s.Create(ctx, "b", big)),
		"update, key":     write(s.Update(ctx, longest+"k", nil, 1)),
		"update, value":   write(s.Update(ctx, "b", big, 1)),
		"put, key":        write(s.Put(ctx, "a//b", nil)),
		"put, value":      write(s.Put(ctx, "b", big)),
		"soon, key":       s.PutSoon("a/", nil),
		"soon, value":     s.PutSoon("b", big),
		"delete":          s.Delete(ctx, "a*", 0),
		"list":            s.List(ctx, "a", nil),
		"watch":           s.Watch(ctx, ">", nil),
		"publish":         s.Publish("a.*", nil),
		"publish, data":   s.Publish("a", big),
		"request":         request(s.Request(ctx, "", nil)),
		"request, data":   request(s.Request(ctx, "a", big)),
		"log":             s.Log(ctx, "a b", nil),
		"log, data":       s.Log(ctx, "a", big),
		"consume":         s.Consume(ctx, "n", "a..b", nil),
		"consume, name":   s.Consume(ctx, "n.n", "a", nil),
		"subscribe":       func() error { _, err := s.Subscribe("a>", nil); return err }(),
		"subscribe, none": func() error { _, err := s.Subscribe("", nil); return err }(),
	} {
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", what, err)
		}
	}
	if _, _, err := s.Get(ctx, "a b"); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("get: got %v, want ErrInvalid", err)
	}
}

func testList(t *testing.T, b *bench) {
	ctx := limited(t)
	s, other := b.open(), b.open()
	if _, found := collect(t, s, ""); len(found) != 0 {
		t.Errorf("list of nothing: got %v", found)
	}
	const many = 700 // more than any batch below
	want := map[string]uint64{}
	for i := range many {
		key := fmt.Sprintf("device/%02x/%d", i%256, i)
		want[key] = must[uint64](t, "put")(s.Put(ctx, key, []byte(key)))
		if i%3 == 0 {
			want[key] = must[uint64](t, "put again")(other.Put(ctx, key, []byte(key)))
		}
	}
	must[uint64](t, "put")(s.Put(ctx, "devices", []byte("devices")))
	revisions, found := collect(t, other, "device/")
	if len(found) != many {
		t.Fatalf("list device/: got %d keys, want %d", len(found), many)
	}
	for key, revision := range want {
		if revisions[key] != revision {
			t.Errorf("list: %s has revision %d, want %d", key, revisions[key], revision)
		}
	}
	if _, found := collect(t, s, "device/07/"); len(found) != 3 {
		t.Errorf("list device/07/: got %v, want 3", found)
	}
	if _, found := collect(t, s, "nothing/"); len(found) != 0 {
		t.Errorf("list nothing/: got %v", found)
	}
}

func testListStops(t *testing.T, b *bench) {
	ctx := limited(t)
	s := b.open()
	for i := range 10 {
		must[uint64](t, "put")(s.Put(ctx, fmt.Sprintf("k/%d", i), nil))
	}
	enough, told := errors.New("enough"), 0
	err := s.List(ctx, "k/", func(key string, _ []byte, _ uint64) error {
		if _, _, err := s.Get(ctx, key); err != nil {
			t.Errorf("get while listing: %v", err)
		}
		if told++; told == 3 {
			return enough
		}
		return nil
	})
	if err != enough || told != 3 {
		t.Errorf("list: got %v after %d, want %v after 3", err, told, enough)
	}
}

// collect lists and checks that each value is its key where the test made it so.
func collect(t *testing.T, s store.Store, prefix string) (revisions map[string]uint64, keys []string) {
	t.Helper()
	revisions = make(map[string]uint64)
	err := s.List(limited(t), prefix, func(key string, _ []byte, revision uint64) error {
		if _, twice := revisions[key]; !twice {
			keys = append(keys, key)
		}
		revisions[key] = revision
		return nil
	})
	if err != nil {
		t.Fatalf("list %q: %v", prefix, err)
	}
	slices.Sort(keys)
	return revisions, keys
}
