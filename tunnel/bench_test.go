//go:build unix

package tunnel

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"runtime"
	"testing"

	"github.com/keyholed/keyhole/internal/readiness"
)

// secure is a stream as sessions make them: TLS 1.3 over a gate.
type secure struct {
	*tls.Conn
	readiness.Reader
}

// tlsEnds returns both ends of a TLS connection; b is the server's.
func tlsEnds(t testing.TB) (a, b Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	x, y := ends(t, "tcp4")
	gx, _ := readiness.NewGate(x.(net.Conn))
	gy, _ := readiness.NewGate(y.(net.Conn))
	client := tls.Client(gx, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	server := tls.Server(gy, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	shaken := make(chan error, 1)
	go func() { shaken <- server.Handshake() }()
	if err := errors.Join(client.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	return secure{client, gx.Over(client)}, secure{server, gy.Over(server)}
}

const benchBlock = 1 << 20 // what one operation moves

// flood sends blocks of frames (RTSP sees them as such; the others do not look)
// into one end and reads them at the other.
func flood(b *testing.B, from io.Writer, to io.Reader) {
	block := make([]byte, 0, benchBlock)
	for len(block)+1404 <= benchBlock {
		block = append(append(block, '$', 0, 1400>>8, 1400&0xff), make([]byte, 1400)...)
	}
	sink := make([]byte, 256<<10)
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for range b.N {
			if _, err := from.Write(block); err != nil {
				return
			}
		}
	}()
	for left := b.N * len(block); left > 0; {
		n, err := to.Read(sink)
		if err != nil {
			b.Fatal(err)
		}
		left -= n
	}
	b.StopTimer()
}

// Device to client: service -> bridge -> TLS -> client's pump -> player, the
// pumps on both sides against io.Copy on both sides.
func BenchmarkBulk(b *testing.B) {
	ours := func(p Pump) func(context.Context, Conn, Conn) {
		return func(ctx context.Context, client, service Conn) { p.Run(ctx, client, service) }
	}
	copying := func(ctx context.Context, client, service Conn) {
		defer context.AfterFunc(ctx, func() { client.Close(); service.Close() })()
		done := make(chan struct{})
		go func() { defer close(done); io.Copy(justWriter{service}, justReader{client}) }()
		io.Copy(justWriter{client}, justReader{service})
		<-done
	}
	for _, c := range []struct {
		name           string
		device, client func(context.Context, Conn, Conn)
		streams        func(testing.TB) (Conn, Conn)
	}{
		{"tls/pump", ours(Pump{}), ours(Pump{}), tlsEnds},
		{"tls/rtsp", ours(Pump{rtsp: true}), ours(Pump{}), tlsEnds},
		{"tls/io.Copy", copying, copying, tlsEnds},
		{"plain/pump", ours(Pump{}), ours(Pump{}), func(t testing.TB) (Conn, Conn) { return ends(t, "tcp4") }},
		{"plain/io.Copy", copying, copying, func(t testing.TB) (Conn, Conn) { return ends(t, "tcp4") }},
	} {
		b.Run(c.name, func(b *testing.B) {
			ctx, cut := context.WithCancel(context.Background())
			service, upstream := ends(b, "tcp4")
			stream, far := c.streams(b) // client's side, device's side
			local, player := ends(b, "tcp4")
			done := make(chan struct{}, 2)
			go func() { c.device(ctx, far, upstream); done <- struct{}{} }()
			go func() { c.client(ctx, local, stream); done <- struct{}{} }()
			flood(b, service, player)
			cut()
			<-done
			<-done
		})
	}
}

// justReader and justWriter keep io.Copy from splicing: it is to copy with its
// 32 KiB as it does over TLS.
type justReader struct{ io.Reader }
type justWriter struct{ io.Writer }

// What an idle tunnel holds beyond its two connections.
func BenchmarkIdleTunnels(b *testing.B) {
	const tunnels = 1000
	for range b.N {
		ctx, cut := context.WithCancel(context.Background())
		bridge := NewBridge(Config{PerPeer: tunnels, Total: tunnels})
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		s := mustService(b, "idle", "tcp", l.Addr().String())
		type opened struct {
			t  *Tunnel
			in Conn
		}
		var all []opened
		var outer []Conn
		for range tunnels {
			client, in := ends(b, "tcp4")
			t, err := bridge.Open(ctx, Meta{}, s)
			if err != nil {
				b.Fatal(err)
			}
			service, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			all, outer = append(all, opened{t, in}), append(outer, client, service.(Conn))
		}
		before := heap()
		done := make(chan struct{}, tunnels)
		for _, o := range all {
			go func() { o.t.Run(ctx, o.in); done <- struct{}{} }()
		}
		for i := 0; i < len(outer); i += 2 { // each has moved something
			send(b, outer[i], "x")
			expect(b, outer[i+1], "x")
		}
		b.ReportMetric(float64(heap()-before)/tunnels/1024, "KiB/tunnel")
		cut()
		for range tunnels {
			<-done
		}
		for _, c := range outer {
			c.Close()
		}
		l.Close()
		runtime.KeepAlive(all)
	}
}

// The first megabytes fill the pools; after that a megabyte through the pump
// allocates nothing.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	w := startPump(t, Pump{}, "tcp4", false)
	block, back := make([]byte, 1<<20), make([]byte, 1<<20)
	move := func() {
		go w.service.Write(block)
		if _, err := io.ReadFull(w.client, back); err != nil {
			t.Fatal(err)
		}
	}
	for range 8 {
		move()
	}
	// The goroutine above is one allocation; the collector may empty a pool.
	if got := testing.AllocsPerRun(100, move); got > 4 {
		t.Errorf("%v allocations for a megabyte, want those of the test alone", got)
	}
}
