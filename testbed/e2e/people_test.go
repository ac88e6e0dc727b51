//go:build linux

package e2e

import (
	"fmt"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testcam"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
)

// cutWithin is what the owner is promised: the last byte passes within a second
// of the answer to a revocation.
const cutWithin = time.Second

// A second person pairs, may watch and no more, and is shown the door by the owner
// while the picture plays.
//
//	         switch
//	  ┌────────┼─────────┐
//	board    laptop    tablet
//	 .1      .2 Alice  .3 Bob
func TestSecondPersonComesAndGoes(t *testing.T) {
	net := newLAN(t)
	b := newBoard(t, net.join(t, "board", "10.77.0.1/24"))
	alice := newPerson(t, net.join(t, "laptop", "10.77.0.2/24"), "Alice")
	bob := newPerson(t, net.join(t, "tablet", "10.77.0.3/24"), "Bob")
	alice.pair(t, b, "10.77.0.1:7443")
	bob.pair(t, b, "10.77.0.1:7443")

	var me api.Me
	bob.ask(t, &me, "call", "Front door", "GET", "/v1/me")
	if me.User != "Bob" || me.Role != "viewer" {
		t.Fatalf("Bob is %+v", me)
	}
	bob.refused(t, exitRefused, "exec", "Front door", "ssh")
	bob.refused(t, exitRefused, "connect", "Front door", "ssh")
	bob.refused(t, exitRefused, "audit", "Front door")
	bob.refused(t, exitRefused, "revoke", "Front door", "Alice")

	bridge := bob.connect(t, "Front door", "rtsp")
	film := play(t, bob.Command("ffmpeg", "-v", "error", "-i", "rtsp://"+bridge.address["rtsp"]+testcam.Path, "-c", "copy", "-f", "mjpeg", "pipe:1"))
	film.flows(t)

	out := finish(t, alice.command("revoke", "Front door", "Bob"))
	answered := time.Now()
	if out.code != 0 {
		t.Fatalf("keyhole revoke: %d %s", out.code, out.err)
	}
	film.wait(t)
	last := film.last()
	t.Logf("the last byte of Bob's film came %v after the answer to the revocation", last.Sub(answered).Round(time.Millisecond))
	if last.Sub(answered) > cutWithin {
		t.Errorf("Bob watched on for %v, want at most %v", last.Sub(answered), cutWithin)
	}
	if code := bridge.wait(t); code != exitRefused {
		t.Errorf("Bob's keyhole connect ended with %d, want %d", code, exitRefused)
	}
	bob.refused(t, exitRefused, "call", "Front door", "GET", "/v1/me")

	var users struct{ Users []api.User }
	alice.ask(t, &users, "users", "Front door", "--json")
	if len(users.Users) != 1 || users.Users[0].Name != "Alice" {
		t.Errorf("left are %+v", users)
	}
	contains(t, "keyholed audit", b.keyholed(t, "audit"), "Bob")
	b.keyholed(t, "audit", "--verify")
}

// A film is a player whose output is watched as it comes.
type film struct {
	*process
	mu    sync.Mutex
	bytes int
	at    time.Time
}

func play(t *testing.T, cmd *exec.Cmd) *film {
	t.Helper()
	f := &film{}
	cmd.Stdout = f
	cmd.WaitDelay = time.Second
	f.process = start(t, cmd)
	return f
}

func (f *film) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bytes += len(p)
	f.at = time.Now()
	return len(p), nil
}

// last is when the newest byte came.
func (f *film) last() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

func (f *film) seen() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes
}

// flows waits until more pictures come than are under way in any buffer.
func (f *film) flows(t *testing.T) {
	t.Helper()
	before := f.seen()
	testnet.Eventually(t, "a moving picture", func() error {
		if n := f.seen() - before; n < 200_000 {
			if !f.running() {
				t.Fatalf("the player has ended: %s", f.err)
			}
			return fmt.Errorf("%d bytes", n)
		}
		return nil
	})
}
