package testnet

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Within runs do inside: sockets that it opens belong there and may be used from
// anywhere, for good. What it starts on other goroutines does not run inside,
// and that goes for dialling a name or several addresses.
func (n *Namespace) Within(do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with this goroutine
		ns, err := os.Open("/run/netns/" + n.Name)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// ListenUDP opens a UDP socket inside until the test ends; port 0 is any.
func (n *Namespace) ListenUDP(t testing.TB, port uint16) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	err := n.Within(func() (err error) {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv4Unspecified(), port)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
