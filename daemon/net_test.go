package daemon

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyholed/keyhole/acl"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/api"
	"github.com/keyholed/keyhole/protocol/identity"
	"github.com/keyholed/keyhole/protocol/session"
)

// helperVariable has the test program act as a client in another namespace.
const helperVariable = "KEYHOLE_DAEMON_HELPER"

// TestHelperClient is no test: it is what other tests start elsewhere. It prints
// what hello offers and how beginning to pair is answered.
func TestHelperClient(t *testing.T) {
	address := os.Getenv(helperVariable)
	if address == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	key := newKey(t)
	c, err := session.Dial(ctx, []string{address}, session.DialConfig{Key: key, Pin: identity.TrustAsFound, Paths: []session.Path{session.PathTCP}, WarmConns: -1})
	if err != nil {
		fmt.Println("HELPER dial:", err)
		return
	}
	defer c.Close()
	p := &peer{Client: c, t: t, key: key}
	var hello api.Hello
	p.call("GET", "/v1/hello", nil, &hello)
	_, _, err = p.begin("Helper")
	fmt.Println("HELPER open:", hello.Pairing.Open, "begin:", err)
}

func helper(t *testing.T, ns *testnet.Namespace, address string) string {
	t.Helper()
	cmd := ns.Command(os.Args[0], "-test.run=^TestHelperClient$", "-test.v")
	cmd.Env = append(os.Environ(), helperVariable+"="+address)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("helper: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if said, ok := strings.CutPrefix(line, "HELPER "); ok {
			return strings.TrimSpace(said)
		}
	}
	t.Fatalf("helper said nothing:\n%s", out)
	return ""
}

// Only neighbours may pair.
//
//	       192.0.2.1 --lan-- 192.0.2.254 router 198.51.100.254 --far-- 198.51.100.2 stranger
//	device
//	       203.0.113.1 --side-- 203.0.113.2 neighbour
func TestPairingIsForNeighbours(t *testing.T) {
	t.Parallel() // in a process of its own
	if !testnet.Isolate(t) {
		return
	}
	router, far, near := testnet.New(t), testnet.New(t), testnet.New(t)
	router.Wire(t, "lan", "lan")
	testnet.IP(t, "addr add 192.0.2.1/24 dev lan")
	router.IP(t, "addr add 192.0.2.254/24 dev lan")
	near.Wire(t, "side", "side")
	testnet.IP(t, "addr add 203.0.113.1/24 dev side")
	near.IP(t, "addr add 203.0.113.2/24 dev side")
	router.IP(t, "link add far type veth peer name far netns "+far.Name)
	router.IP(t, "link set far up")
	far.IP(t, "link set far up")
	router.IP(t, "addr add 198.51.100.254/24 dev far")
	far.IP(t, "addr add 198.51.100.2/24 dev far")
	testnet.IP(t, "route add default via 192.0.2.254")
	far.IP(t, "route add default via 198.51.100.254")
	if out, err := router.Command("sysctl", "-w", "net.ipv4.ip_forward=1").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}

	dir := shortDir(t)
	toml := strings.Replace(text(dir, "[pairing]\ninterfaces = [\"lan\", \"side\"]\n"), "127.0.0.1:0", ":7443", 1)
	d := startIn(t, dir, toml)
	if err := d.window.Open(); err != nil {
		t.Fatal(err)
	}
	if got := helper(t, far, "192.0.2.1:7443"); !strings.Contains(got, "open: false begin: ") || strings.Contains(got, "<nil>") {
		t.Errorf("from beyond the router: %s", got)
	}
	if got := helper(t, router, "192.0.2.1:7443"); !strings.Contains(got, "open: false") {
		t.Errorf("from the gateway itself: %s", got)
	}
	if got := helper(t, near, "192.0.2.1:7443"); strings.Contains(got, "open: true") {
		t.Errorf("from a neighbour of another wire, to the address of this one: %s", got)
	}
	if d.window.State().Asking != nil || !d.window.State().Open {
		t.Errorf("strangers moved the window: %+v", d.window.State())
	}
	if got := helper(t, near, "203.0.113.1:7443"); got != "open: true begin: <nil>" {
		t.Errorf("from a neighbour: %s", got)
	}
}

// What avahi-browse sees follows the window.
func TestMDNSFollowsTheWindow(t *testing.T) {
	t.Parallel() // in a process of its own
	testnet.Program(t, "avahi-browse")
	if !testnet.Isolate(t) {
		return
	}
	phone := testnet.New(t)
	phone.Wire(t, "lan", "lan")
	testnet.IP(t, "addr add 192.0.2.1/24 dev lan")
	phone.IP(t, "addr add 192.0.2.2/24 dev lan")
	browse := startAvahi(t, phone)

	dir := shortDir(t)
	cfg := parse(t, dir, strings.Replace(text(dir, "[pairing]\ninterfaces = [\"lan\"]\n"), "127.0.0.1:0", ":7443", 1))
	d, err := New(Options{Config: cfg, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	<-d.Ready()
	sees := func(what string, open bool) {
		t.Helper()
		testnet.Eventually(t, what, func() error {
			out, err := browse()
			if err != nil {
				return err
			}
			if !strings.Contains(out, "id="+string(d.ID())) || strings.Contains(out, "pair=button") != open {
				return fmt.Errorf("avahi sees %s", out)
			}
			return nil
		})
	}
	sees("the device", false)
	if err := d.window.Open(); err != nil {
		t.Fatal(err)
	}
	sees("the open window", true)
	d.window.Close()
	sees("the closed window", false)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	testnet.Eventually(t, "the goodbye", func() error {
		out, err := browse()
		if err == nil && strings.Contains(out, string(d.ID())) {
			return errors.New("still there")
		}
		return err
	})
}

// startAvahi runs avahi with a bus of its own in ns, and returns what browses.
func startAvahi(t *testing.T, ns *testnet.Namespace) (browse func() (string, error)) {
	t.Helper()
	dir := shortDir(t)
	bus := "unix:path=" + filepath.Join(dir, "bus")
	busConf := filepath.Join(dir, "bus.conf")
	conf := `<busconfig><listen>` + bus + `</listen><auth>EXTERNAL</auth><policy context="default"><allow send_destination="*"/><allow eavesdrop="true"/><allow own="*"/><allow user="*"/></policy></busconfig>`
	avahiConf := filepath.Join(dir, "avahi.conf")
	for name, data := range map[string]string{busConf: conf, avahiConf: "[server]\nallow-interfaces=lan\n[publish]\ndisable-publishing=yes\n"} {
		if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	start := func(name string, args ...string) {
		cmd := ns.Command(name, args...)
		cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+bus)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	start("dbus-daemon", "--config-file="+busConf, "--nofork")
	testnet.Eventually(t, "the bus", func() error { _, err := os.Stat(filepath.Join(dir, "bus")); return err })
	// avahi keeps its pid in /run: a mount namespace of its own leaves the machine's alone.
	start("unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /run && mkdir -p /run/avahi-daemon && exec avahi-daemon --no-drop-root --no-chroot --no-rlimits -f "+avahiConf)
	return func() (string, error) {
		cmd := ns.Command("avahi-browse", "-rtp", "_keyhole._tcp")
		cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+bus)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}

// A thousand who begin a handshake and leave it there do not keep the owner out.
func TestOwnerGetsInUnderHalfOpenFlood(t *testing.T) {
	const (
		flood  = 1000
		within = 2 * time.Second
	)
	if !testnet.Isolate(t) {
		return
	}
	attacker := testnet.New(t)
	attacker.Wire(t, "lan", "lan")
	testnet.IP(t, "addr add 192.0.2.1/24 dev lan")
	attacker.IP(t, "addr add 192.0.2.66/24 dev lan")
	dir := shortDir(t)
	d := startIn(t, dir, strings.Replace(text(dir, ""), "127.0.0.1:0", ":7443", 1))
	owner := d.enter(t, "Alice", acl.RoleOwner)
	script := fmt.Sprintf(`for i in $(seq %d); do exec {fd}<>/dev/tcp/192.0.2.1/7443 && printf '\x16\x03\x01' >&$fd; done 2>/dev/null; ls /proc/$$/fd | wc -l; sleep 60`, flood)
	cmd := attacker.Command("bash", "-c", "ulimit -n 4096; "+script)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if n, bad := strconv.Atoi(strings.TrimSpace(line)); err != nil || bad != nil || n < flood {
		t.Fatalf("the attacker has %q connections, %v", line, err)
	}
	for range 10 {
		begin := time.Now()
		p := d.dial(t, owner, session.PathTCP)
		p.call("GET", "/v1/me", nil, nil)
		if took := time.Since(begin); took > within {
			t.Errorf("the owner needed %v", took)
		}
		p.Close()
	}
}

// Nobody without a key and TLS 1.3 gets as far as a request.
func TestNoTLSBelow13(t *testing.T) {
	d := startDevice(t, "")
	for _, c := range []*tls.Config{
		{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12},
		{InsecureSkipVerify: true}, // no certificate
	} {
		conn, err := tls.Dial("tcp", d.address(), c)
		if err == nil { // TLS 1.3 clients learn of the refusal when they read
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
		if err == nil {
			t.Errorf("%+v is let in", c)
		}
	}
}
