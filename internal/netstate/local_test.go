package netstate

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

// board is a camera with a wired LAN (2), Wi-Fi (3), a VPN (4), containers
// behind a bridge (5, port 6), a mobile modem (7) and a VLAN (8).
func board() *table {
	p := netip.MustParsePrefix
	eth := func(index int, name, kind string) link {
		return link{index: index, name: name, kind: kind, ethernet: true, up: true, multicast: true}
	}
	t := &table{
		links: []link{
			{index: 1, name: "lo", loopback: true, up: true},
			eth(2, "eth0", ""),
			eth(3, "wlan0", ""),
			{index: 4, name: "wg0", kind: "wireguard", up: true},
			eth(5, "docker0", "bridge"),
			eth(6, "veth12", "veth"),
			eth(7, "wwan0", ""),
			eth(8, "eth0.5", "vlan"),
			eth(9, "tap0", "tun"),
			eth(10, "br5", "vlan"),
		},
		addresses: []address{
			{1, p("127.0.0.1/8")}, {1, p("::1/128")},
			{2, p("192.168.1.10/24")}, {2, p("fe80::10/64")}, {2, p("2001:db8:1::10/128")},
			{3, p("192.168.1.11/24")},
			{4, p("10.8.0.2/24")},
			{5, p("172.17.0.1/16")},
			{7, p("10.64.0.2/30")},
			{8, p("192.168.5.10/24")},
			{9, p("10.9.0.2/24")},
			{10, p("172.18.0.1/24")},
		},
		routes: []route{
			{2, p("0.0.0.0/0"), false, false},
			{2, p("192.168.1.0/24"), true, true},
			{3, p("192.168.1.0/24"), true, true},
			{2, p("192.168.1.192/26"), false, false}, // a subnet behind another router
			{4, p("192.168.1.128/28"), true, false},  // and one the VPN took
			{4, p("10.8.0.0/24"), true, true},
			{5, p("172.17.0.0/16"), true, true},
			{7, p("10.64.0.0/30"), true, true},
			{8, p("192.168.5.0/24"), true, true},
			{9, p("10.9.0.0/24"), true, true},
			{10, p("172.18.0.0/24"), true, true},
			{2, p("203.0.113.0/24"), true, false}, // a device route for a network that is not ours
			{2, p("fe80::/64"), true, true},
			{2, p("2001:db8:1::/64"), true, true}, // on-link by router advertisement
			{2, p("::/0"), false, false},
		},
		gateways: []netip.Addr{netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("fe80::1")},
	}
	t.links[6].devType = "wwan"
	t.links[5].master = 5
	t.links[7].parent = 2
	t.links[9].parent = 5
	return t
}

func TestLocal(t *testing.T) {
	for _, c := range []struct {
		receiving     int
		local, remote string
		extra         []string
		want          bool
		why           string
	}{
		{0, "127.0.0.1", "127.0.0.1", nil, true, "loopback"},
		{0, "::1", "::1", nil, true, "loopback"},
		{0, "192.168.1.10", "192.168.1.10", nil, true, "own address"},
		{2, "::ffff:192.168.1.10", "::ffff:192.168.1.77", nil, true, "192.168.1.0/24"},
		{0, "192.168.1.10", "192.168.1.77", nil, true, "192.168.1.0/24"},
		{3, "192.168.1.11", "192.168.1.77", nil, true, "wlan0"},
		{2, "192.168.1.10", "192.168.1.1", nil, false, "gateway"},
		{2, "192.168.1.10", "192.168.1.200", nil, false, "not in a network"}, // behind another router
		{2, "192.168.1.10", "192.168.1.130", nil, false, "not in a network"}, // routed into the VPN
		{2, "192.168.1.10", "198.51.100.7", nil, false, "not in a network"},
		{2, "192.168.1.10", "203.0.113.7", nil, false, "not in a network"},
		{2, "192.168.1.10", "169.254.7.7", nil, false, "not in a network"}, // no such route: the answer would leave by the gateway
		{4, "192.168.1.10", "192.168.1.77", nil, false, "neither Ethernet"},
		{4, "10.8.0.2", "10.8.0.5", nil, false, "neither Ethernet"},
		{0, "10.8.0.2", "10.8.0.5", nil, false, "neither Ethernet"},
		{5, "172.17.0.1", "172.17.0.2", nil, false, "bridge"},
		{5, "172.17.0.1", "172.17.0.2", []string{"br0"}, false, "bridge"},
		{5, "172.17.0.1", "172.17.0.2", []string{"docker0"}, true, "docker0"},
		{0, "172.17.0.1", "172.17.0.2", []string{"docker0"}, true, "docker0"},
		{5, "172.17.0.1", "192.168.1.77", []string{"docker0"}, false, "not in a network"},
		{7, "10.64.0.2", "10.64.0.1", nil, false, "modem"},
		{8, "192.168.5.10", "192.168.5.9", nil, true, "eth0.5"},
		{9, "10.9.0.2", "10.9.0.9", nil, false, "tun"},
		{10, "172.18.0.1", "172.18.0.9", nil, false, "bridge"}, // a VLAN on a bridge is that bridge
		{2, "fe80::10%eth0", "fe80::99%eth0", nil, true, "link-local"},
		{0, "fe80::10%eth0", "fe80::99%eth0", nil, true, "link-local"},
		{0, "fe80::10%eth0", "fe80::1%eth0", nil, false, "gateway"},
		{0, "fe80::20%wg0", "fe80::99%wg0", nil, false, "neither Ethernet"},
		{0, "fe80::20%gone0", "fe80::99%gone0", nil, false, "gone"},
		{2, "2001:db8:1::10", "2001:db8:1::99", nil, true, "2001:db8:1::/64"},
		{2, "2001:db8:1::10", "2001:db8:2::99", nil, false, "not in a network"},
		{0, "192.168.77.1", "192.168.1.77", nil, false, "no interface"},
		{99, "192.168.1.10", "192.168.1.77", nil, false, "gone"},
	} {
		got, why := board().local(c.receiving, netip.MustParseAddr(c.local), netip.MustParseAddr(c.remote), c.extra)
		if got != c.want || !strings.Contains(why, c.why) {
			t.Errorf("local(%d, %s, %s, %v) = %t, %q; want %t, …%s…", c.receiving, c.local, c.remote, c.extra, got, why, c.want, c.why)
		}
	}
	if got, _ := board().local(0, netip.Addr{}, netip.Addr{}, nil); got {
		t.Error("a peer without an address is local")
	}
}

// A veth is a container's Ethernet, and on the host the way to a container.
func TestVethIsEthernetOnlyInAContainer(t *testing.T) {
	veth := link{index: 2, name: "eth0", kind: "veth", ethernet: true, up: true}
	container := &table{links: []link{{index: 1, name: "lo", loopback: true}, veth}}
	if ok, why := container.lan(veth, nil); !ok {
		t.Errorf("in a container: %s", why)
	}
	host := &table{links: append(container.links, link{index: 3, name: "enp3s0", ethernet: true})}
	if ok, why := host.lan(veth, nil); ok {
		t.Errorf("on a host: %s", why)
	}
	veth.master = 9
	if ok, why := container.lan(veth, nil); ok {
		t.Errorf("port of a bridge: %s", why)
	}
}

func TestInterfacesForMulticast(t *testing.T) {
	b := board()
	var names []string
	for _, i := range b.interfaces(func(l link) bool { ok, _ := b.lan(l, []string{"docker0"}); return ok }) {
		names = append(names, i.Name)
	}
	if got, want := strings.Join(names, " "), "eth0 wlan0 docker0 eth0.5"; got != want {
		t.Errorf("interfaces %q, want %q", got, want)
	}
}

func TestLoopbackConnectionIsLocal(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if ok, why := LocalConn(server, nil); !ok {
		t.Errorf("LocalConn: %s", why)
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if index, err := Receiving(server); err != nil || index != lo.Index {
		t.Errorf("Receiving = %d, %v; want %d", index, err, lo.Index)
	}
	ok, why := Local(netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.1"), nil)
	if !ok {
		t.Errorf("Local: %s", why)
	}
	pipe, other := net.Pipe()
	defer pipe.Close()
	defer other.Close()
	if ok, _ := LocalConn(pipe, nil); ok {
		t.Error("a pipe is local")
	}
}
