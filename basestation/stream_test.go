package basestation

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/keyholed/keyhole/basestation/registry"
	"github.com/keyholed/keyhole/basestation/relay"
	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
)

func dial(t *testing.T, s *Server) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(s.Address()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func write(t *testing.T, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
}

// ended waits until the other side closed a connection without a byte.
func ended(t *testing.T, what string, conn net.Conn) {
	t.Helper()
	var b [1]byte
	var timeout net.Error
	if n, err := conn.Read(b[:]); n != 0 || err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("%s: read %d bytes, %v; want the end", what, n, err)
	}
}

// joinTCP starts a link whose packets travel in a stream.
func joinTCP(t *testing.T, s *Server, change func(*attach.LinkConfig)) (*peer, *net.TCPConn) {
	t.Helper()
	conn := dial(t, s)
	if err := conn.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	write(t, conn, attach.AppendPreface(nil, attach.StreamAttach))
	// A pair of UDP sockets carries the packets between the link and the stream.
	relay, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = relay.Close() })
	home := make(chan netip.AddrPort, 1)
	p := join(t, s, newKey(t), func(c *attach.LinkConfig) {
		if change != nil {
			change(c)
		}
		c.Send = func(_ netip.AddrPort, b []byte) { _, _ = conn.Write(attach.AppendPacket(nil, b)) }
	})
	home <- p.udp.LocalAddr().(*net.UDPAddr).AddrPort()
	go func() {
		to, buffer := <-home, make([]byte, attach.MaxPacket)
		for {
			b, err := attach.ReadPacket(conn, buffer)
			if err != nil {
				return
			}
			_, _ = relay.WriteToUDPAddrPort(b, to)
		}
	}()
	return p, conn
}

// Where UDP is blocked the same packets go through TCP: attach and introduction.
func TestAttachOverTCP(t *testing.T) {
	s := begin(t, nil)
	device, conn := joinTCP(t, s.Server, nil)
	device.attached().agrees()
	client := ask(t, s.Server, newKey(t), device.key.ID(), nil)
	var m attach.Introduced
	client.hear(attach.KindIntroduced, &m)
	if m.Observed.IsValid() || m.Ticket.IsZero() {
		t.Errorf("a device over TCP has the UDP address %v", m.Observed)
	}
	other, _ := joinTCP(t, s.Server, func(c *attach.LinkConfig) {
		c.Introduce = &attach.Introduce{Device: device.key.ID()}
	})
	other.hear(attach.KindIntroduced, &m)

	// A device whose connection ended is given a while to come back; the stream is gone
	// at once.
	_ = conn.Close()
	for n := 2; n != 1; {
		if !s.do(t.Context(), func(time.Duration) { n = s.hub.node.Streams() }) {
			t.Fatal("the loop has ended")
		}
	}
}

func TestObserve(t *testing.T) {
	s := begin(t, nil)
	conn := dial(t, s.Server)
	write(t, conn, attach.AppendPreface(nil, attach.StreamObserve))
	seen, err := attach.ReadSeen(conn)
	if want := conn.LocalAddr().String(); err != nil || seen.String() != want {
		t.Errorf("seen at %v, %v; want %v", seen, err, want)
	}
	write(t, conn, []byte("more"))
	ended(t, "after more bytes", conn)
}

// The relay of an introduction: the client's leg, word to the device, its leg, and what
// one sends the other gets.
func TestRelayLegs(t *testing.T) {
	s := begin(t, nil)
	device := join(t, s.Server, newKey(t), nil).attached().agrees()
	client := ask(t, s.Server, newKey(t), device.key.ID(), nil)
	var m attach.Introduced
	client.hear(attach.KindIntroduced, &m)
	tickets := []attach.Ticket{m.Ticket}
	client.send(attach.KindTicket, attach.TicketRequest{})
	var g attach.TicketGranted
	client.hear(attach.KindTicketGranted, &g)
	for _, ticket := range append(tickets, g.Ticket) {
		near := dial(t, s.Server)
		write(t, near, append(attach.AppendRelayPreface(nil, ticket), "hello"...))
		var r attach.Relay
		device.hear(attach.KindRelay, &r)
		far := dial(t, s.Server)
		write(t, far, append(attach.AppendRelayPreface(nil, r.Ticket), "world"...))
		for _, c := range []struct {
			conn net.Conn
			want string
		}{{far, "hello"}, {near, "world"}} {
			got := make([]byte, len(c.want))
			if _, err := io.ReadFull(c.conn, got); err != nil || !bytes.Equal(got, []byte(c.want)) {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		}
		again := dial(t, s.Server)
		write(t, again, attach.AppendRelayPreface(nil, ticket))
		ended(t, "a ticket used twice", again)
	}
}

// What is none of ours ends without a byte.
func TestOddConnections(t *testing.T) {
	s := begin(t, func(c *Config) { c.Relay = nil })
	for what, b := range map[string][]byte{
		"TLS":                         {0x16, 3, 1, 0, 0},
		"HTTP":                        []byte("GET / HTTP/1.1\r\n\r\n"),
		"another version":             {byte(attach.StreamAttach), 2},
		"observe of another version":  {byte(attach.StreamObserve), 9},
		"a leg where nothing relays":  attach.AppendRelayPreface(nil, attach.NewTicket()),
		"a packet of no length":       append(attach.AppendPreface(nil, attach.StreamAttach), 0, 0),
		"a packet that is too long":   append(attach.AppendPreface(nil, attach.StreamAttach), 0xff, 0xff),
		"half of a packet, then none": nil,
	} {
		conn := dial(t, s.Server)
		write(t, conn, b)
		if b == nil {
			write(t, conn, append(attach.AppendPreface(nil, attach.StreamAttach), 0, 9, 1))
			_ = conn.CloseWrite()
		}
		ended(t, what, conn)
	}
}

func TestConnectionsPerSource(t *testing.T) {
	s := begin(t, func(c *Config) { c.Limits.ConnectionsPerSource = 3 })
	var open []*net.TCPConn
	for range 3 {
		conn := dial(t, s.Server)
		write(t, conn, attach.AppendPreface(nil, attach.StreamObserve))
		if _, err := attach.ReadSeen(conn); err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
	}
	ended(t, "a fourth connection", dial(t, s.Server))
	_ = open[0].Close()
	for { // as soon as the server has noticed
		conn := dial(t, s.Server)
		if _, err := conn.Write(attach.AppendPreface(nil, attach.StreamObserve)); err == nil {
			if _, err := attach.ReadSeen(conn); err == nil {
				return
			}
		}
	}
}

// Where all places are taken the oldest connection without a device makes room, and
// those of devices stay.
func TestStrangersMakeRoom(t *testing.T) {
	s := begin(t, func(c *Config) { c.Limits.Connections = 2 })
	proven := func(want int) func() bool {
		return func() bool {
			n := 0
			for _, stream := range s.streams.byAddr {
				if stream.whose == ofDevice {
					n++
				}
			}
			return n == want
		}
	}
	first, _ := joinTCP(t, s.Server, nil)
	first.attached().agrees()
	waitFor(t, s.Server, "the first stream is proven", proven(1))
	stranger := dial(t, s.Server)
	write(t, stranger, attach.AppendPreface(nil, attach.StreamObserve))
	if _, err := attach.ReadSeen(stranger); err != nil {
		t.Fatal(err)
	}
	second, _ := joinTCP(t, s.Server, nil)
	second.attached().agrees()
	ended(t, "the stranger", stranger)
	waitFor(t, s.Server, "both streams are proven", proven(2))
	ended(t, "one more than there are places", dial(t, s.Server))
	if n, err := s.Devices(t.Context()); n != 2 || err != nil {
		t.Errorf("%d devices, %v; want both", n, err)
	}
}

// A stream in which nobody attaches ends, however much comes in it; those of devices
// and clients are given the time that such have.
func TestStrangersStream(t *testing.T) {
	s := begin(t, func(c *Config) { c.Limits.strangers = time.Second })
	conn := dial(t, s.Server)
	write(t, conn, attach.AppendPreface(nil, attach.StreamAttach))
	go func() {
		for {
			if _, err := conn.Write(attach.AppendPacket(nil, []byte{1})); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	ended(t, "a stranger's stream", conn)

	s = begin(t, nil)
	device, _ := joinTCP(t, s.Server, nil)
	device.attached().agrees()
	client, _ := joinTCP(t, s.Server, func(c *attach.LinkConfig) { c.Introduce = &attach.Introduce{Device: device.key.ID()} })
	var m attach.Introduced
	client.hear(attach.KindIntroduced, &m)
	waitFor(t, s.Server, "a device's silence and a client's", func() bool {
		found := map[time.Duration]bool{}
		for _, stream := range s.streams.byAddr {
			stream.mu.Lock()
			found[stream.silence] = true
			stream.mu.Unlock()
		}
		return len(found) == 2 && found[silentTime] && found[clientSilence]
	})
}

// waitFor asks the loop until something is so.
func waitFor(t *testing.T, s *Server, what string, so func() bool) {
	t.Helper()
	testnet.Until(t, what, func() (is bool) {
		s.do(t.Context(), func(time.Duration) { is = so() })
		return is
	})
}

// The devices of one vendor share its quota.
func TestVendorsQuota(t *testing.T) {
	s := begin(t, func(c *Config) { c.Relay = &relay.Config{Limits: relay.Limits{PerVendor: relay.Quota{Tunnels: 1}}} })
	member := func(vendor string) *peer {
		d := join(t, s.Server, newKey(t), nil).attached().agrees()
		if err := s.Registry().Add(t.Context(), registry.Device{ID: d.key.ID(), Vendor: vendor}); err != nil {
			t.Fatal(err)
		}
		return d
	}
	relayed := func(d *peer) attach.Ticket {
		var m attach.Introduced
		ask(t, s.Server, newKey(t), d.key.ID(), nil).hear(attach.KindIntroduced, &m)
		return m.Ticket
	}
	first, second, other := member("acme"), member("acme"), member("")
	near := dial(t, s.Server)
	write(t, near, append(attach.AppendRelayPreface(nil, relayed(first)), "hello"...))
	var r attach.Relay
	first.hear(attach.KindRelay, &r)
	far := dial(t, s.Server)
	write(t, far, attach.AppendRelayPreface(nil, r.Ticket))
	if _, err := io.ReadFull(far, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if !relayed(second).IsZero() {
		t.Error("a second tunnel on the vendor's account")
	}
	if relayed(other).IsZero() {
		t.Error("no tunnel for a device of no vendor")
	}
}
