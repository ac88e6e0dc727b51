//go:build unix

package tunnel

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/keyholed/keyhole/tunnel/tries"
)

// A watched bulk answer: head and body of an http service, or the frames of an rtsp
// one, from the service through the bridge and TLS to the client.
type bulk struct {
	name  string
	typ   string
	block []byte // repeated as long as it takes
}

const bulkBytes = 1 << 20

func bulks() []bulk {
	var chunks []byte
	for len(chunks)+8200 < bulkBytes {
		chunks = append(append(append(chunks, "2000\r\n"...), make([]byte, 0x2000)...), "\r\n"...)
	}
	var frames []byte
	for len(frames)+1404 <= bulkBytes {
		frames = append(append(frames, '$', 0, 1400>>8, 1400&0xff), make([]byte, 1400)...)
	}
	return []bulk{
		{"http", "http", make([]byte, bulkBytes)},
		{"chunked", "http", chunks},
		{"rtsp", "rtsp", frames},
	}
}

// moves returns a function that moves one block through a tunnel, and one that ends it.
func (b bulk) moves(t testing.TB, watched bool) (move func(), end func()) {
	t.Helper()
	service, upstream := ends(t, "tcp4")
	stream, far := tlsEnds(t)
	kind, _ := TypeOf(b.typ)
	p := Pump{rtsp: kind.watch}
	if watched {
		p.guard = newGuard(tries.New(tries.Config{}).Asker(tries.Who{Service: "x", User: "Alice"}), kind.Refusals)
	}
	ctx, cut := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx, far, upstream) }()
	if b.typ == "http" {
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", int64(1)<<40)
		if b.name == "chunked" {
			head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		}
		send(t, stream, basicGet)
		expect(t, service, basicGet)
		send(t, service, head)
		expect(t, stream, head)
	}
	sink := make([]byte, 256<<10)
	more := make(chan struct{})
	go func() {
		for range more {
			if _, err := service.Write(b.block); err != nil {
				return
			}
		}
	}()
	move = func() {
		more <- struct{}{}
		for left := len(b.block); left > 0; {
			n, err := stream.Read(sink)
			if err != nil {
				t.Fatal(err)
			}
			left -= n
		}
	}
	return move, func() {
		close(more)
		cut()
		<-done
		_ = service.(net.Conn).Close()
	}
}

// BenchmarkGuard moves the same bytes in turns through a tunnel with a guard and one
// without, so that whatever else the machine does hits both. The ratio of the times
// is the figure; 0.9 is wanted.
func BenchmarkGuard(b *testing.B) {
	for _, c := range bulks() {
		b.Run(c.name, func(b *testing.B) {
			with, endWith := c.moves(b, true)
			defer endWith()
			without, endWithout := c.moves(b, false)
			defer endWithout()
			const each = 8
			var ratios []float64
			b.SetBytes(2 * each * int64(len(c.block)))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				a, z := clock(with, each), clock(without, each)
				ratios = append(ratios, z.Seconds()/a.Seconds())
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "ratio")
		})
	}
}

func clock(f func(), n int) time.Duration {
	began := time.Now()
	for range n {
		f()
	}
	return time.Since(began)
}

// A page with six small requests each: heads are what costs.
func BenchmarkGuardHeads(b *testing.B) {
	g := newGuarded("http")
	g.asker = tries.New(tries.Config{}).Asker(tries.Who{Service: "x", User: "Alice"})
	g.guard.asker = g.asker
	b.ReportAllocs()
	for range b.N {
		g.toService.Reset()
		g.toClient.Reset()
		_ = g.up.forward([]byte(basicGet))
		_ = g.down.forward([]byte(fine))
	}
}

// A body costs no allocation, however long: what there is is of TLS, and the same
// without a guard.
func TestGuardedBodiesAllocateNothing(t *testing.T) {
	for _, c := range bulks() {
		count := func(watched bool) float64 {
			move, end := c.moves(t, watched)
			defer end()
			for range 8 {
				move()
			}
			return testing.AllocsPerRun(50, move)
		}
		// The collector may empty a pool.
		if with, without := count(true), count(false); with > without+4 {
			t.Errorf("%s: %v allocations for a megabyte, %v without a guard", c.name, with, without)
		}
	}
}
