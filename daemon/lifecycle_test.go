package daemon

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/daemon/control"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/session"
)

// Everything that a daemon starts has ended when Run returns, the second time in
// the same directories as well.
func TestStartAndStopTwice(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := shortDir(t)
	var id string
	for round := range 2 {
		d := startIn(t, dir, text(dir, simulated+"web = \"127.0.0.1:0\"\n"))
		if round > 0 && string(d.ID()) != id {
			t.Errorf("the id was %s and is %s", id, d.ID())
		}
		id = string(d.ID())
		if err := d.Press(context.Background(), "pair"); err != nil {
			t.Fatal(err)
		}
		if err := d.Healthy(context.Background()); err != nil {
			t.Error(err)
		}
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "s")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the control socket is still there: %v", err)
		}
	}
}

// Open tunnels have drainDuration; then they are cut and nothing is left over.
func TestStopCutsTunnels(t *testing.T) {
	t.Parallel() // it waits
	if drainDuration != 3*time.Second {
		t.Error("open tunnels have 3 s, well under systemd's TimeoutStopSec")
	}
	e := echo(t)
	d := startDevice(t, serviceTOML("echo", "tcp", e.address))
	owner := d.owner(t)
	quic := d.dial(t, owner.key, session.PathQUIC)
	streams := []session.Stream{owner.connect("echo"), quic.connect("echo")}
	events := owner.follow(t)
	begin := time.Now()
	if err := d.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(begin); took < drainDuration/2 || took > 10*drainDuration {
		t.Errorf("stopping took %v", took)
	}
	for _, s := range streams {
		if _, err := s.Read(make([]byte, 1)); err == nil {
			t.Error("a tunnel outlived the daemon")
		}
	}
	for range events.events {
	}
}

// What is done within the drain is not cut, and the daemon stops as soon as it is.
func TestStopLetsTunnelsFinish(t *testing.T) {
	e := echo(t)
	d := startDevice(t, serviceTOML("echo", "tcp", e.address))
	owner := d.owner(t)
	s := owner.connect("echo")
	stopped := make(chan error, 1)
	go func() { stopped <- d.stop() }()
	<-d.stopping
	if _, err := io.WriteString(s, "last words"); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(s); err != nil || string(got) != "last words" {
		t.Errorf("got %q, %v", got, err)
	}
	_ = s.Close()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestHurrySkipsTheDrain(t *testing.T) {
	e := echo(t)
	d := startDevice(t, serviceTOML("echo", "tcp", e.address))
	owner := d.owner(t)
	owner.connect("echo")
	d.Hurry()
	d.Hurry()
	begin := time.Now()
	if err := d.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took >= drainDuration {
		t.Errorf("stopping took %v in spite of Hurry", took)
	}
}

// Who waits for the press while the daemon stops is told so.
func TestStopWhileSomebodyAsks(t *testing.T) {
	d := startDevice(t, simulated)
	p := d.dial(t, newKey(t), session.PathTCP)
	if err := d.window.Open(); err != nil {
		t.Fatal(err)
	}
	_, reveal, err := p.begin("Alice")
	if err != nil {
		t.Fatal(err)
	}
	done := d.reveal(p, reveal)
	if err := d.stop(); err != nil {
		t.Error(err)
	}
	wantCode(t, "the client", (<-done).err, api.CodeAborted)
}

// Nothing that was opened on the way stays open when the start fails.
func TestFailedStarts(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := shortDir(t)
	fails := func(what, toml, want string) {
		t.Helper()
		d, err := tryStart(t, dir, toml)
		if err == nil {
			_ = d.stop()
			t.Errorf("%s: it starts", what)
			return
		}
		contains(t, what, err.Error(), want)
	}
	fails("port taken", strings.Replace(text(dir, ""), "127.0.0.1:0", taken.Addr().String(), 1), "address already in use")
	fails("page's port taken", text(dir, simulated+"web = \""+taken.Addr().String()+"\"\n"), "front panel page")
	func() {
		other, err := control.Listen(filepath.Join(dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		fails("socket in use", text(dir, ""), control.ErrInUse.Error())
	}()
	func() {
		other := shortDir(t)
		first := startIn(t, dir, text(dir, ""))
		cfg := parse(t, dir, text(dir, ""))
		cfg.Socket = filepath.Join(other, "s")
		d, err := New(Options{Config: cfg, Quiet: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Run(context.Background()); !errors.Is(err, acl.ErrInUse) {
			t.Errorf("a second daemon on one store: %v", err)
		}
		if err := first.stop(); err != nil {
			t.Error(err)
		}
	}()
	key := filepath.Join(dir, "identity", "identity.pem")
	good, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"not a key", string(good)} {
		if err := os.WriteFile(key, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if content != string(good) {
			fails("damaged key", text(dir, ""), "identity.pem")
		}
	}
	d := startIn(t, dir, text(dir, "")) // and where nothing is wrong, it starts
	if err := d.stop(); err != nil {
		t.Error(err)
	}
}

// On a read-only disk people get in as before; only changes are refused.
func TestReadOnlyState(t *testing.T) {
	testnet.Root(t)
	dir := shortDir(t)
	mountpoint := filepath.Join(dir, "state")
	mountTmpfs(t, mountpoint, "size=16m")
	e := echo(t)
	toml := text(dir, serviceTOML("echo", "tcp", e.address))
	first := startIn(t, dir, toml)
	owner := first.owner(t)
	bob := first.enter(t, "Bob", acl.RoleViewer)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", mountpoint, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	d := startIn(t, dir, toml)
	p := d.dial(t, owner.key, session.PathTCP)
	var users api.Users
	p.call("GET", "/v1/users", nil, &users)
	if len(users.Users) != 2 {
		t.Errorf("users: %+v", users)
	}
	s := p.connect("echo")
	if _, err := io.WriteString(s, "x"); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, s, "x")
	_ = s.Close()
	wantCode(t, "revoke", p.tryCall("DELETE", "/v1/users/Bob", nil, nil), api.CodeUnavailable)
	wantCode(t, "rename", p.tryCall("PATCH", "/v1/users/Bob", map[string]string{"name": "Rob"}, nil), api.CodeUnavailable)
	d.dial(t, bob, session.PathTCP).call("GET", "/v1/me", nil, nil)

	stranger := d.dial(t, newKey(t), session.PathTCP)
	if err := d.window.Open(); err != nil {
		t.Fatal(err)
	}
	_, reveal, err := stranger.begin("Carol")
	if err != nil {
		t.Fatal(err)
	}
	done := d.reveal(stranger, reveal)
	d.window.Accept(stranger.key.Fingerprint())
	wantCode(t, "pairing", (<-done).err, api.CodeUnavailable)
	wantCode(t, "the newcomer", stranger.tryCall("GET", "/v1/me", nil, nil), api.CodeForbidden)
}

func mountTmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// On a full disk nobody new comes in, and who has to go out goes out.
func TestFullDisk(t *testing.T) {
	testnet.Root(t)
	dir := shortDir(t)
	mountTmpfs(t, filepath.Join(dir, "state"), "size=2m")
	d := startIn(t, dir, text(dir, ""))
	owner := d.owner(t)
	bob := d.member(t, "Bob", acl.RoleViewer, session.PathTCP)
	fill(t, filepath.Join(dir, "state", "filler"))
	owner.call("DELETE", "/v1/users/Bob", nil, nil)
	<-bob.Done()
	var refused error
	for i := 0; i < 200 && refused == nil; i++ { // what the revocation gave back is used up
		refused = owner.tryCall("PATCH", "/v1/users/Alice", map[string]string{"name": "Alice " + strings.Repeat("x", i%50)}, nil)
	}
	if refused == nil {
		t.Log("200 changes fitted into what is free on the full disk")
	}
	owner.call("GET", "/v1/users", nil, nil)
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d = startIn(t, dir, text(dir, ""))
	if _, err := d.store.User("Bob"); !errors.Is(err, acl.ErrNoUser) {
		t.Errorf("after a restart Bob is back: %v", err)
	}
	d.dial(t, owner.key, session.PathTCP).call("GET", "/v1/users", nil, nil)
}

func fill(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
}

// A reload swaps the services and leaves live tunnels alone; a bad one changes
// nothing.
func TestReload(t *testing.T) {
	one, two := echo(t), echo(t)
	d := startDevice(t, serviceTOML("one", "tcp", one.address))
	owner := d.owner(t)
	live := owner.connect("one")
	say := func(word string) {
		t.Helper()
		if _, err := io.WriteString(live, word); err != nil {
			t.Fatal(err)
		}
		wantBytes(t, live, word)
	}
	say("before")
	next := strings.Replace(text(d.dir, serviceTOML("two", "tcp", two.address)), "Front door", "Back door", 1)
	next = strings.Replace(next, "acme-cam-2", "acme-cam-3", 1)
	if err := d.Reload(parse(t, d.dir, next)); err != nil {
		t.Fatal(err)
	}
	say("after")
	wantCode(t, "the old service", owner.refused("one"), api.CodeNotFound)
	owner.connect("two")
	var device api.Device
	owner.call("GET", "/v1/device", nil, &device)
	if device.Name != "Back door" || device.Product != "acme-cam-2" {
		t.Errorf("after the reload: %+v", device)
	}

	bad := text(d.dir, serviceTOML("three", "tcp", two.address)+serviceTOML("loop", "tcp", d.address()))
	err := d.Reload(parse(t, d.dir, bad))
	if err == nil {
		t.Fatal("a service that leads to the device itself is taken over")
	}
	contains(t, "the error", err.Error(), "keyholed.toml:")
	wantCode(t, "a service of the bad file", owner.refused("three"), api.CodeNotFound)
	owner.connect("two")
}

// A service must not lead to one of our own listeners: peers would be neighbours.
func TestOwnListeners(t *testing.T) {
	dir := shortDir(t)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "s"), link); err != nil {
		t.Fatal(err)
	}
	d := startIn(t, dir, text(dir, simulated+"web = \"127.0.0.1:0\"\n"))
	face := d.doors.face.Addr().String()
	for network, addresses := range map[string][]string{
		"tcp":  {d.address(), face, strings.Replace(d.address(), "127.0.0.1", "0.0.0.0", 1), strings.Replace(d.address(), "127.0.0.1", "[::ffff:127.0.0.1]", 1)},
		"unix": {filepath.Join(dir, "s"), dir + "/../" + filepath.Base(dir) + "/s", link},
	} {
		for _, address := range addresses {
			if !d.doors.own(network, address) {
				t.Errorf("%s %s is not known as our own", network, address)
			}
		}
	}
	for network, address := range map[string]string{"tcp": "127.0.0.1:1", "unix": filepath.Join(dir, "other")} {
		if d.doors.own(network, address) {
			t.Errorf("%s %s is taken for our own", network, address)
		}
	}
	every := doors{bound: d.doors.bound[:1]}
	every.bound[0] = netip.MustParseAddrPort("[::]:7443")
	for address, want := range map[string]bool{"127.0.0.1:7443": true, "[::1]:7443": true, "127.9.9.9:7443": true, "192.0.2.1:7443": false, "127.0.0.1:7444": false} {
		if every.own("tcp", address) != want {
			t.Errorf("with a listener on every address, own(%s) = %v", address, !want)
		}
	}
}

func TestHealthyNoticesAHang(t *testing.T) {
	d := startDevice(t, "")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := d.Healthy(context.Background()); err != nil {
		t.Error(err)
	}
	for range 100 { // both are ready: the answer is one of the two
		if err := d.Healthy(ctx); err != nil {
			contains(t, "a daemon that has no time", err.Error(), "does not answer itself")
			return
		}
	}
}
