package basestation

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/basestation/memstore"
	"github.com/keyholed/keyhole/basestation/push"
	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
)

// refused waits until a device was told no.
func (p *peer) refused(code attach.Code) {
	p.t.Helper()
	p.until("a refusal", func() bool {
		for _, e := range p.events {
			if r, ok := e.Err.(*attach.RefusedError); ok && r.Code == code {
				return true
			}
		}
		return false
	})
}

// soon has a link try again at once.
func (p *peer) soon() *peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.link.NetworkChanged(p.now())
	p.kick()
	return p
}

func TestEnrolListed(t *testing.T) {
	s := begin(t, func(c *Config) { c.Enrol = EnrolListed })
	d := join(t, s.Server, newKey(t), nil)
	d.refused(attach.CodeRefused)
	if err := s.Registry().Add(t.Context(), registry.Device{ID: d.key.ID()}); err != nil {
		t.Fatal(err)
	}
	d.soon().attached()
}

func TestEnrolSecret(t *testing.T) {
	master := attach.Secret{1, 2, 3}
	s := begin(t, func(c *Config) { c.Enrol, c.Master = EnrolSecret, master })
	explicit := attach.Secret{4, 5, 6}
	if err := s.Registry().PutSecret(t.Context(), "E1", explicit); err != nil {
		t.Fatal(err)
	}
	with := func(serial string, secret attach.Secret) func(*attach.LinkConfig) {
		return func(c *attach.LinkConfig) { c.Factory = attach.Factory{Serial: serial, Secret: secret} }
	}
	derived := join(t, s.Server, newKey(t), with("D1", attach.DeriveSecret(master, "D1"))).attached()
	join(t, s.Server, newKey(t), with("E1", explicit)).attached()
	join(t, s.Server, newKey(t), with("E1", attach.DeriveSecret(master, "E1"))).refused(attach.CodeRefused) // the explicit one counts
	join(t, s.Server, newKey(t), with("D2", explicit)).refused(attach.CodeRefused)
	join(t, s.Server, newKey(t), nil).refused(attach.CodeRefused)
	// The serial number is bound to the first key, until it is reopened.
	second := join(t, s.Server, newKey(t), with("D1", attach.DeriveSecret(master, "D1")))
	second.refused(attach.CodeRefused)
	if f, err := s.Registry().Bound(t.Context(), "D1"); err != nil || f != derived.key.Fingerprint() {
		t.Errorf("bound to %v, %v", f.Short(), err)
	}
	if err := s.Registry().Reopen(t.Context(), "D1"); err != nil {
		t.Fatal(err)
	}
	second.soon().attached()
}

// A device that is blocked is cut at once, and refused from then on.
func TestBlock(t *testing.T) {
	s := begin(t, nil)
	d := join(t, s.Server, newKey(t), nil).attached()
	if err := s.Registry().Block(t.Context(), d.key.ID(), "stolen"); err != nil {
		t.Fatal(err)
	}
	d.refused(attach.CodeRefused)
	if err := s.Registry().Unblock(t.Context(), d.key.ID()); err != nil {
		t.Fatal(err)
	}
	testnet.Until(t, "unblocked", func() bool { return !s.Registry().Blocked(d.key.ID()) })
	d.soon().attached()
}

// A slowStore does not answer questions about devices until it is let go.
type slowStore struct {
	store.Store
	let chan struct{}
}

func (s slowStore) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	if strings.HasPrefix(key, "device/") {
		select {
		case <-s.let:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
	return s.Store.Get(ctx, key)
}

// A block is not lost in a flood: it needs no task.
func TestBlockWhenNoTaskStarts(t *testing.T) {
	s := begin(t, nil)
	d := join(t, s.Server, newKey(t), nil).attached()
	let := make(chan struct{})
	defer close(let)
	for s.tasks.start(func(context.Context) { <-let }) {
	}
	if err := s.Registry().Block(t.Context(), d.key.ID(), "stolen"); err != nil {
		t.Fatal(err)
	}
	d.refused(attach.CodeRefused)
}

// A device that is blocked while the store is asked about it does not get in.
func TestBlockedWhileLookedUp(t *testing.T) {
	m := memstore.New()
	t.Cleanup(func() { _ = m.Close() })
	slow := slowStore{m, make(chan struct{})}
	s := begin(t, func(c *Config) { c.Enrol, c.Store = EnrolListed, slow })
	d := newKey(t)
	if err := registry.New(registry.Config{Store: m}).Add(t.Context(), registry.Device{ID: d.ID()}); err != nil {
		t.Fatal(err)
	}
	p := join(t, s.Server, d, nil)
	waitFor(t, s.Server, "the store is asked", func() bool { return len(s.hub.enrolling) == 1 })
	if err := s.Registry().Block(t.Context(), d.ID(), "stolen"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, s.Server, "the block is known", func() bool { return s.Registry().Blocked(d.ID()) })
	close(slow.let)
	p.refused(attach.CodeRefused)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if e.State == attach.StateAttached {
			t.Error("attached in between")
		}
	}
}

// While the store does not answer, the node serves all who need no answer of it.
func TestSlowStore(t *testing.T) {
	m := memstore.New()
	t.Cleanup(func() { _ = m.Close() })
	slow := slowStore{m, make(chan struct{})}
	s := begin(t, func(c *Config) { c.Enrol, c.Store = EnrolListed, slow })
	waits := join(t, s.Server, newKey(t), nil)
	if err := registry.New(registry.Config{Store: m}).Add(t.Context(), registry.Device{ID: waits.key.ID()}); err != nil {
		t.Fatal(err)
	}
	var no attach.NotIntroduced
	ask(t, s.Server, newKey(t), newKey(t).ID(), nil).hear(attach.KindNotIntroduced, &no)
	waits.mu.Lock()
	state := waits.link.State()
	waits.mu.Unlock()
	if state == attach.StateAttached {
		t.Error("attached without an answer of the store")
	}
	close(slow.let)
	waits.attached()
}

// What a device says is in the store's log when it is told that it was taken.
func TestEventsAreLogged(t *testing.T) {
	m := memstore.New()
	t.Cleanup(func() { _ = m.Close() })
	s := begin(t, func(c *Config) { c.Store = m })
	d := join(t, s.Server, newKey(t), nil).attached()
	d.send(attach.KindEvent, attach.Event{Number: 1, Kind: "doorbell", Data: []byte(`{"button":1}`)})
	var taken attach.EventTaken
	d.hear(attach.KindEventTaken, &taken)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	found := map[string]bool{}
	err := m.Consume(ctx, "test", "push.>", func(_ string, data []byte) error {
		var e push.Event
		if err := json.Unmarshal(data, &e); err != nil {
			return err
		}
		if e.Device == string(d.key.ID()) {
			found[e.Kind] = true
		}
		if found["device.doorbell"] {
			cancel()
		}
		return nil
	})
	if err != nil || len(found) != 1 {
		t.Errorf("%v, %v", found, err)
	}
}

// The keys of a data directory are made once, and a damaged file is not replaced.
func TestKeyring(t *testing.T) {
	dir := t.TempDir()
	first, err := OpenKeyring(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := OpenKeyring(dir)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := first.Keys(), second.Keys(); len(a) != 2 || a[0] != b[0] || a[1] != b[1] || a[0] == a[1] || first.NodeID() != second.NodeID() {
		t.Errorf("%v and %v", a, b)
	}
	for _, name := range []string{rootFile, fleetFile, nodeFile} {
		damaged := t.TempDir()
		if _, err := OpenKeyring(damaged); err != nil {
			t.Fatal(err)
		}
		cut(t, damaged+"/"+name)
		if _, err := OpenKeyring(damaged); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s damaged: %v", name, err)
		}
	}
}

// Root keys that are lost are not replaced in silence, unless all is begun anew.
func TestLostRootKeys(t *testing.T) {
	dir := t.TempDir()
	first, err := OpenKeyring(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir + "/" + rootFile); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeyring(dir); err == nil || !strings.Contains(err.Error(), rootFile) {
		t.Errorf("without %s: %v", rootFile, err)
	}
	if err := os.Remove(dir + "/" + nodeFile); err != nil {
		t.Fatal(err)
	}
	second, err := OpenKeyring(dir)
	if err != nil || second.Keys()[0] == first.Keys()[0] {
		t.Errorf("begun anew: %v", err)
	}
}

// cut leaves half of a file.
func cut(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, info.Size()/2)
	}
	if err != nil {
		t.Fatal(err)
	}
}
