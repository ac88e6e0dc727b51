package basestation

import (
	"crypto/rand"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
)

// A stranger is a socket that has proven nothing.
type stranger struct {
	t              testing.TB
	udp            *net.UDPConn
	to             netip.AddrPort
	sent, received int
}

func newStranger(t testing.TB, s *Server) *stranger {
	t.Helper()
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = udp.Close() })
	return &stranger{t: t, udp: udp, to: s.Address()}
}

func (x *stranger) send(p []byte) {
	x.t.Helper()
	if _, err := x.udp.WriteToUDPAddrPort(p, x.to); err != nil {
		x.t.Fatal(err)
	}
	x.sent += len(p)
}

// settle waits until the server has seen all that was sent, by a LOCATE whose answer
// comes after all others, and takes what came back.
func (x *stranger) settle(s *Server) {
	x.t.Helper()
	before := s.metrics.packetsIn.Get()
	testnet.Until(x.t, "the server has seen a packet", func() bool {
		x.send(locate(1))
		return s.metrics.packetsIn.Get() != before
	})
	done := make(chan struct{})
	s.post(func(time.Duration) { close(done) })
	<-done
	buffer := make([]byte, 2048)
	for {
		if err := x.udp.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			x.t.Fatal(err)
		}
		n, _, err := x.udp.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		x.received += n
	}
}

// locate is LOCATE as docs/attach.md draws it.
func locate(nonce byte) []byte {
	p := make([]byte, 256)
	p[0], p[1], p[9] = 0x04, 1, nonce
	return p
}

// Whatever comes from an address that has proven nothing, no more bytes go there: it may
// be forged.
func TestNoAmplification(t *testing.T) {
	s := begin(t, nil)
	device := join(t, s.Server, newKey(t), nil).attached()
	device.mu.Lock()
	known := device.link.Known()
	device.mu.Unlock()
	forgedCookie := make([]byte, 75)
	_, _ = rand.Read(forgedCookie)
	forgedCookie[0], forgedCookie[1] = 0x05, 1
	wrongCookie := append([]byte(nil), forgedCookie...)
	copy(wrongCookie[10:], known.Cookie) // right, but then the Noise message is not
	for what, packet := range map[string][]byte{
		"LOCATE":                 locate(2),
		"LOCATE cut short":       locate(2)[:255],
		"HELLO, forged cookie":   forgedCookie,
		"HELLO, version 9":       append([]byte{5, 9}, forgedCookie[2:]...),
		"HELLO, malformed noise": wrongCookie,
		"sealed, unknown index":  append([]byte{6}, make([]byte, 40)...),
		"sealed, shortest":       append([]byte{6}, make([]byte, 33)...),
		"from a node":            append([]byte{0x26}, make([]byte, 60)...),
		"QUIC":                   append([]byte{0xc0}, make([]byte, 1199)...),
		"STUN":                   {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42},
		"longest and longer":     make([]byte, 1500),
		"nothing":                {},
		"one byte":               {4},
	} {
		x := newStranger(t, s.Server)
		for range 20 {
			x.send(packet)
		}
		x.settle(s.Server)
		if x.received > x.sent {
			t.Errorf("%s: %d bytes sent, %d came back", what, x.sent, x.received)
		}
		t.Logf("%-24s %.2f", what, float64(x.received)/float64(x.sent))
	}
	if n, err := s.Devices(t.Context()); n != 1 || err != nil {
		t.Errorf("%d devices, %v", n, err)
	}
}

// A packet that is sent again, from wherever, changes nothing and is not answered.
func TestReplay(t *testing.T) {
	s := begin(t, nil)
	var packets [][]byte
	device := join(t, s.Server, newKey(t), func(c *attach.LinkConfig) {
		send := c.Send
		c.Send = func(to netip.AddrPort, b []byte) {
			packets = append(packets, append([]byte(nil), b...))
			send(to, b)
		}
	}).attached()
	device.mu.Lock()
	recorded := packets
	device.mu.Unlock()
	x := newStranger(t, s.Server)
	for range 3 {
		for _, p := range recorded {
			if p[0] == 0x06 { // sealed
				x.send(p)
			}
		}
	}
	sealed := x.sent
	x.settle(s.Server)
	if answers := x.received; answers > x.sent-sealed {
		t.Errorf("%d bytes of answers to replayed packets", answers-(x.sent-sealed))
	}
	var at netip.AddrPort
	s.do(t.Context(), func(time.Duration) {
		p, _ := s.hub.node.Device(device.key.Fingerprint())
		at = p.Address
	})
	if at != device.udp.LocalAddr().(*net.UDPAddr).AddrPort() {
		t.Errorf("the device is at %v now", at)
	}
}

// A flood of nonsense, of strangers and of clients costs memory up to a bound, and a
// device still attaches meanwhile.
func TestFloods(t *testing.T) {
	s := begin(t, func(c *Config) { c.Limits.Introductions = 600 })
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	before := heap()
	x := newStranger(t, s.Server)
	junk := make([]byte, 1200)
	_, _ = rand.Read(junk)
	for i := range 20_000 {
		junk[0] = [...]byte{4, 5, 6, 0x11, 0x40}[i%5]
		junk[1], junk[9] = 1, byte(i)
		size := [...]int{256, 75, 100, 1200, 600}[i%5]
		x.send(junk[:size])
	}
	for range 200 {
		ask(t, s.Server, newKey(t), newKey(t).ID(), nil)
	}
	join(t, s.Server, newKey(t), nil).attached()
	if after := heap(); after > before+32<<20 {
		t.Errorf("the heap grew from %d to %d MiB", before>>20, after>>20)
	}
}
