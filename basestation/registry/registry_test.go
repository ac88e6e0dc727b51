package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/basestation/memstore"
	"github.com/keyholed/keyhole/basestation/store"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
	"github.com/keyholed/keyhole/protocol/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func fingerprint(n int) identity.Fingerprint {
	return sha256.Sum256([]byte(fmt.Sprint("device ", n)))
}

// open returns a registry over a store of its own.
func open(t *testing.T) (*Registry, *memstore.Store) {
	t.Helper()
	s := memstore.New()
	t.Cleanup(func() { _ = s.Close() })
	return New(Config{Store: s, Seal: SealKey{1}, Node: "node1"}), s
}

// read flushes everything and returns the presence of a device.
func read(t *testing.T, r *Registry, f identity.Fingerprint) Presence {
	t.Helper()
	r.flush(t.Context())
	if err := r.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := r.Presence(t.Context(), f.ID())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPresence(t *testing.T) {
	r, s := open(t)
	f := fingerprint(1)
	first := Presence{Fingerprint: attach.Hash(f), Since: 100, Firmware: "1.2", Boots: 7}
	first.SetAddress(netip.MustParseAddrPort("192.0.2.1:4000"))
	r.Attached(first)
	r.Told(f, 5)
	p := read(t, r, f)
	if p.State != Attached || p.Node != "node1" || !p.Told || p.Epoch != 5 || p.Firmware != "1.2" || p.Boots != 7 || p.TCP || p.ID() != f.ID() {
		t.Errorf("attached: %+v", p)
	}
	r.Moved(f, attach.StreamAddr(3))
	r.Told(f, 6)
	if p = read(t, r, f); !p.TCP || p.Address.IsValid() || p.Epoch != 6 || p.Since != 100 {
		t.Errorf("moved: %+v", p)
	}
	r.Gone(f, attach.CloseSilent)
	if p = read(t, r, f); p.State != Gone || p.Reason != attach.CloseSilent || p.Since < 1_000_000 || p.Epoch != 6 || p.Firmware != "1.2" {
		t.Errorf("gone: %+v", p)
	}

	// Another node has it now: what the first one says late changes nothing.
	other := New(Config{Store: s, Seal: SealKey{1}, Node: "node2"})
	other.Attached(Presence{Fingerprint: attach.Hash(f), Since: 200})
	read(t, other, f)
	r.Gone(f, attach.CloseSilent)
	if p = read(t, r, f); p.State != Attached || p.Node != "node2" || p.Told {
		t.Errorf("after a late word of the other node: %+v", p)
	}

	// Nothing is made for a device that was removed, or never attached.
	r.Gone(fingerprint(2), attach.CloseSilent)
	r.Told(fingerprint(3), 1)
	r.flush(t.Context())
	for _, n := range []int{2, 3} {
		if _, err := r.Presence(t.Context(), fingerprint(n).ID()); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("device %d: %v, want %v", n, err, store.ErrNotFound)
		}
	}
	count := 0
	if err := r.Presences(t.Context(), func(id identity.ID, p Presence) error { count++; return nil }); err != nil || count != 1 {
		t.Errorf("%d devices listed, %v", count, err)
	}
	if _, err := r.Presence(t.Context(), "../../x"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an id that is none: %v", err)
	}
}

// A store that does not answer costs memory up to a bound.
func TestPresenceIsBounded(t *testing.T) {
	r, _ := open(t)
	for n := range maxWaiting + 10 {
		r.Told(fingerprint(n), 1)
	}
	if len(r.waiting.by) != maxWaiting || r.LostPresence() != 10 {
		t.Errorf("%d wait, %d lost", len(r.waiting.by), r.LostPresence())
	}
}

// The record must be small: a million of them are kept.
func TestPresenceSize(t *testing.T) {
	p := Presence{
		Fingerprint: attach.Hash(fingerprint(1)), State: Attached, Node: "0123456789abcdef", Since: 1_800_000_000,
		Firmware: "2.14.3", Boots: 300, Told: true, Epoch: 3,
	}
	p.SetAddress(netip.MustParseAddrPort("198.51.100.17:40000"))
	b, err := attach.Encode(p)
	if err != nil || len(b) > 100 {
		t.Errorf("%d bytes, %v; want at most 100", len(b), err)
	}
	t.Logf("%d bytes", len(b))
}

func TestSerials(t *testing.T) {
	r, _ := open(t)
	ctx := t.Context()
	const serial = "ACME/2026-1"
	one, two := fingerprint(1), fingerprint(2)

	// Many at once: one wins, and all hear who.
	var wait sync.WaitGroup
	won := make([]identity.Fingerprint, 8)
	for i := range won {
		wait.Go(func() {
			var err error
			if won[i], err = r.Bind(ctx, serial, fingerprint(i+10)); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	for _, f := range won {
		if f != won[0] || f.IsZero() {
			t.Errorf("bound to %v and %v", won[0].Short(), f.Short())
		}
	}
	if listed, err := r.Listed(ctx, won[0]); !listed || err != nil {
		t.Errorf("the winner is listed: %v, %v", listed, err)
	}
	if err := r.Remove(ctx, won[0].ID()); err != nil {
		t.Fatal(err)
	}
	for _, f := range []identity.Fingerprint{one, two} {
		if got, err := r.Bind(ctx, serial, f); got != one || err != nil {
			t.Errorf("bind after the removal: %v, %v", got.Short(), err)
		}
	}
	if err := r.Reopen(ctx, serial); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Bind(ctx, serial, two); got != two || err != nil {
		t.Errorf("bind after reopening: %v, %v", got.Short(), err)
	}
	for _, wrong := range []string{"", "a b", "№1", "\x1b[31m", strings.Repeat("x", 65)} {
		if _, err := r.Bind(ctx, wrong, one); !errors.Is(err, ErrSerial) {
			t.Errorf("serial number of %d bytes: %v", len(wrong), err)
		}
	}
}

func TestSecretsAreSealed(t *testing.T) {
	r, s := open(t)
	ctx := t.Context()
	secret := attach.Secret(sha256.Sum256([]byte("secret")))
	if err := r.PutSecret(ctx, "S1", secret); err != nil {
		t.Fatal(err)
	}
	if got, known, err := r.Secret(ctx, "S1"); got != secret || !known || err != nil {
		t.Errorf("%v, %v", known, err)
	}
	if _, known, err := r.Secret(ctx, "S2"); known || err != nil {
		t.Errorf("unknown one: %v, %v", known, err)
	}
	err := s.List(ctx, "", func(key string, value []byte, _ uint64) error {
		if strings.Contains(string(value), string(secret[:])) {
			t.Errorf("%s holds the secret", key)
		}
		// A record that is put in the place of another is not taken.
		_, err := s.Put(ctx, hexKey(secretPrefix, "S2"), value)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Secret(ctx, "S2"); !errors.Is(err, ErrSealed) {
		t.Errorf("another's record: %v", err)
	}
	if _, _, err := New(Config{Store: s, Seal: SealKey{2}}).Secret(ctx, "S1"); !errors.Is(err, ErrSealed) {
		t.Errorf("another key: %v", err)
	}
	if text := fmt.Sprintf("%v %+v %#v", SealKey{1}, SealKey{1}, SealKey{1}); strings.Contains(text, "1") {
		t.Errorf("a key prints as %s", text)
	}
}

func TestTokens(t *testing.T) {
	r, s := open(t)
	ctx := t.Context()
	twice, err := r.CreateToken(ctx, Token{Name: "factory", Uses: 2})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := r.UseToken(ctx, twice); err != nil || got.Name != "factory" {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if _, err := r.UseToken(ctx, twice); !errors.Is(err, ErrToken) {
		t.Errorf("third use: %v", err)
	}
	old, err := r.CreateToken(ctx, Token{Expires: time.Now().Add(-time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	forever, err := r.CreateToken(ctx, Token{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text string
		want error
	}{{old, ErrToken}, {forever, nil}, {forever, nil}, {forever + "x", ErrToken}, {"", ErrToken}} {
		if _, err := r.UseToken(ctx, c.text); !errors.Is(err, c.want) {
			t.Errorf("%q: %v, want %v", c.text, err, c.want)
		}
	}
	if err := s.List(ctx, "", func(key string, value []byte, _ uint64) error {
		if strings.Contains(key+string(value), strings.TrimPrefix(forever, tokenText)) {
			t.Errorf("%s holds a token", key)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	count := 0
	if err := r.Tokens(ctx, func(tok Token) error { count++; return r.RemoveToken(ctx, tok.Hash) }); err != nil || count != 2 {
		t.Errorf("%d tokens, %v", count, err)
	}
	if _, err := r.UseToken(ctx, forever); !errors.Is(err, ErrToken) {
		t.Errorf("removed: %v", err)
	}
}

func TestBlocked(t *testing.T) {
	r, s := open(t)
	id := fingerprint(1).ID()
	if err := New(Config{Store: s}).Block(t.Context(), id, "stolen"); err != nil {
		t.Fatal(err)
	}
	told := make(chan identity.ID, 8)
	r.OnBlock(func(id identity.ID) { told <- id })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	<-r.Ready()
	if !r.Blocked(id) || <-told != id {
		t.Error("a block from before the start is not known")
	}
	second := fingerprint(2).ID()
	if err := r.Block(t.Context(), second, ""); err != nil {
		t.Fatal(err)
	}
	if got := <-told; got != second || !r.Blocked(second) {
		t.Errorf("told %s", got)
	}
	if err := r.Unblock(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	testnet.Until(t, "unblocked", func() bool { return !r.Blocked(second) })
	if b, err := r.BlockOf(t.Context(), id); err != nil || b.Reason != "stolen" {
		t.Errorf("%+v, %v", b, err)
	}
	r.Attached(Presence{Fingerprint: attach.Hash(fingerprint(3))})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p, err := r.Presence(t.Context(), fingerprint(3).ID()); err != nil || p.State != Attached {
		t.Errorf("what waited at the end: %+v, %v", p, err)
	}
}

// A deafStore takes nothing that is written soon, until it is let go.
type deafStore struct {
	store.Store
	let chan struct{}
}

func (s deafStore) PutSoon(string, []byte) error {
	<-s.let
	return store.ErrClosed
}

// A store that takes nothing keeps nobody from stopping.
func TestRunEndsWithoutTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memstore.New()
		defer m.Close()
		deaf := deafStore{m, make(chan struct{})}
		defer close(deaf.let)
		r := New(Config{Store: deaf})
		r.Attached(Presence{Fingerprint: attach.Hash{1}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- r.Run(ctx) }()
		time.Sleep(2 * presenceDelay) // it is writing
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Error("still running after a minute")
		}
	})
}
