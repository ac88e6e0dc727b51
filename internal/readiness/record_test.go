//go:build unix

package readiness

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"
)

// recorder keeps what TLS writes instead of sending it.
type recorder struct {
	net.Conn
	to *bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) { return r.to.Write(p) }

// swap has conn write to aside from now on. It works because secured gave the
// client a *switchable.
func swap(t *testing.T, conn *tls.Conn, aside net.Conn) {
	t.Helper()
	s, ok := conn.NetConn().(*switchable)
	if !ok {
		t.Fatalf("%T is not switchable", conn.NetConn())
	}
	s.Conn = aside
}

// switchable is a connection whose writes a test may redirect.
type switchable struct{ net.Conn }

// counter counts the writes that reach the socket.
type counter struct {
	net.Conn
	writes int
	most   int
}

func (c *counter) Write(p []byte) (int, error) {
	c.writes++
	c.most = max(c.most, len(p))
	return c.Conn.Write(p)
}

// A large write is many records, and one write to the socket; what is read at
// the other end is what was written, whatever the sizes.
func TestLargeWriteLeavesAsOne(t *testing.T) {
	server, client := tlsPair(t)
	count := &counter{Conn: server.gate.Conn}
	server.gate.Conn = count
	var want []byte
	go func() {
		defer server.conn.Close()
		for i, n := range []int{1, maxRecord, maxRecord + 1, 64 << 10, 1, 3*maxRecord + 5, 200 << 10, 0, 64 << 10} {
			if m, err := server.Write(bytes.Repeat([]byte{byte(i + 1)}, n)); m != n || err != nil {
				t.Errorf("write of %d: %d, %v", n, m, err)
			}
		}
	}()
	for i, n := range []int{1, maxRecord, maxRecord + 1, 64 << 10, 1, 3*maxRecord + 5, 200 << 10, 0, 64 << 10} {
		want = append(want, bytes.Repeat([]byte{byte(i + 1)}, n)...)
	}
	var got []byte
	buffer := make([]byte, 10_000)
	for {
		n, err := client.TryRead(buffer)
		got = append(got, buffer[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			if err := client.WaitRead(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes came of %d, or others", len(got), len(want))
	}
	if count.most < 64<<10 {
		t.Errorf("the largest write was of %d bytes", count.most)
	}
	if lent.Load() != 0 {
		t.Errorf("%d buffers are still lent", lent.Load())
	}
}

// With all buffers lent bytes still flow, a record at a time.
func TestWithoutSpareBuffers(t *testing.T) {
	lent.Store(maxSpares)
	defer lent.Store(0)
	server, client := tlsPair(t)
	go func() {
		_, _ = server.Write(make([]byte, 100<<10))
		_ = server.conn.Close()
	}()
	total := 0
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.TryRead(buffer)
		total += n
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			if err := client.WaitRead(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if total != 100<<10 || lent.Load() != maxSpares {
		t.Errorf("%d bytes came, %d buffers lent", total, lent.Load())
	}
}

// tlsPair is two ends of a TLS connection over TCP, both behind a Gate.
func tlsPair(t *testing.T) (server, client *overTLS) {
	t.Helper()
	in, out := pair(t, "tcp")
	inGate, _ := NewGate(in)
	outGate, _ := NewGate(out)
	a := tls.Server(inGate, &tls.Config{Certificates: []tls.Certificate{certificate(t)}, MinVersion: tls.VersionTLS13})
	b := tls.Client(outGate, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	done := make(chan error, 1)
	go func() { done <- a.Handshake() }()
	if err := b.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return inGate.Over(a).(*overTLS), outGate.Over(b).(*overTLS)
}
