package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// lastByte is how long after a revocation the last byte may come.
// It is a promise of the product, not a measure of this machine: what is found
// is some milliseconds.
const lastByte = time.Second

// pouring is a service that sends for ever.
func pouring(t testing.TB) *service {
	return listen(t, func(c net.Conn) {
		buf := make([]byte, 16<<10)
		for {
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	})
}

// Revoking cuts every kind of live thing: a tunnel on its own connection, in a
// stream of HTTP/2 and of HTTP/3, a stream of events, and the session itself.
func TestRevocationCutsEverything(t *testing.T) {
	e := pouring(t)
	d := startDevice(t, serviceTOML("pour", "tcp", e.address))
	owner := d.owner(t)
	for _, how := range []struct {
		name, field, value string
		code               api.Code // of the next try
	}{
		{"revoked", "", "", api.CodeForbidden},
		{"made guest", "role", "guest", api.CodeForbidden},
	} {
		t.Run(how.name, func(t *testing.T) {
			name := "Bob " + how.name
			key := d.enter(t, name, acl.RoleAdmin)
			tcp, quic := d.dial(t, key, session.PathTCP), d.dial(t, key, session.PathQUIC)
			own, err := d.tryDial(t, key, session.PathTCP, 2)
			if err != nil {
				t.Fatal(err)
			}
			readers := []io.Reader{open(t, tcp, false), open(t, quic, false), open(t, own, true)}
			events := tcp.follow(t)
			var last sync.Map
			var reading sync.WaitGroup
			for i, r := range readers {
				if _, err := io.ReadFull(r, make([]byte, 64<<10)); err != nil { // it pours
					t.Fatal(err)
				}
				reading.Go(func() { last.Store(i, drainUntilEnd(r)) })
			}
			if how.field == "" {
				var gone api.Revoked
				owner.call("DELETE", "/v1/users/"+escape(name), nil, &gone)
				if gone.SessionsClosed < 3 || len(gone.Keys) != 1 || gone.User != name {
					t.Errorf("revoked: %+v", gone)
				}
			} else {
				owner.call("PATCH", "/v1/users/"+escape(name), map[string]string{how.field: how.value}, nil)
			}
			answered := time.Now()
			reading.Wait()
			for range events.events {
			}
			last.Range(func(i, at any) bool {
				if late := at.(time.Time).Sub(answered); late > lastByte {
					t.Errorf("stream %v had its last byte %v after the answer", i, late)
				}
				return true
			})
			for _, p := range []*peer{tcp, quic, own} {
				<-p.Done()
			}
			again := d.dial(t, key, session.PathTCP)
			wantCode(t, "roles", again.tryCall("GET", "/v1/roles", nil, nil), how.code)
			if _, err := again.Connect(context.Background(), "pour", false); err == nil {
				t.Error("a new tunnel was opened")
			}
			testnet.Eventually(t, "no tunnel left", func() error {
				if n := d.Status().Tunnels; n != 0 {
					return fmt.Errorf("%d tunnels", n)
				}
				return nil
			})
		})
	}
	d.wantWholeLog(t)
}

func open(t testing.TB, p *peer, bulk bool) io.Reader {
	t.Helper()
	s, err := p.Connect(context.Background(), "pour", bulk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// drainUntilEnd reads on and returns when the last byte came.
func drainUntilEnd(r io.Reader) time.Time {
	buf := make([]byte, 32<<10)
	last := time.Now()
	for {
		n, err := r.Read(buf)
		if n > 0 {
			last = time.Now()
		}
		if err != nil {
			return last
		}
	}
}

// A revocation cuts sessions before it waits for a disk.
func TestRevocationDoesNotWaitForTheDisk(t *testing.T) {
	d, _ := attached(t, "")
	owner := d.owner(t)
	p := d.dial(t, d.enter(t, "Bob", acl.RoleAdmin), session.PathTCP)
	p.call("GET", "/v1/me", nil, nil)
	d.station.file.mu.Lock() // as if a write hung
	release := sync.OnceFunc(d.station.file.mu.Unlock)
	defer release()
	var revoking sync.WaitGroup
	revoking.Go(func() { owner.call("DELETE", "/v1/users/Bob", nil, nil) })
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		t.Error("the session goes on as long as the disk takes")
	}
	release()
	revoking.Wait()
}

// Old keys are strangers, each of them, also where the session is resumed.
func TestRevokedKeysStayOut(t *testing.T) {
	keys := 60
	if full() {
		keys = 1000
	}
	d := startDevice(t, "[limits]\nunpaired = 64\n")
	owner := d.owner(t)
	for i := range keys {
		name := fmt.Sprintf("user %d", i)
		key := d.enter(t, name, acl.RoleViewer)
		memory := session.NewResumption()
		dial := func() *session.Client {
			t.Helper()
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			c, err := session.Dial(ctx, []string{d.address()}, session.DialConfig{
				Key: key, Pin: identity.PinFingerprint(d.Fingerprint()), Paths: []session.Path{session.PathTCP}, WarmConns: -1, Resumption: memory,
			})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		before := &peer{Client: dial(), t: t, key: key}
		before.call("GET", "/v1/me", nil, nil)
		owner.call("DELETE", "/v1/users/"+escape(name), nil, nil)
		<-before.Done()
		after := &peer{Client: dial(), t: t, key: key}
		wantCode(t, name, after.tryCall("GET", "/v1/me", nil, nil), api.CodeForbidden)
		after.Close()
	}
	d.wantWholeLog(t)
}

// A user who is revoked while a request of hers is under way gets no answer out
// of the time before.
func TestOwnRevocation(t *testing.T) {
	d := startDevice(t, "")
	d.owner(t)
	adam := d.member(t, "Adam", acl.RoleAdmin, session.PathTCP)
	if _, _, err := adam.tryAsk("DELETE", "/v1/users/Adam", nil); err == nil {
		t.Log("the answer came before the cut") // either way he is out
	}
	<-adam.Done()
	if _, err := d.store.User("Adam"); !errors.Is(err, acl.ErrNoUser) {
		t.Errorf("Adam: %v", err)
	}
}

// wantWholeLog is `keyholed audit --verify`.
func (d *device) wantWholeLog(t testing.TB) {
	t.Helper()
	v, err := d.store.Verify()
	if err != nil || v.Bad != nil {
		t.Errorf("audit log: %v %v", v.Bad, err)
	}
}

func escape(name string) string { return url.PathEscape(name) }

// full says whether the long versions of tests run (make test-full).
func full() bool { return os.Getenv("KEYHOLE_FULL") != "" }

// A request that waits while its sender is put out does nothing when its turn
// comes, whatever it was allowed when it began.
func TestRightsAreAskedWhenTheTurnComes(t *testing.T) {
	d := startDevice(t, "")
	d.owner(t)
	key := d.enter(t, "Bob", "viewer")
	d.enter(t, "Mallory", "viewer")
	boss := acl.RoleOwner
	if _, err := d.store.SetRole("Bob", boss, acl.By{}); err != nil {
		t.Fatal(err)
	}
	c := caller{peer: key.Fingerprint(), principals: d.principalsOf(key.Fingerprint()), paired: true}
	c.user, _ = d.store.UserOf(key.Fingerprint())
	target, err := d.store.User("Mallory")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.mayChange(c, target, &boss); err != nil {
		t.Errorf("an owner may not make another: %v", err)
	}
	for _, put := range []struct {
		out string
		do  func() error
	}{
		{"made a viewer", func() error { _, err := d.store.SetRole("Bob", "viewer", acl.By{}); return err }},
		{"revoked", func() error { _, err := d.store.Revoke("Bob", acl.By{}); return err }},
	} {
		if err := put.do(); err != nil {
			t.Fatal(err)
		}
		if err := d.mayChange(c, target, &boss); !api.IsCode(err, api.CodeForbidden) {
			t.Errorf("who was %s makes an owner: %v", put.out, err)
		}
		may := func() error { return d.stillMay(c, acl.ActionReset) }
		if err := d.beginReset("Bob", may); !api.IsCode(err, api.CodeForbidden) {
			t.Errorf("who was %s resets the device: %v", put.out, err)
		}
	}
	if d.store.Empty() {
		t.Error("the device was reset")
	}
}
