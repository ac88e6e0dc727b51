package relay

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyholed/keyhole/internal/testnet"
	"github.com/keyholed/keyhole/protocol/attach"
)

// farLine is a client a continent away from the relay, by radio: a round trip of
// 50 ms, one packet in a hundred lost each way.
var farLine = testnet.Line{Delay: 25 * time.Millisecond, Loss: 0.01, Rate: 200e6}

// A client that vanishes while something is on its way to it is not waited for as
// long as the kernel would send again.
func TestVanishedPeersAreGivenUp(t *testing.T) {
	if !testnet.Isolate(t) {
		return
	}
	w := newWorld(t, Config{}, func(x *times) { x.stall = 2 * time.Second })
	n := testnet.NewInternet(t)
	far := n.Host(t, "198.51.100.40")
	var l net.Listener
	err := n.Base.Within(func() (err error) {
		l, err = net.Listen("tcp", "198.51.100.10:7443")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ct, dt := w.pair(camera)
	device := w.dial(dt)
	var client net.Conn
	err = far.Within(func() (err error) {
		client, err = new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	leg, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write(preface(ct)); err != nil {
		t.Fatal(err)
	}
	w.Serve(leg.(*net.TCPConn))
	w.carries(client.(*net.TCPConn), device)
	far.IP(t, "link set wan down")
	if _, err := io.WriteString(device, "is anybody there"); err != nil {
		t.Fatal(err)
	}
	if u := w.use(); u.Why != WhyStalled {
		t.Errorf("%+v", u)
	}
}

// BenchmarkFarClient shows what a client behind a bad line gets through the relay,
// whose leg to it sends by BBR though it was cubic before, and what a connection gets
// that stays cubic. The goal is 10 MB/s.
//
//	device 198.51.100.30 ── relay 198.51.100.10 ──25 ms, 1 % lost── client 198.51.100.40
func BenchmarkFarClient(b *testing.B) {
	testnet.Root(b)
	n := testnet.NewInternet(b)
	near := n.Host(b, "198.51.100.30")
	far := n.HostLine(b, "198.51.100.40", farLine)
	r := New(Config{})
	defer r.Close()
	var relayed, plain net.Listener
	err := n.Base.Within(func() (err error) {
		if relayed, err = net.Listen("tcp", "198.51.100.10:7443"); err == nil {
			plain, err = net.Listen("tcp", "198.51.100.10:80")
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	defer relayed.Close()
	defer plain.Close()
	go func() {
		for {
			conn, err := relayed.Accept()
			if err != nil {
				return
			}
			cubic(b, conn)
			if k, err := attach.ReadStreamKind(conn); err == nil && k == attach.StreamRelay {
				go r.Serve(conn.(*net.TCPConn))
			}
		}
	}()
	go func() {
		for {
			conn, err := plain.Accept()
			if err != nil {
				return
			}
			cubic(b, conn)
			go flood(conn)
		}
	}()
	dial := func(from *testnet.Namespace, to net.Listener) (conn net.Conn) {
		err := from.Within(func() (err error) {
			conn, err = new(net.Dialer).DialContext(context.Background(), "tcp", to.Addr().String())
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		return conn
	}
	b.Run("relay", func(b *testing.B) {
		ct, dt, err := r.Pair(camera, time.Minute, nil)
		if err != nil {
			b.Fatal(err)
		}
		client, device := dial(far, relayed), dial(near, relayed)
		defer client.Close()
		defer device.Close()
		client.Write(attach.AppendRelayPreface(nil, ct))
		device.Write(attach.AppendRelayPreface(nil, dt))
		go flood(device)
		goodput(b, client)
	})
	b.Run("cubic", func(b *testing.B) {
		conn := dial(far, plain)
		defer conn.Close()
		goodput(b, conn)
	})
}

// goodput reports what comes in five seconds, after one to begin with.
func goodput(b *testing.B, conn net.Conn) {
	conn.SetDeadline(time.Now().Add(time.Second))
	io.Copy(io.Discard, conn)
	for b.Loop() {
		begin := time.Now()
		conn.SetDeadline(begin.Add(5 * time.Second))
		n, _ := io.Copy(io.Discard, conn)
		b.ReportMetric(float64(n)/1e6/time.Since(begin).Seconds(), "MB/s")
	}
}

// cubic is what most machines send by unless somebody asks for more.
func cubic(b *testing.B, conn net.Conn) {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		b.Error(err)
		return
	}
	raw.Control(func(fd uintptr) {
		err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic")
	})
	if err != nil {
		b.Error("cubic: ", err)
	}
}
