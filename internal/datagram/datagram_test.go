package datagram

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"go.uber.org/goleak"

	"github.com/keyholed/keyhole/internal/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, network, address string) *Conn {
	t.Helper()
	a, err := net.ResolveUDPAddr(network, address)
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenUDP(network, a)
	if err != nil {
		testnet.Lacking(t, err.Error())
	}
	c, err := New(udp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// at returns where c is reached on loopback from a socket of the same family.
func at(c *Conn, ip string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(ip), c.LocalAddr().Port())
}

func TestBatchesArriveWhole(t *testing.T) {
	for _, f := range []struct{ network, listen, ip string }{
		{"udp4", "127.0.0.1:0", "127.0.0.1"},
		{"udp6", "[::1]:0", "::1"},
		{"udp", ":0", "127.0.0.1"}, // IPv4 through a socket of both families
		{"udp", ":0", "::1"},
	} {
		t.Run(f.network+" "+f.ip, func(t *testing.T) {
			a, b := open(t, f.network, f.listen), open(t, f.network, f.listen)
			out, in := NewBatch(8, 64), NewBatch(4, 32)
			for i := range 8 {
				if !out.Add(at(b, f.ip), bytes.Repeat([]byte{byte(i)}, i*5)) {
					t.Fatalf("no room for packet %d", i)
				}
			}
			if !out.Full() || out.Add(at(b, f.ip), nil) {
				t.Error("a ninth packet in a batch of eight")
			}
			if lost, err := a.Write(out); lost != 0 || err != nil || out.Len() != 0 {
				t.Fatalf("write: %d lost, %v; %d left", lost, err, out.Len())
			}
			for next := 0; next < 8; {
				if err := b.Read(in); err != nil {
					t.Fatal(err)
				}
				for i := range in.Len() {
					want := bytes.Repeat([]byte{byte(next)}, min(next*5, 32)) // the longest is cut
					if got := in.Packet(i); !bytes.Equal(got, want) || in.Peer(i) != at(a, f.ip) {
						t.Errorf("packet %d: %x from %v, want %x from %v", next, got, in.Peer(i), want, at(a, f.ip))
					}
					next++
				}
			}
		})
	}
}

// A packet that cannot be sent takes none of the others with it.
func TestRefusedPacketsAreLostAlone(t *testing.T) {
	a, b := open(t, "udp4", "127.0.0.1:0"), open(t, "udp4", "127.0.0.1:0")
	out, in := NewBatch(8, 64), NewBatch(8, 64)
	nowhere := netip.MustParseAddrPort("[2001:db8::1]:9")
	for i, to := range []netip.AddrPort{nowhere, at(b, "127.0.0.1"), nowhere, nowhere, at(b, "127.0.0.1"), nowhere} {
		out.Add(to, []byte{byte(i)})
	}
	if lost, err := a.Write(out); lost != 4 || err != nil {
		t.Errorf("%d lost, %v; want 4", lost, err)
	}
	var got []byte
	for len(got) < 2 {
		if err := b.Read(in); err != nil {
			t.Fatal(err)
		}
		for i := range in.Len() {
			got = append(got, in.Packet(i)...)
		}
	}
	if !bytes.Equal(got, []byte{1, 4}) {
		t.Errorf("got %v, want 1 4", got)
	}
}

// Where nobody listens the kernel says so to the next call: that must neither
// end the reading nor cost a packet.
func TestPeersThatWentAway(t *testing.T) {
	a, b := open(t, "udp4", "127.0.0.1:0"), open(t, "udp4", "127.0.0.1:0")
	gone := at(b, "127.0.0.1")
	_ = b.Close()
	c := open(t, "udp4", "127.0.0.1:0")
	out, in := NewBatch(8, 64), NewBatch(8, 64)
	out.Add(gone, []byte("nobody"))
	_, _ = a.Write(out)
	out.Add(at(a, "127.0.0.1"), []byte("somebody"))
	if _, err := c.Write(out); err != nil {
		t.Fatal(err)
	}
	if err := a.Read(in); err != nil || string(in.Packet(0)) != "somebody" {
		t.Errorf("%v, %q", err, in.Packet(0))
	}
}

func TestCloseEndsRead(t *testing.T) {
	c := open(t, "udp4", "127.0.0.1:0")
	done := make(chan error)
	go func() { done <- c.Read(NewBatch(1, 64)) }()
	_ = c.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want %v", err, net.ErrClosed)
	}
}

func TestNoAllocations(t *testing.T) {
	a, b := open(t, "udp", ":0"), open(t, "udp", ":0")
	out, in := NewBatch(16, 1200), NewBatch(16, 1200)
	packet := make([]byte, 100)
	to := at(b, "127.0.0.1")
	if n := testing.AllocsPerRun(100, func() { exchange(t, a, b, out, in, to, packet) }); n > 0 {
		t.Errorf("%v allocations for 16 packets, want none", n)
	}
}

func exchange(t testing.TB, a, b *Conn, out, in *Batch, to netip.AddrPort, packet []byte) {
	for out.Add(to, packet) {
	}
	count := out.Len()
	if _, err := a.Write(out); err != nil {
		t.Fatal(err)
	}
	for got := 0; got < count; got += in.Len() {
		if err := b.Read(in); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkPackets is one packet of 100 bytes sent and received.
func BenchmarkPackets(b *testing.B) {
	for _, size := range []int{1, 8, 64} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			x, y := open(b, "udp4", "127.0.0.1:0"), open(b, "udp4", "127.0.0.1:0")
			out, in := NewBatch(size, 1200), NewBatch(size, 1200)
			packet := make([]byte, 100)
			b.ReportAllocs()
			for range b.N/size + 1 {
				exchange(b, x, y, out, in, at(y, "127.0.0.1"), packet)
			}
		})
	}
}
