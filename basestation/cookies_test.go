package basestation

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/keyholed/keyhole/basestation/memstore"
	"github.com/keyholed/keyhole/basestation/registry"
)

// All nodes have the same secrets, a restart keeps them, and they are replaced in time.
func TestCookieSecrets(t *testing.T) {
	s := memstore.New()
	defer func() { _ = s.Close() }()
	key := registry.SealKey{1}
	read := func() cookieRecord {
		c, err := readCookies(t.Context(), s, key, false)
		if err != nil {
			t.Error(err)
		}
		return c
	}
	var all sync.WaitGroup
	records := make([]cookieRecord, 8)
	for i := range records {
		all.Go(func() { records[i] = read() })
	}
	all.Wait()
	first := records[0]
	for _, c := range records {
		if c.secret != first.secret || c.slot != 1 {
			t.Errorf("slot %d, the same secret: %v", c.slot, c.secret == first.secret)
		}
	}
	// Half an hour later.
	old := first
	old.made = time.Now().Add(-31 * time.Minute)
	sealed, err := key.Seal(cookieKey, old.encode())
	if err == nil {
		_, err = s.Put(t.Context(), cookieKey, sealed)
	}
	if err != nil {
		t.Fatal(err)
	}
	second := read()
	if second.slot != 2 || second.before != first.secret || second.secret == first.secret {
		t.Errorf("slot %d after half an hour", second.slot)
	}
	// Under another key: in a fleet an error, alone a new beginning.
	other := registry.SealKey{2}
	if _, err := readCookies(t.Context(), s, other, false); !errors.Is(err, registry.ErrSealed) {
		t.Errorf("another fleet's: %v", err)
	}
	if c, err := readCookies(t.Context(), s, other, true); err != nil || c.secret == second.secret {
		t.Errorf("alone, with a new key: %v", err)
	}
}

// A client that comes back after a restart of the server needs no new cookie.
func TestCookiesOutliveTheServer(t *testing.T) {
	m := memstore.New()
	t.Cleanup(func() { _ = m.Close() })
	dir := t.TempDir()
	config := func(c *Config) { c.Store, c.Data = m, dir }
	first := begin(t, config)
	secretOf := func(s *station) (slot uint64) {
		s.do(t.Context(), func(time.Duration) { slot = s.cookieSlot })
		return slot
	}
	before := secretOf(first)
	first.stop()
	if after := secretOf(begin(t, config)); before != 1 || after != before {
		t.Errorf("slot %d, then %d", before, after)
	}
}
