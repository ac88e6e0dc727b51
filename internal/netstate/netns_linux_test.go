package netstate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/internal/testnet"
)

// device 10.77.0.1, fe80 ─ eth0 ─── eth0 ─ 10.77.0.2 (gateway), 10.77.0.3, 198.51.100.7 behind it
//
//	10.79.0.1 ─ br0, not named
func TestLocalOfRealConnections(t *testing.T) {
	if source, target, ok := strings.Cut(os.Getenv("KEYHOLE_DIAL"), " "); ok {
		dialFromAfar(t, source, target)
		return
	}
	if !testnet.Isolate(t) {
		return
	}
	far := testnet.New(t)
	far.Wire(t, "eth0", "eth0")
	testnet.IP(t, "addr add 10.77.0.1/24 dev eth0")
	for _, a := range []string{"10.77.0.2/24", "10.77.0.3/24", "198.51.100.7/32", "10.79.0.9/32"} {
		far.IP(t, "addr add "+a+" dev eth0")
	}
	testnet.IP(t, "route add default via 10.77.0.2")
	testnet.IP(t, "link add br0 type bridge")
	testnet.IP(t, "link set br0 up")
	testnet.IP(t, "addr add 10.79.0.1/24 dev br0")
	far.IP(t, "route add 10.79.0.1 via 10.77.0.1")

	for _, network := range []string{"tcp4", "tcp"} { // an IPv4 socket and a dual-stack one
		listener, err := net.Listen(network, ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		port := listener.Addr().(*net.TCPAddr).Port
		for _, c := range []struct {
			source, target string
			want           bool
			why            string
		}{
			{"10.77.0.3", "10.77.0.1", true, "10.77.0.0/24"},
			{"10.77.0.2", "10.77.0.1", false, "gateway"},
			{"198.51.100.7", "10.77.0.1", false, "not in a network"},
			{"10.77.0.3", "10.79.0.1", true, "eth0"}, // our other address, but the neighbour's wire
		} {
			dial := far.Command(os.Args[0], "-test.run=^TestLocalOfRealConnections$")
			dial.Env = append(os.Environ(), fmt.Sprintf("KEYHOLE_DIAL=%s %s:%d", c.source, c.target, port))
			if err := dial.Start(); err != nil {
				t.Fatal(err)
			}
			conn, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			got, why := LocalConn(conn, nil)
			if got != c.want || !strings.Contains(why, c.why) {
				t.Errorf("%s: LocalConn from %s to %s = %t, %q; want %t, …%s…", network, c.source, c.target, got, why, c.want, c.why)
			}
			local, _ := addressOf(conn.LocalAddr())
			remote, _ := addressOf(conn.RemoteAddr())
			if got, why := Local(local, remote, nil); got && !c.want {
				t.Errorf("%s: Local from %s to %s = true, %q", network, c.source, c.target, why)
			}
			eth0, err := net.InterfaceByName("eth0")
			if err != nil {
				t.Fatal(err)
			}
			if index, err := Receiving(conn); err != nil || index != eth0.Index {
				t.Errorf("%s: Receiving = %d, %v; want %d", network, index, err, eth0.Index)
			}
			conn.Close()
			if err := dial.Wait(); err != nil {
				t.Errorf("dialer: %v", err)
			}
		}
	}
}

// dialFromAfar is the far end of TestLocalOfRealConnections, in a process of its own.
func dialFromAfar(t *testing.T, source, target string) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(source), 0))}
	conn, err := d.Dial("tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Read(make([]byte, 1)) // until the other end hangs up
}

// The monitor tells of addresses and links, hears on after more events than its
// socket holds, and leaves nothing behind.
func TestMonitor(t *testing.T) {
	if !testnet.Isolate(t) {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := NewMonitor(nil)
	changes, stop := m.Watch()
	defer stop()
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	<-m.Ready()
	far := testnet.New(t)
	far.Wire(t, "eth0", "eth0")
	<-changes
	testnet.IP(t, "addr add 10.77.0.1/24 dev eth0")
	testnet.Eventually(t, "the address", func() error {
		<-changes
		list, err := Interfaces(nil)
		if err != nil || len(list) != 1 || !list[0].OnLink(netip.MustParseAddr("10.77.0.9")) {
			return fmt.Errorf("%v, %v", list, err)
		}
		return nil
	})

	var batch strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&batch, "route add default via 10.77.0.2 metric %d\n", i+1)
	}
	for _, line := range []string{batch.String(), strings.ReplaceAll(batch.String(), "add", "del")} {
		flood := exec.Command("ip", "-batch", "-")
		flood.Stdin = strings.NewReader(line)
		if out, err := flood.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	testnet.IP(t, "addr add 10.77.0.5/24 dev eth0")
	testnet.Eventually(t, "the address after the flood", func() error {
		<-changes
		if list, err := Interfaces(nil); err != nil || len(list[0].Prefixes) < 2 {
			return errors.Join(err, fmt.Errorf("%v", list))
		}
		return nil
	})
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	goleak.VerifyNone(t)
}
