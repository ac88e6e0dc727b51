package session

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// tcpWire stands between a client and a device, as whoever sits on the wire.
type tcpWire struct {
	address string
	mu      sync.Mutex
	conns   []*net.TCPConn
}

func newTCPWire(t testing.TB, to string) *tcpWire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &tcpWire{address: l.Addr().String()}
	var running sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		w.each(func(c *net.TCPConn) { _ = c.Close() })
		running.Wait()
	})
	running.Go(func() {
		for {
			front, err := l.Accept()
			if err != nil {
				return
			}
			back, err := net.Dial("tcp", to)
			if err != nil {
				_ = front.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, front.(*net.TCPConn), back.(*net.TCPConn))
			w.mu.Unlock()
			running.Go(func() { pass(front.(*net.TCPConn), back.(*net.TCPConn)) })
			running.Go(func() { pass(back.(*net.TCPConn), front.(*net.TCPConn)) })
		}
	})
	return w
}

// pass hands on bytes, and FIN and RST as such.
func pass(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err == nil {
		_ = to.CloseWrite()
		return
	}
	for _, c := range []*net.TCPConn{to, from} {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
}

func (w *tcpWire) each(f func(*net.TCPConn)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		f(c)
	}
}

// finish sends FIN to both sides of every connection.
func (w *tcpWire) finish() { w.each(func(c *net.TCPConn) { _ = c.CloseWrite() }) }

// udpWire is the same for QUIC, and can lead to another device.
type udpWire struct {
	front   *net.UDPConn
	running sync.WaitGroup

	mu    sync.Mutex
	to    *net.UDPAddr
	newer func(netip.AddrPort) // told of each address that the device is about to see; may be nil
	backs map[string]*net.UDPConn
	down  [][]byte // the first bytes of each datagram of the device
	downs int      // bytes
	ups   int
}

func newUDPWire(t testing.TB, to string) *udpWire {
	t.Helper()
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	w := &udpWire{front: front, backs: make(map[string]*net.UDPConn)}
	w.lead(t, to)
	w.running.Go(w.up)
	t.Cleanup(func() {
		_ = front.Close()
		w.mu.Lock()
		for _, b := range w.backs {
			_ = b.Close()
		}
		w.mu.Unlock()
		w.running.Wait()
	})
	return w
}

func (w *udpWire) address() string { return w.front.LocalAddr().String() }

func (w *udpWire) lead(t testing.TB, to string) {
	t.Helper()
	a, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = a
}

func (w *udpWire) up() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := w.front.ReadFromUDP(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		back, to := w.backs[from.String()], w.to
		if back == nil {
			if back, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
				w.mu.Unlock()
				return
			}
			w.backs[from.String()] = back
			if w.newer != nil {
				w.newer(addrPort(back.LocalAddr()))
			}
			w.running.Go(func() { w.back(back, from) })
		}
		w.ups += n
		w.mu.Unlock()
		_, _ = back.WriteToUDP(buf[:n], to)
	}
}

func (w *udpWire) back(from *net.UDPConn, to *net.UDPAddr) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.down = append(w.down, append([]byte(nil), buf[:min(n, 8)]...))
		w.downs += n
		w.mu.Unlock()
		_, _ = w.front.WriteToUDP(buf[:n], to)
	}
}

// retries counts the Retry packets that the device sent (RFC 9000 §17.2.5),
// from the datagram numbered since on.
func (w *udpWire) retries(since int) (n, next int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.down[since:] {
		if p[0]&0xf0 == 0xf0 {
			n++
		}
	}
	return n, len(w.down)
}
