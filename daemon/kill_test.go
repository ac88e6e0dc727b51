package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// Kills of `make test`, and with KEYHOLE_FULL=1.
const (
	killTrials     = 15
	fullKillTrials = 1500
	mostWait       = 60 * time.Millisecond // from the start of a change to the kill
)

// A process is the real keyholed, which a test kills.
type process struct {
	t       *testing.T
	dir     string
	program string
	cmd     *exec.Cmd
	control *control.Client
	status  *control.Status
}

// start returns when the daemon answers.
func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.program, "run", "--config", filepath.Join(p.dir, "keyholed.toml"), "--socket", filepath.Join(p.dir, "s"))
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.control = control.NewClient(filepath.Join(p.dir, "s"))
	testnet.Eventually(p.t, "a killed daemon to start again", func() (err error) {
		p.status, err = p.control.Status(context.Background())
		return err
	})
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.control.Close()
}

func (p *process) dial(k *identity.Key) (*peer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := session.Dial(ctx, []string{p.status.Listen[0]}, session.DialConfig{
		Key: k, Pin: identity.PinFingerprint(p.status.Fingerprint), Paths: []session.Path{session.PathTCP}, WarmConns: -1,
	})
	if err != nil {
		return nil, err
	}
	return &peer{Client: c, t: p.t, key: k}, nil
}

// pair enters a new user, as far as the daemon lives long enough.
func (p *process) pair(k *identity.Key, user string) error {
	ctx := context.Background()
	c, err := p.dial(k)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := p.control.Post(ctx, control.PairingRoute, control.PairingOrder{Do: "open"}, nil); err != nil {
		return err
	}
	_, reveal, err := c.begin(user)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- c.tryCall("POST", "/v1/pair/button/reveal", reveal, nil) }()
	for { // the digits are there in a moment
		err := p.control.Post(ctx, control.PairingRoute, control.PairingOrder{Do: "accept"}, nil)
		var problem *api.Problem
		if err == nil || !errors.As(err, &problem) {
			break
		}
	}
	return <-done
}

// TestKilledDaemonForgetsNothing kills keyholed amid pairing and revoking. What it
// had acknowledged is so after the restart; what it had not is done or not done.
func TestKilledDaemonForgetsNothing(t *testing.T) {
	trials := killTrials
	if full() {
		trials = fullKillTrials
	}
	dir := shortDir(t)
	p := &process{t: t, dir: dir, program: filepath.Join(dir, "keyholed")}
	if out, err := exec.Command("go", "build", "-o", p.program, "../cmd/keyholed").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "keyholed.toml"), []byte(text(dir, "")), 0o644); err != nil {
		t.Fatal(err)
	}
	p.start()
	defer func() { p.kill() }()
	alice := newKey(t)
	if err := p.pair(alice, "Alice"); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, 6))
	sure := map[string]bool{"Alice": true} // whether they are on the list, for certain
	for i := range trials {
		user, revoking := fmt.Sprintf("user %d", i), i%2 == 1
		if revoking {
			user = fmt.Sprintf("user %d", i-1)
		}
		delete(sure, user)
		acknowledged := make(chan bool, 1)
		go func() { acknowledged <- p.change(alice, user, revoking) == nil }()
		time.Sleep(time.Duration(rng.Int64N(int64(mostWait)))) // the moment is what is tried
		_ = p.cmd.Process.Kill()
		if <-acknowledged {
			sure[user] = !revoking
		}
		p.kill()
		p.start()
		p.compare(alice, sure)
	}
}

func (p *process) change(alice *identity.Key, user string, revoking bool) error {
	if !revoking {
		key, err := identity.Generate()
		if err != nil {
			return err
		}
		return p.pair(key, user)
	}
	c, err := p.dial(alice)
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.tryCall("DELETE", "/v1/users/"+escape(user), nil, nil)
	if api.IsCode(err, api.CodeNotFound) {
		return nil // it is not there, which is just as sure
	}
	return err
}

func (p *process) compare(alice *identity.Key, sure map[string]bool) {
	p.t.Helper()
	c, err := p.dial(alice)
	if err != nil {
		p.t.Fatalf("the owner is out: %v", err)
	}
	defer c.Close()
	var list api.Users
	c.call("GET", "/v1/users", nil, &list)
	for user, want := range sure {
		if has := slices.ContainsFunc(list.Users, func(u api.User) bool { return u.Name == user }); has != want {
			p.t.Errorf("%s: acknowledged %v, after the kill %v", user, want, has)
		}
	}
	var v control.AuditVerdict
	if err := p.control.Get(context.Background(), control.VerifyRoute, &v); err != nil || !v.Whole {
		p.t.Errorf("audit log: %+v %v", v, err)
	}
}
