//go:build linux

package e2e

import (
	"net"
	"strings"
	"testing"

	"github.com/keyholed/keyhole/internal/testnet"
)

// A host is a machine on a network: a namespace of its own with eth0.
type host struct{ *testnet.Namespace }

// A lan is a switch that hosts join.
type lan struct{ sw *testnet.Namespace }

func newLAN(t *testing.T) lan {
	t.Helper()
	testnet.Root(t)
	l := lan{testnet.New(t)}
	l.sw.IP(t, "link add br0 type bridge")
	l.sw.IP(t, "link set dev br0 up")
	return l
}

// join connects a new host; the switch's port has the host's name.
func (l lan) join(t *testing.T, name, address string) host {
	t.Helper()
	h := host{testnet.New(t)}
	l.plug(t, h, name, "eth0", address)
	return h
}

// plug lays a cable from the switch to a host.
func (l lan) plug(t *testing.T, h host, port, device, address string) {
	t.Helper()
	l.sw.IP(t, "link add "+port+" type veth peer name "+device+" netns "+h.Name)
	l.sw.IP(t, "link set dev "+port+" master br0 up")
	h.IP(t, "link set dev "+device+" up")
	h.IP(t, "addr add "+address+" dev "+device)
}

// nft gives the host a rule set.
func (h host) nft(t *testing.T, rules string) {
	t.Helper()
	cmd := h.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	must(t, cmd)
}

// forward makes the host a router.
func (h host) forward(t *testing.T) {
	t.Helper()
	must(t, h.Command("sysctl", "-qw", "net.ipv4.ip_forward=1"))
}

// dial connects from the host.
func (h host) dial(network, address string) (conn net.Conn, err error) {
	err = h.Within(func() error {
		conn, err = (&net.Dialer{Timeout: patience}).Dial(network, address)
		return err
	})
	return conn, err
}

// serve listens on the host and gives each connection to handle, until the test
// ends.
func (h host) serve(t *testing.T, address string, handle func(*net.TCPConn)) {
	t.Helper()
	var l net.Listener
	err := h.Within(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn.(*net.TCPConn))
			}()
		}
	}()
}
