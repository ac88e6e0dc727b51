package testnet

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// A line delays, loses and holds back what it says.
func TestLine(t *testing.T) {
	Root(t)
	n := NewInternet(t)
	go echo(n.Base.ListenUDP(t, 1000))
	h := n.Home(t, PortRestricted)
	const delay = 25 * time.Millisecond
	n.Line(t, h, Line{Delay: delay, Rate: 20e6})
	conn := h.Host.ListenUDP(t, 7443)
	began := time.Now()
	if at := ask(t, conn, BaseAddress+":1000", true); at.Addr() != h.Outside {
		t.Fatalf("seen at %v", at)
	}
	if took := time.Since(began); took < 2*delay {
		t.Errorf("round trip in %v", took)
	}
	const size = 2 << 20
	rate := download(t, n, h, size)
	if rate > 20e6 {
		t.Errorf("%.1f Mbit/s through a bottleneck of 20", rate/1e6)
	}
	t.Logf("%.1f Mbit/s through a bottleneck of 20", rate/1e6)

	n.Line(t, h, Line{Loss: 0.5})
	if !ask(t, conn, BaseAddress+":1000", true).IsValid() {
		t.Fatal("no answer over a lossy line")
	}
	lost := 0
	const asked = 200
	for range asked {
		if _, err := conn.WriteToUDPAddrPort([]byte("many"), netip.MustParseAddrPort(BaseAddress+":1000")); err != nil {
			t.Fatal(err)
		}
	}
	lost = asked
	for silent := 0; silent < 5; silent++ { // a busy machine may be slow
		for hear(conn, "many").IsValid() {
			lost--
		}
	}
	if lost < asked/2 || lost == asked {
		t.Errorf("lost %d of %d both ways with a loss of a half each way", lost, asked)
	}
	t.Logf("lost %d of %d both ways with a loss of a half each way", lost, asked)
}

// download fetches bytes from the base and returns bit/s.
func download(t *testing.T, n *Internet, h *Home, size int64) float64 {
	t.Helper()
	var l net.Listener
	if err := n.Base.Within(func() (err error) { l, err = net.Listen("tcp4", ":2000"); return }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			_, _ = io.CopyN(conn, zeros{}, size)
			conn.Close()
		}
	}()
	var conn net.Conn
	if err := h.Host.Within(func() (err error) { conn, err = net.Dial("tcp4", BaseAddress+":2000"); return }); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	if got, err := io.Copy(io.Discard, conn); got != size || err != nil {
		t.Fatalf("%d bytes, %v", got, err)
	}
	return float64(size) * 8 / time.Since(began).Seconds()
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
