package congestion

import (
	"crypto/tls"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close(); c.Close() })
	return d.(*net.TCPConn), c.(*net.TCPConn)
}

func algorithm(t *testing.T, c *net.TCPConn) (name string) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(name, "\x00")
}

// The kernel's own list says what PreferBBR must report.
func TestPreferBBR(t *testing.T) {
	list, err := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control")
	if err != nil {
		t.Fatal(err)
	}
	offered := slices.Contains(strings.Fields(string(list)), bbr)

	a, b := pair(t)
	if !choose(a, "reno") { // every kernel has it
		t.Fatal("reno was refused")
	}
	if got := PreferBBR(a); got != offered {
		t.Errorf("PreferBBR = %v, offered: %v", got, offered)
	}
	want := "reno"
	if offered {
		want = bbr
	}
	if got := algorithm(t, a); got != want {
		t.Errorf("sends by %q, want %q", got, want)
	}

	choose(b, "reno")
	if got := PreferBBR(tls.Server(b, nil)); got != offered {
		t.Errorf("PreferBBR of a TLS connection = %v, offered: %v", got, offered)
	}
	if got := algorithm(t, b); got != want {
		t.Errorf("below TLS sends by %q, want %q", got, want)
	}
}

func TestPreferBBRElsewhere(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if PreferBBR(a) {
		t.Error("a pipe in memory is said to send by BBR")
	}
	closed, _ := pair(t)
	closed.Close()
	if PreferBBR(closed) {
		t.Error("a closed connection is said to send by BBR")
	}
	if choose(closed, "no such algorithm") {
		t.Error("an unknown algorithm was accepted")
	}
}
