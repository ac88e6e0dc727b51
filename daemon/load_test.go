package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// Goroutines of the device for each idle session and tunnel, as package session
// documents them: HTTP/2 two, QUIC about five; a tunnel its handler's and the two
// that copy. The client in this process has some of its own, and tests see only
// the sum, so what is held is a bound that a leak of one each would break.
const (
	perHTTP2Session = 2 + 3 // the client's: read loop, warm pool, dialled connection
	perTunnel       = 3 + 4 // the service's one and the client's stream
)

// 64 tunnels and 1,000 idle sessions at once.
func TestManySessionsAndTunnels(t *testing.T) {
	const tunnels = 64
	sessions := 300
	if full() {
		sessions = 1000
	}
	e := echo(t)
	d := startDevice(t, fmt.Sprintf("[limits]\nsessions = %d\nunauthenticated = 1024\ntunnels = %d\ntunnels_per_peer = %d\n", sessions+100, tunnels, tunnels)+serviceTOML("echo", "tcp", e.address))
	keys := 10
	var peers []*peer
	var mu sync.Mutex
	before := runtime.NumGoroutine()
	for k := range keys {
		key := d.enter(t, fmt.Sprintf("user %d", k), acl.RoleAdmin)
		var dialling sync.WaitGroup
		for range sessions / keys {
			dialling.Go(func() {
				p, err := d.tryDial(t, key, session.PathTCP, -1)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				peers = append(peers, p)
			})
		}
		dialling.Wait()
	}
	if t.Failed() {
		return
	}
	peers[0].call("GET", "/v1/me", nil, nil)
	// A client is done with the handshake before the device is.
	testnet.Eventually(t, "all sessions on the books", func() error {
		if n := len(d.server.Sessions()); n != sessions {
			return fmt.Errorf("%d sessions are open, want %d", n, sessions)
		}
		return nil
	})
	wantAtMost(t, "idle sessions", before+sessions*perHTTP2Session)

	idle := runtime.NumGoroutine()
	var open []session.Stream
	for i := range tunnels {
		open = append(open, peers[i].connect("echo"))
	}
	var talking sync.WaitGroup
	for i, s := range open {
		talking.Go(func() {
			word := fmt.Sprintf("tunnel %d", i)
			if _, err := io.WriteString(s, word); err != nil {
				t.Error(err)
			}
			wantBytes(t, s, word)
		})
	}
	talking.Wait()
	if n := d.Status().Tunnels; n != tunnels {
		t.Errorf("%d tunnels are open", n)
	}
	wantAtMost(t, "open tunnels", idle+tunnels*perTunnel)
	begin := time.Now()
	peers[len(peers)-1].call("GET", "/v1/device", nil, nil)
	t.Logf("with all of that, a question is answered in %v", time.Since(begin))
	for _, s := range open {
		_ = s.Close()
	}
	for _, p := range peers {
		p.Close()
	}
	wantAtMost(t, "nothing", before+10)
}

// wantAtMost waits until no more than so many goroutines are left.
func wantAtMost(t *testing.T, with string, most int) {
	t.Helper()
	testnet.Eventually(t, "goroutines with "+with, func() error {
		if n := runtime.NumGoroutine(); n > most {
			return fmt.Errorf("%d goroutines, want at most %d", n, most)
		}
		return nil
	})
}

// Strangers have their own, small number of places and take nobody else's.
func TestStrangersHaveFewPlaces(t *testing.T) {
	d := startDevice(t, "[limits]\nunpaired = 4\n")
	owner := d.owner(t)
	for range 20 {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		c, err := session.Dial(ctx, []string{d.address()}, session.DialConfig{
			Key: newKey(t), Pin: identity.TrustAsFound, Paths: []session.Path{session.PathTCP}, WarmConns: -1,
		})
		cancel()
		if err == nil {
			t.Cleanup(c.Close)
		}
	}
	testnet.Eventually(t, "few strangers", func() error {
		strangers := 0
		for _, s := range d.server.Sessions() {
			if !s.Paired {
				strangers++
			}
		}
		if strangers > 4 {
			return fmt.Errorf("%d strangers", strangers)
		}
		return nil
	})
	owner.call("GET", "/v1/me", nil, nil)
	again := d.dial(t, owner.key, session.PathTCP)
	again.call("GET", "/v1/me", nil, nil)
	if errors.Is(again.Err(), session.ErrClosed) {
		t.Error("the owner was put out")
	}
}
