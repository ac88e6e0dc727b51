package basestation

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/basestation/memstore"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
)

// childData in the environment has the test binary run as a basestation, to be killed.
const (
	childData   = "KEYHOLE_TEST_BASESTATION_DATA"
	childListen = "KEYHOLE_TEST_BASESTATION_LISTEN"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childData); dir != "" {
		if err := child(dir, os.Getenv(childListen)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func child(dir, listen string) error {
	s, err := New(Config{Data: dir, Listen: []string{listen}, Store: memstore.New()})
	if err != nil {
		return err
	}
	go func() {
		<-s.Ready()
		fmt.Println(s.Address())
	}()
	return s.Run(context.Background())
}

// spawn starts a basestation as a process of its own.
func spawn(t *testing.T, dir, listen string) (*exec.Cmd, netip.AddrPort) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childData+"="+dir, childListen+"="+listen)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(c) })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	at, err := netip.ParseAddrPort(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return c, at
}

func kill(c *exec.Cmd) {
	_ = c.Process.Kill() // it may be dead
	_ = c.Wait()
}

// A node is killed with SIGKILL and started again: its devices hear from it and come
// back, long before their next keep-alive.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys, err := OpenKeyring(dir)
	if err != nil {
		t.Fatal(err)
	}
	process, at := spawn(t, dir, "127.0.0.1:0")
	var devices []*peer
	for range 10 {
		devices = append(devices, joinAt(t, keys.Roots(), at, newKey(t), nil))
	}
	for _, d := range devices {
		d.attached()
	}
	// Once more, so that the second life has known only some of them.
	for life := range 2 {
		written(t, dir, len(devices))
		kill(process)
		process, _ = spawn(t, dir, at.String())
		began := time.Now()
		for _, d := range devices {
			d.until("a second attach", func() bool {
				attaches := 0
				for _, e := range d.events {
					if e.Controller.IsValid() && e.State == attach.StateAttached {
						attaches++
					}
				}
				return attaches == life+2 && d.link.State() == attach.StateAttached
			})
		}
		t.Logf("all are back after %v", time.Since(began).Round(time.Millisecond))
	}
}

// written waits until the peers file has so many devices: it is written a moment after
// a device has heard that it is attached.
func written(t *testing.T, dir string, devices int) {
	t.Helper()
	testnet.Until(t, "the peers file has them all", func() bool {
		data, err := os.ReadFile(filepath.Join(dir, peersFile))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; len(data) >= peerRecord; data = data[peerRecord:] {
			if _, ok := parsePeer(data[:peerRecord]); ok {
				n++
			}
		}
		return n == devices
	})
}

func TestPeersFile(t *testing.T) {
	dir := t.TempDir()
	p, err := openPeerFile(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort("192.0.2.1:7443")
	six := netip.MustParseAddrPort("[2001:db8::1]:99")
	p.seen(0, 10, at)
	p.seen(3, 13, six)
	p.seen(4, 14, at)
	p.seen(4, 0, netip.AddrPort{})
	p.seen(5, 15, attach.StreamAddr(1))
	p.close()
	// A run that is killed before it has told anybody keeps what it was to tell.
	for range 2 {
		if p, err = openPeerFile(dir, nil); err != nil {
			t.Fatal(err)
		}
		p.close()
	}
	known, err := p.readOld()
	if err != nil || len(known) != 2 || known[0] != (knownPeer{10, at}) || known[1] != (knownPeer{13, six}) {
		t.Errorf("%+v, %v", known, err)
	}
	p.removeOld()
	if known, err = p.readOld(); err != nil || len(known) != 0 {
		t.Errorf("%+v, %v", known, err)
	}
}

func FuzzPeersFile(f *testing.F) {
	good := encodePeer(knownPeer{10, netip.MustParseAddrPort("192.0.2.1:7443")})
	f.Add(good[:])
	f.Add(make([]byte, peerRecord))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, ok := parsePeer(b)
		if !ok {
			return
		}
		if again := encodePeer(k); string(again[:26]) != string(b[:26]) {
			t.Errorf("%x reads as %+v, which is %x", b, k, again)
		}
	})
}
